#!/bin/sh
# Installs what only tests need, where that can be done: PostgreSQL and etcd, on Debian, as root. Run
# by `make test`; what is missing afterwards is skipped by the tests that want it, with the reason.
set -eu

has_postgresql() {
  for initdb in /usr/lib/postgresql/*/bin/initdb; do
    [ -x "$initdb" ] && return 0
  done
  command -v initdb >/dev/null 2>&1
}

missing=""
has_postgresql || missing="postgresql"
# The etcd that pip brings must not be a member of several: its version may lose data.
command -v etcd >/dev/null 2>&1 || missing="$missing etcd-server"
if [ -n "$missing" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  printf 'installing, for tests: %s …\n' "$missing" >&2
  # shellcheck disable=SC2086  # several words
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $missing >/dev/null; } \
    || printf 'could not be installed; what needs it is skipped\n' >&2
fi
