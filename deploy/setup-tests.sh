#!/bin/sh
# Installs what only tests need, where that can be done: PostgreSQL, on Debian, as root. Run by
# `make test`; what is missing afterwards is skipped by the tests that want it, with the reason.
set -eu

for initdb in /usr/lib/postgresql/*/bin/initdb; do
  [ -x "$initdb" ] && exit 0
done
command -v initdb >/dev/null 2>&1 && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  printf 'installing PostgreSQL, for tests …\n' >&2
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq postgresql >/dev/null; } \
    || printf 'PostgreSQL could not be installed; its tests are skipped\n' >&2
fi
