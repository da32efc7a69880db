"""What rows look like in either SQL store, where it is the same in both.

Knows columns; must not know statements.
"""

import json
from collections.abc import Sequence
from typing import Any

from services.coordinator.store import Register

REGISTER_COLUMNS = (
    '"user", client_id, generation, session_id, edge_id, online, observer, forgotten, follows, '
    "endpoints"
)

# What a row of the log takes besides its entry and, twice, its subject.
_ROW_BYTES = 64
ROW_BYTES_SQL = f"{_ROW_BYTES} + length(entry) + 2 * coalesce(length(subject), 0)"


def row_bytes(subject: str | None, entry: bytes) -> int:
    """What a row of the log is counted as, in bytes; ROW_BYTES_SQL says the same."""
    return _ROW_BYTES + len(entry) + 2 * len(subject or "")


def register_of(row: Sequence[Any]) -> Register:
    """The register in a row of REGISTER_COLUMNS."""
    user, client_id, generation, session_id, edge_id, *flags, follows, endpoints = row
    online, observer, forgotten = map(bool, flags)
    return Register(
        user,
        client_id,
        generation,
        session_id,
        edge_id,
        online,
        observer,
        forgotten,
        tuple(json.loads(follows)),
        tuple(json.loads(endpoints)),
    )


def register_row(p: int, register: Register, at_ms: int) -> tuple[object, ...]:
    """Its partition, REGISTER_COLUMNS, and when it was seen."""
    return (
        p,
        register.user,
        register.client_id,
        register.generation,
        register.session_id,
        _signed(register.edge_id),
        register.online,
        register.observer,
        register.forgotten,
        json.dumps(register.follows),
        json.dumps(register.endpoints),
        at_ms,
    )


def _signed(number: int) -> int:
    """etcd's lease ids are positive 64-bit signed numbers; the stores' integers are signed too."""
    assert number < 2**63
    return number
