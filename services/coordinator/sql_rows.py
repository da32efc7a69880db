"""What is the same in both SQL stores: what rows look like, and what is said of them.

Knows columns; must not know statements.
"""

import json
from collections.abc import Sequence
from typing import Any

from services.coordinator.store import ClaimRefused, Part, Register, Writes

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


def growth(part: Part, writes: Writes) -> tuple[int, int]:
    """By how many entries, and by how many bytes, a partition's log grows."""
    assert [row.pos for row in writes.rows] == list(
        range(part.tail + 1, part.tail + 1 + len(writes.rows))
    ), "a log has no holes"
    return len(writes.rows), sum(row_bytes(row.subject, row.entry) for row in writes.rows)


def claim_refusal(
    epoch: int, tail_known: int, stored_epoch: int, stored_tail: int
) -> ClaimRefused | None:
    """Why a claim does not take effect; None: it does."""
    if stored_tail < tail_known:
        return ClaimRefused(
            f"the log ends at {stored_tail} but had reached {tail_known}: it is an older copy"
        )
    if epoch <= stored_epoch:
        return ClaimRefused(
            f"the epoch {epoch} is not above {stored_epoch}: etcd has lost its data; "
            "raise ONWARD_COORDINATOR_ERA by one"
        )
    return None


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
