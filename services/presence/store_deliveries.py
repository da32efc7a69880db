"""What presence asks of its store about deliveries that plugins have had: a part of `store`.

Receipts, the early words of deliveries that are `sending`, and dead letters. Knows the shape of
rows and calls. Must not know SQL, or what follows from a receipt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from services.presence.notifications import Delivery
from services.presence.receipts import Receipt

if TYPE_CHECKING:
    from services.presence.store_outbox import Attempt


@dataclass(frozen=True, slots=True)
class Which:
    """Which dead letters; what is empty narrows nothing."""

    user: str = ""
    channel: str = ""
    reason: str = ""
    ids: Sequence[str] = ()


class HandedRows(Protocol):
    """What is known of deliveries beyond the answers of plugins."""

    def receipts(self, delivery_ids: Sequence[str]) -> Mapping[str, Sequence[Receipt]]:
        """Of each delivery that has any, in the order of their times."""

    def put_receipts(self, receipts: Sequence[tuple[str, Receipt]]) -> None:
        """Insert (user, receipt); one of the same delivery and kind stays as it was."""

    def early_words(self, delivery_ids: Sequence[str]) -> Mapping[str, str]:
        """Of those of the deliveries that are `sending` and have one."""

    def put_early_words(self, deliveries: Sequence[Delivery]) -> None:
        """Write the reasons of these deliveries, while they are `sending`, and nothing else."""

    def last_attempts(self, delivery_ids: Sequence[str]) -> Mapping[str, Attempt]:
        """The last try of each delivery that was tried."""

    def dead_letter_ids(self, which: Which, after_id: str, limit: int) -> Sequence[str]:
        """Dead letters, by id, behind one."""
