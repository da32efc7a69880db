# Onward. `make up` runs it, `make test` tests it; both set up what they need.
SHELL := /bin/sh
export PATH := $(or $(PATH),/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)
PYTHON ?= python3
ARGS ?=
ROW ?= all
SEED ?= 1,2,3
RESULTS ?= build/faults
SELECTION := kills,story,coordinator-stop,coordinator-restart,coordinator-cut-etcd,etcd-kill,etcd-restore,edge-kill,edge-restart,presence-kill-handover,disk-full
MISTAKE ?= all
SEEDS ?= 1000
ORDERS ?= all
BIN := .venv/bin
comma := ,

.PHONY: up test faults edge-death faults-selection faults-page mutations upgrade deploy-runs test-plugins simulate notifications notifications-real bench setup protos lint types buf lock settings metrics

up: setup  ## the embedded profile; options in ARGS, e.g. make up ARGS="--port 9000"
	@exec $(BIN)/onward up $(ARGS)

test: setup  ## all tests, a file at a time on each core; or those of ARGS one by one, e.g. make test ARGS="tests/edge -x"
	@sh deploy/setup-tests.sh
	@$(BIN)/python -m pytest $(or $(ARGS),-n auto --maxprocesses 4 --dist loadfile)

faults: setup  ## every fault with three seeds; goes on where it stopped, e.g. make faults ROW=kills SEED=1,2
	@$(BIN)/python -m tests.faults.season --row $(ROW) --seed $(SEED) --results $(RESULTS)

faults-selection: setup  ## eleven of them, and more seeds of the one that kills most, in 10 minutes
	@FAULT_ROWS=$(SELECTION) FAULT_SEEDS=1 \
	  $(BIN)/python -m pytest tests/faults/test_runs.py -rP $(ARGS)
	@FAULT_ROWS=kills FAULT_SEEDS=2,3,4,5 \
	  $(BIN)/python -m pytest tests/faults/test_runs.py -rP $(ARGS)

edge-death: setup  ## an edge killed under 10,000 clients, in 2 minutes; e.g. ARGS="--clients 2000"
	@$(BIN)/python -m tests.faults.edge_death $(ARGS)

mutations: setup  ## mistakes that the checker must find, e.g. make mutations MISTAKE=fast; all: 4 min
	@FAULT_MUTATIONS="$(MISTAKE)" $(BIN)/python -m pytest tests/faults/test_mutations.py -rP $(ARGS)

upgrade: setup  ## services of tests/upgrade/BASELINE and of this tree mixed, in eight orders (10 to 20 min), e.g. make upgrade ORDERS=0,4
	@sh deploy/setup-tests.sh
	@UPGRADE_ORDERS="$(ORDERS)" $(BIN)/python -m pytest tests/upgrade -rP $(ARGS)

faults-page: setup  ## docs/faults.md, from what make faults has left and all mutations, played anew (4 min)
	@FAULT_RESULTS=$(abspath $(RESULTS)) $(MAKE) mutations
	@$(BIN)/python -m tests.faults.report $(RESULTS)

deploy-runs: setup  ## images, chart and databases of deploy/, as far as no container engine is needed
	@sh deploy/helm/tools.sh
	@DEPLOY_RUNS=1 $(BIN)/python -m pytest tests/deploy $(ARGS)

test-plugins: setup  ## builds and tests the notifier templates in five languages, and examines them (10 min the first time); e.g. ARGS="-k go"
	@PLUGIN_RUNS=1 $(BIN)/python -m pytest tests/plugins/test_templates.py tests/plugins/test_guide.py $(ARGS)

simulate: setup  ## a thousand stories of faults in virtual time, in two or three minutes; more: make simulate SEEDS=5000
	@SIMULATION_SEEDS=$(SEEDS) $(BIN)/python -m pytest tests/simulation/test_seeds.py $(ARGS)

notifications: SEEDS := $(if $(filter file,$(origin SEEDS)),200,$(SEEDS))
notifications: setup  ## two hundred stories of notifications, and all mistakes, in two or three minutes; more: SEEDS=2000
	@NOTIFICATION_SEEDS=$(SEEDS) $(BIN)/python -m pytest tests/notifications/test_seeds.py \
	  tests/notifications/test_mistakes.py $(ARGS)

notifications-real: setup  ## five such stories with the real processes, half a minute each; one: make notifications-real SEED=4
	@NOTIFICATION_REAL=$(if $(filter file,$(origin SEED)),1$(comma)2$(comma)3$(comma)4$(comma)5,$(SEED)) \
	  $(BIN)/python -m pytest tests/notifications/test_real.py -rP $(ARGS)

bench: setup  ## what it costs and how fast it is, in 5 minutes; options in ARGS, e.g. ARGS="fanout"
	@$(BIN)/python -m bench $(ARGS)

setup: .venv/.ready

.venv/.ready: requirements.lock pyproject.toml deploy/setup.sh
	@PYTHON="$(PYTHON)" sh deploy/setup.sh
	@touch $@

protos: setup  ## writes gen/ from protos/
	@$(BIN)/python protos/generate.py

lint: setup buf
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: setup
	@$(BIN)/mypy services sdk/python

buf:
	@cd protos && npm install --ignore-scripts --no-package-lock --no-audit --no-fund --silent && ./node_modules/.bin/buf lint

lock:  ## exact versions of everything, from the floors in pyproject.toml
	@$(BIN)/pip install -q uv && $(BIN)/uv pip compile -q --universal --python-version 3.11 \
	  --generate-hashes --extra dev --upgrade pyproject.toml -o requirements.lock

settings: setup  ## writes docs/settings.md from the code
	@$(BIN)/python docs/generate_settings.py

metrics: setup  ## writes docs/metrics.md from the code
	@$(BIN)/python docs/generate_metrics.py
