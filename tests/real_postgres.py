"""A real PostgreSQL for tests: on loopback, without fsync; ended by its pid.

PostgreSQL refuses to be root: where the tests are, it runs as the user `postgres`. Its data lies in
a temporary directory of its own, since that user can read none of pytest's. Two fixtures, which
tests/conftest.py offers to every test: `postgres_server`, one for all tests of a run, and
`postgres_url`, an empty database for each test. `replicated()` is a primary with a synchronous
standby, to be killed and promoted.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest

STANDBY = "standby1"
_USER = "postgres"
_numbers = count(1)


def binaries() -> Path | None:
    """The folder of PostgreSQL's programs, the newest of those installed; None: there is none."""
    found = sorted(
        (it for it in Path("/usr/lib/postgresql").glob("*/bin") if (it / "initdb").exists()),
        key=lambda it: int(it.parent.name) if it.parent.name.isdigit() else 0,
    )
    on_path = shutil.which("initdb")
    return found[-1] if found else Path(on_path).resolve().parent if on_path else None


def missing() -> str | None:
    """Why no PostgreSQL can be started here; None: one can."""
    if binaries() is None:
        return "PostgreSQL is not installed (on Debian: apt-get install postgresql)"
    if os.geteuid() == 0:
        try:
            pwd.getpwnam(_USER)
        except KeyError:
            return f"PostgreSQL does not run as root, and there is no user {_USER}"
    return None


def _as_user() -> dict[str, Any]:
    """How a process that must not be root is started."""
    if os.geteuid() != 0:
        return {}
    return {"user": _USER, "group": _USER, "extra_groups": []}


def _run(program: str, *arguments: str) -> None:
    folder = binaries()
    assert folder is not None
    done = subprocess.run(
        [str(folder / program), *arguments],
        cwd="/",
        env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
        capture_output=True,
        text=True,
        **_as_user(),
    )
    assert done.returncode == 0, done.stdout + done.stderr


class PostgresServer:
    """A PostgreSQL on a drawn port; after `kill()` or `stop()`, `start()` keeps data and port.

    `settings` are those of postgresql.conf; `synchronous_standby_names` and the like."""

    def __init__(self, directory: Path, **settings: str) -> None:
        self.data = directory / "data"
        self.port = _free_port()
        self.log = directory / "postgres.log"
        self.settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://{_USER}@127.0.0.1:{self.port}/{database}"

    def create(self) -> None:
        """Make the data directory."""
        _run(
            "initdb", "--no-sync", "-A", "trust", "-U", _USER, "-E", "UTF8", "--locale=C",
            "-D", str(self.data),
        )  # fmt: skip

    def start(self) -> None:
        folder = binaries()
        assert folder is not None
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "fsync": "off",
            "shared_buffers": "32MB",
            "full_page_writes": "off",
            "max_connections": "100",
            # Without a client's words in it, as an operator should have it.
            "log_min_error_statement": "panic",
            **self.settings,
        }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    str(folder / "postgres"),
                    *("-D", str(self.data)),
                    *(f"--{name}={value}" for name, value in options.items()),
                ],
                cwd="/",
                env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
                stdout=log,
                stderr=log,
                **_as_user(),
            )
        self._await_ready()

    def stop(self) -> None:
        """End it in order, without waiting for its clients."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL it, and with it everything that it runs."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Stop it, and everything that it runs, until `thaw()`."""
        for pid in self._family():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        for pid in self._family():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run a statement as the superuser, and return its rows."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def promote(self) -> None:
        """Make a standby the primary; returns once it is."""
        self.execute("SELECT pg_promote(true)")

    def _family(self) -> list[int]:
        pid = self.pid
        children = [
            int(child)
            for task in Path(f"/proc/{pid}/task").glob("*/children")
            for child in task.read_text().split()
        ]
        return [pid, *children]

    def _end(self, number: int) -> None:
        if self._process is None:
            return
        family = self._family() if number == signal.SIGKILL else [self.pid]
        for pid in family:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        self._process.wait()
        self._process = None

    def _await_ready(self) -> None:
        end = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                assert self._process is not None
                ended = self._process.poll() is not None
                assert not ended and time.monotonic() < end, self.log.read_text()
                time.sleep(0.02)


@contextmanager
def running(**settings: str) -> Iterator[PostgresServer]:
    """A fresh PostgreSQL, running until the block ends."""
    with _folder() as directory:
        one = PostgresServer(directory, **settings)
        one.create()
        one.start()
        try:
            yield one
        finally:
            one.kill()


class Replicated:
    """A primary, and a standby without which the primary commits nothing."""

    def __init__(self, primary: PostgresServer, standby: PostgresServer) -> None:
        self.primary = primary
        self.standby = standby

    def url(self, database: str = "postgres") -> str:
        """Both of them: whoever takes writes is the one."""
        hosts = f"127.0.0.1:{self.primary.port},127.0.0.1:{self.standby.port}"
        return f"postgresql://{_USER}@{hosts}/{database}?target_session_attrs=read-write"


@contextmanager
def replicated() -> Iterator[Replicated]:
    """A fresh primary with a synchronous standby, both running until the block ends."""
    with running() as primary, _folder() as directory:
        standby = PostgresServer(directory)
        source = f"{primary.url()}?application_name={STANDBY}"
        _run(
            "pg_basebackup", "--no-sync", "-R", "-c", "fast", "-D", str(standby.data), "-d", source
        )
        standby.start()
        try:
            primary.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{STANDBY}'")
            primary.execute("SELECT pg_reload_conf()")
            end = time.monotonic() + 20
            while primary.execute("SELECT sync_state FROM pg_stat_replication") != [("sync",)]:
                assert time.monotonic() < end, standby.log.read_text()
                time.sleep(0.02)
            yield Replicated(primary, standby)
        finally:
            standby.kill()


def fresh_database(server: PostgresServer) -> str:
    """The URL of a new database; it goes with the server."""
    name = f"test{next(_numbers)}"
    server.execute(f"CREATE DATABASE {name}")
    return server.url(name)


def emptied(server: PostgresServer) -> str:
    """The URL of a database from which everybody and everything has gone: to make one takes far
    longer."""
    server.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    server.execute(
        "DO $$ DECLARE name text; BEGIN "
        "FOR name IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema$)'"
        " LOOP EXECUTE format('DROP SCHEMA %I CASCADE', name); END LOOP; "
        "CREATE SCHEMA public; END $$"
    )
    return server.url()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The PostgreSQL of this run; a test that asks for it is skipped where there is none."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    with running() as one:
        yield one


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> str:
    """The URL of an empty database."""
    return emptied(postgres_server)


@contextmanager
def _folder() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="onward-postgres-"))
    try:
        if os.geteuid() == 0:
            shutil.chown(directory, _USER, _USER)
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
