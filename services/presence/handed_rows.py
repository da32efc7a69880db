"""Reads and writes receipts, early words and dead letters: `store_deliveries.HandedRows`."""

from collections.abc import Mapping, Sequence

from services.presence.notifications import Delivery
from services.presence.receipts import Kind, Receipt
from services.presence.rows import Rows
from services.presence.sql import listed
from services.presence.store_deliveries import Which
from services.presence.store_outbox import Attempt

_RECEIPT = "delivery_id, kind, at, provider_id, detail"


class HandedTables(Rows):
    """What is known of deliveries beyond the answers of plugins."""

    def receipts(self, delivery_ids: Sequence[str]) -> Mapping[str, Sequence[Receipt]]:
        found: dict[str, list[Receipt]] = {}
        for own_id, kind, at, provider_id, detail in self.db.rows(
            f"SELECT {_RECEIPT} FROM each_text(?) CROSS JOIN receipts ON delivery_id = value"
            " ORDER BY at, kind",
            (listed(delivery_ids),),
        ):
            one = Receipt(own_id, Kind(kind), at, provider_id, detail)
            found.setdefault(own_id, []).append(one)
        return found

    def put_receipts(self, receipts: Sequence[tuple[str, Receipt]]) -> None:
        self.touch(user for user, _ in receipts)
        self.db.insert_all(
            "receipts",
            _RECEIPT,
            [
                (one.delivery_id, one.kind.value, one.at, one.provider_id, one.detail)
                for _, one in receipts
            ],
            "ON CONFLICT DO NOTHING",
        )

    def early_words(self, delivery_ids: Sequence[str]) -> Mapping[str, str]:
        rows = self.db.rows(
            "SELECT d.id, d.reason FROM each_text(?) CROSS JOIN deliveries AS d ON d.id = value"
            " WHERE d.state = 'sending' AND d.reason <> ''",
            (listed(delivery_ids),),
        )
        return {row[0]: row[1] for row in rows}

    def put_early_words(self, deliveries: Sequence[Delivery]) -> None:
        self.touch(delivery.user for delivery in deliveries)
        for delivery in deliveries:
            # Its keeper stays: who has claimed it must find it, or be found to have lost it.
            self.db.execute(
                "UPDATE deliveries SET reason = ? WHERE id = ? AND state = 'sending'",
                (delivery.reason, delivery.id),
            )

    def last_attempts(self, delivery_ids: Sequence[str]) -> Mapping[str, Attempt]:
        rows = self.db.rows(
            "SELECT a.delivery_id, a.number, a.at, a.plugin, a.outcome, a.ended_at, a.provider_id,"
            " a.detail FROM each_text(?) CROSS JOIN deliveries AS d ON d.id = value"
            " CROSS JOIN attempts AS a ON a.delivery_id = d.id AND a.number = d.attempts",
            (listed(delivery_ids),),
        )
        return {row[0]: Attempt(*row) for row in rows}

    def dead_letter_ids(self, which: Which, after_id: str, limit: int) -> Sequence[str]:
        asked = {"user = ?": which.user, "scheme = ?": which.channel, "reason = ?": which.reason}
        narrowed = {condition: value for condition, value in asked.items() if value}
        if which.ids:
            narrowed["id IN (SELECT value FROM each_text(?))"] = listed(which.ids)
        # The state as it stands in the index of dead letters, so that only they are looked at.
        conditions = " AND ".join(["state = 'dead'", "id > ?", *narrowed])
        rows = self.db.rows(
            f"SELECT id FROM deliveries WHERE {conditions} ORDER BY id LIMIT ?",
            (after_id, *narrowed.values(), limit),
        )
        return [row[0] for row in rows]
