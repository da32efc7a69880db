"""The two PostgreSQL servers of the compose file, by the same scripts, with Debian's PostgreSQL.

What the official image's entrypoint does around the scripts is done by a few lines here.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.path.stack import base_environ, free_port
from tests.waiting import wait_for

FOLDER = Path(__file__).parents[2] / "deploy/postgres"
BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
# Addresses stand for host names, and are the replication names too.
FIRST, SECOND = "127.0.0.81", "127.0.0.82"
ONWARD_PASSWORD = 'it\'s "ours"'
ENTRYPOINT = """#!/bin/sh
# The image's: a new data directory is made, and the script run while nobody else can connect.
set -eu
shift
sockets="-c unix_socket_directories=$PGHOST -c port=$PGPORT"
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  printf '%s' "$POSTGRES_PASSWORD" >"$PGHOST/password"
  initdb -D "$PGDATA" -U "$POSTGRES_USER" --pwfile="$PGHOST/password" --auth-host=scram-sha-256 \
    --no-sync >"$PGHOST/initdb.log"
  echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
  pg_ctl -D "$PGDATA" -l "$PGHOST/log" -o "-c listen_addresses= $sockets $*" -w start >/dev/null
  sh "$FIRST_START"
  pg_ctl -D "$PGDATA" -m fast -w stop >/dev/null
fi
exec postgres -D "$PGDATA" -c "listen_addresses=$SELF" $sockets -c fsync=off "$@"
"""


class Server:
    """One of the two, as its container starts it."""

    def __init__(self, folder: Path, user: str, port: int, name: str, peer: str) -> None:
        self.name, self.port, self._user = name, port, user
        self.home = folder / name
        (self.home / "data").mkdir(parents=True)
        for path in (self.home, self.home / "data"):
            path.chmod(0o700)
            shutil.chown(path, user)
        path = f"{folder}:{BINARIES[-1].parent}:{os.environ['PATH']}"
        self._environ = base_environ() | {
            "PATH": path, "SELF": name, "PEER": peer, "PGDATA": str(self.home / "data"),
            "PGHOST": str(self.home), "PGPORT": str(port), "HOME": str(self.home),
            "POSTGRES_USER": "postgres", "POSTGRES_PASSWORD": "root's", "TMPDIR": str(self.home),
            "ONWARD_PASSWORD": ONWARD_PASSWORD, "REPLICATION_PASSWORD": "replica's",
            "FIRST_START": str(folder / "first-start.sh"),
        }  # fmt: skip
        self._script = folder / "start.sh"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, start_as: str) -> None:
        with (self.home / "out").open("ab") as out:
            self.process = subprocess.Popen(
                ["sh", str(self._script)],
                env=self._environ | {"START_AS": start_as},
                stdout=out, stderr=out, user=self._user, cwd=self.home, start_new_session=True,
            )  # fmt: skip

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def says(self) -> str:
        """What it printed, for failures."""
        return (self.home / "out").read_text()

    def connect(self, user: str, password: str, database: str) -> "psycopg.Connection":
        return psycopg.connect(
            host=self.name, port=self.port, user=user, password=password, dbname=database,
            autocommit=True, connect_timeout=5,
        )  # fmt: skip

    def insert(self, n: int) -> None:
        """Returns when the row is committed, on both servers."""
        with self.connect("onward", ONWARD_PASSWORD, "onward") as ours:
            ours.execute("insert into kept values (%s)", (n,))

    def asked(self, query: str) -> object:
        """The one value of a query, as the superuser; None while it takes no connections."""
        try:
            with self.connect("postgres", "root's", "postgres") as connection:
                row = connection.execute(query).fetchone()
        except psycopg.OperationalError:
            return None
        return row[0] if row else None


@contextmanager
def two_servers() -> Iterator[tuple[Server, Server]]:
    user = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
    folder = Path(tempfile.mkdtemp(prefix="onward-pg-"))
    folder.chmod(0o755)
    for name in ("start.sh", "first-start.sh"):
        shutil.copy(FOLDER / name, folder)
    (folder / "docker-entrypoint.sh").write_text(ENTRYPOINT)
    (folder / "docker-entrypoint.sh").chmod(0o755)
    port = free_port()
    servers = Server(folder, user, port, FIRST, SECOND), Server(folder, user, port, SECOND, FIRST)
    try:
        yield servers
    finally:
        for server in servers:
            server.kill()
        shutil.rmtree(folder, ignore_errors=True)


def test_nothing_commits_without_the_other_server_before_and_after_a_failover() -> None:
    with two_servers() as (first, second):
        first.start("primary")
        second.start("standby")
        query = "select sync_state from pg_stat_replication where application_name = '{}'"
        wait_for(lambda: first.asked(query.format(SECOND)) == "sync", 60, "the standby replicates")
        with first.connect("onward", ONWARD_PASSWORD, "onward") as ours:
            ours.execute("create table kept (n int)")
            assert ours.execute("show idle_in_transaction_session_timeout").fetchone() == ("1s",)
        first.insert(1)
        first.kill()
        assert second.asked("select pg_promote()") is True
        with second.connect("onward", ONWARD_PASSWORD, "onward") as ours:
            assert ours.execute("select n from kept").fetchall() == [(1,)]
        waiting = threading.Thread(target=second.insert, args=(2,), daemon=True)
        waiting.start()
        held = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'"
        wait_for(lambda: second.asked(held) == 1, 10, "the commit waits for the standby")
        # Left behind by the failover, it takes connections, and commits nothing.
        first.start("primary")
        wait_for(lambda: first.asked("select 1"), 30, "the former primary starts")
        assert first.asked("show synchronous_standby_names") == f'"{SECOND}"'
        assert first.asked("select count(*) from pg_stat_replication") == 0
        first.kill()
        # Its data deleted, it comes back as the standby of the other.
        shutil.rmtree(first.home / "data")
        (first.home / "data").mkdir(mode=0o700)
        shutil.chown(first.home / "data", first._user)
        first.start("standby")
        waiting.join(60)
        assert not waiting.is_alive(), first.says()
        assert second.asked(query.format(FIRST)) == "sync"
