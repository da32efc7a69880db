#!/bin/sh
# Makes .venv with exactly what requirements.lock names. Run by make; needs Python 3.11 or newer.
set -eu
PYTHON=${PYTHON:-python3}

say() { printf '%s\n' "$*" >&2; }

apt_install() {
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@" >/dev/null
  else
    return 1
  fi
}

if ! command -v "$PYTHON" >/dev/null 2>&1; then
  apt_install python3 python3-venv || { say "missing: Python 3.11 or newer (set PYTHON=/path/to/python3)"; exit 2; }
fi
if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  say "missing: Python 3.11 or newer; $PYTHON is $("$PYTHON" -V 2>&1) (set PYTHON=/path/to/python3)"
  exit 2
fi
if [ ! -x .venv/bin/pip ]; then
  say "setting up .venv …"
  rm -rf .venv
  "$PYTHON" -m venv .venv >/dev/null 2>&1 || {
    rm -rf .venv
    apt_install python3-venv && "$PYTHON" -m venv .venv
  } || { say "missing: the venv module of $PYTHON (on Debian: apt-get install python3-venv)"; exit 2; }
fi
export PIP_DISABLE_PIP_VERSION_CHECK=1
say "installing what requirements.lock names …"
.venv/bin/pip install -q --require-hashes -r requirements.lock
.venv/bin/pip install -q --no-deps -e .
