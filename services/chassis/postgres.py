"""A connection to PostgreSQL that waits for no answer beyond its deadline.

Knows psycopg, where the primary is looked for, and how a session is set up; must not know tables,
nor what a failure means for what was under way. Only services that keep something in PostgreSQL
import it: the others are without its driver.
"""

import math
import time
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from services.chassis.errors import StartError

RV = TypeVar("RV")
C = TypeVar("C", bound="Connection")

_POLL_S = 0.1
# The server itself ends what is still working then, before the deadline: that is certain to have
# written nothing. It does not end the wait for a standby, which is what the deadline is for.
_WORK_PART = 0.7
_WARNING_STATE = "01000"
# What an address need not say. A socket that the peer does not acknowledge breaks after 3 s.
_DEFAULTS: dict[str, Any] = {
    "target_session_attrs": "read-write",
    "connect_timeout": 3,
    "tcp_user_timeout": 3_000,
    "keepalives_idle": 3,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "client_encoding": "utf8",
}
# Everything is found by its index, also in tables that PostgreSQL has no statistics of yet. A
# commit waits for the synchronous standby, whatever the database is set to.
_SET_UP = """
SELECT set_config('search_path', %s, false),
    set_config('statement_timeout', %s, false),
    set_config('idle_in_transaction_session_timeout', %s, false),
    set_config('default_transaction_isolation', 'read committed', false),
    set_config('enable_seqscan', 'off', false),
    set_config('jit', 'off', false),
    CASE WHEN current_setting('synchronous_commit') NOT IN ('on', 'remote_apply')
        THEN set_config('synchronous_commit', 'on', false) END
"""


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection. `deadline`: of time.monotonic(), set by whoever asks for something."""

    deadline = math.inf
    warned = False  # what it committed may be on this server alone

    def wait(self, gen: PQGen[RV], interval: float = _POLL_S, timeout: float | None = None) -> RV:
        left = self.deadline - time.monotonic()
        if left < math.inf:
            timeout = max(0.0, left if timeout is None else min(left, timeout))
        return super().wait(gen, interval, timeout)

    @property
    def lost(self) -> bool:
        """Whether it can be used no more."""
        return self.closed or self.broken or time.monotonic() >= self.deadline

    def note(self, told: psycopg.errors.Diagnostic) -> None:
        """A notice of the server's. The words of one are in its language, so that the warning which
        says that a commit did not wait for its standby is known by its state alone."""
        if told.sqlstate == _WARNING_STATE:
            self.warned = True


def address_of(url: str, setting: str, application: str) -> str:
    """What libpq connects to. Raises StartError, without the URL's words: it may hold a password.

    `url`: `postgresql://user@host[,host…]/database`; of several hosts the primary is looked for.
    `setting`: where it comes from, `ONWARD_…_STORE`; beside it is `ONWARD_…_DATA_DIR`.
    """
    wrong = StartError(
        f"{setting} is no address of PostgreSQL; set it to postgresql://user@host/database, or "
        f"leave it empty for a store in {setting.removesuffix('STORE')}DATA_DIR"
    )
    if not url.startswith(("postgresql://", "postgres://")):
        raise wrong
    defaults = _DEFAULTS | {"application_name": application}
    try:
        said = conninfo_to_dict(url)
    except psycopg.Error:
        raise wrong from None
    return make_conninfo(url, **{name: it for name, it in defaults.items() if name not in said})


def connect(
    kind: type[C], address: str, schema: str, answer_s: float, idle_in_transaction_ms: int
) -> C:
    """A connection to the primary, set up within `answer_s`. Raises psycopg.Error.

    A transaction in which nothing happens for `idle_in_transaction_ms` is ended by the server, and
    gives its locks up.
    """
    connection = kind.connect(address, autocommit=True)
    try:
        connection.deadline = time.monotonic() + answer_s
        working_ms = str(int(answer_s * _WORK_PART * 1_000))
        connection.execute(_SET_UP, (schema, working_ms, str(idle_in_transaction_ms)))
    except BaseException:  # Whatever it was, nobody else would close it.
        connection.close()
        raise
    connection.add_notice_handler(connection.note)
    return connection
