"""Reads and writes decisions, notifications, deliveries and attempts in SQLite: `OutboxRows`."""

import sqlite3
from collections.abc import Sequence
from typing import Any

from services.presence.notifications import Delivery, DeliveryState, Notification, Span
from services.presence.store import Attempt, Decided, Suppression

_DELIVERY = (
    "id, notification_id, user, subject, uri, state, due_at, expires_at, held, attempts, tries,"
    " repeats_unknown, reason"
)


class SqliteOutboxRows:
    """The rows of the outbox, on one connection, at the time of the transaction."""

    db: sqlite3.Connection
    _now: float

    # -- decisions ----------------------------------------------------------------------------

    def decided_in(
        self, user: str, subject: str, from_seq: int, to_seq: int, limit: int = 1_000
    ) -> Sequence[Decided]:
        # Spans do not overlap, so the first that ends at or above from_seq is the first of all.
        rows = self.db.execute(
            "SELECT from_seq, to_seq, pos, notification_id, reason, at FROM decided"
            " WHERE user = ? AND subject = ? AND to_seq >= ? AND from_seq <= ?"
            " ORDER BY to_seq LIMIT ?",
            (user, subject, from_seq, to_seq, limit),
        )
        return [Decided(Span(*row[:3]), *row[3:]) for row in rows]

    def put_decided(self, user: str, subject: str, decided: Decided) -> bool:
        span = decided.span
        done = self.db.execute(
            "INSERT OR IGNORE INTO decided VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (user, subject, span.to_seq, span.from_seq, span.pos, decided.notification_id,
             decided.reason, decided.at),
        )  # fmt: skip
        return done.rowcount == 1

    def take_out(self, user: str, subject: str, to_seq: int, reason: str) -> None:
        self.db.execute(
            "UPDATE decided SET notification_id = '', reason = ?"
            " WHERE user = ? AND subject = ? AND to_seq = ?",
            (reason, user, subject, to_seq),
        )

    def members(self, notification_id: str, limit: int = 1_000) -> Sequence[Span]:
        rows = self.db.execute(
            "SELECT from_seq, to_seq, pos FROM decided WHERE notification_id = ?"
            " ORDER BY to_seq DESC LIMIT ?",
            (notification_id, limit),
        ).fetchall()
        return [Span(*row) for row in reversed(rows)]

    def suppress(self, user: str, subject: str, reason: str, span: Span, window_s: float) -> None:
        window_from = self._now // window_s * window_s
        self.db.execute(
            "INSERT INTO suppressions VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (user, subject, reason, window_from) DO UPDATE SET"
            " from_seq = min(from_seq, excluded.from_seq), to_seq = max(to_seq, excluded.to_seq),"
            " count = count + excluded.count, at = excluded.at",
            (user, subject, reason, window_from, span.from_seq, span.to_seq, span.count,
             self._now),
        )  # fmt: skip

    def suppressions(self, user: str, subject: str, limit: int) -> Sequence[Suppression]:
        rows = self.db.execute(
            "SELECT reason, from_seq, to_seq, count, at FROM suppressions"
            " WHERE user = ? AND subject = ? ORDER BY at DESC LIMIT ?",
            (user, subject, limit),
        )
        return [Suppression(*row) for row in rows]

    # -- notifications ------------------------------------------------------------------------

    def joinable(self, user: str, subject: str) -> Notification | None:
        row = self.db.execute(
            "SELECT id, user, subject, first_seq, created_at, due_at, expires_at, joinable"
            " FROM notifications AS n WHERE user = ? AND subject = ? AND joinable = 1"
            " AND EXISTS (SELECT 1 FROM deliveries WHERE notification_id = n.id"
            " AND state = 'pending' AND attempts = 0)"
            " ORDER BY created_at DESC LIMIT 1",
            (user, subject),
        ).fetchone()
        return _notification(row) if row else None

    def last_sent_at(self, user: str, subject: str) -> float | None:
        row = self.db.execute(
            "SELECT max(sent_at) FROM notifications WHERE user = ? AND subject = ?",
            (user, subject),
        ).fetchone()
        return float(row[0]) if row[0] is not None else None

    def begin(self, notification: Notification, deliveries: Sequence[Delivery]) -> None:
        self.db.execute(
            "INSERT INTO notifications VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL)",
            (notification.id, notification.user, notification.subject, notification.first_seq,
             notification.created_at, notification.due_at, notification.expires_at,
             notification.joinable),
        )  # fmt: skip
        for delivery in deliveries:
            self.put_delivery(delivery)

    def notification(self, notification_id: str) -> Notification | None:
        row = self.db.execute(
            "SELECT id, user, subject, first_seq, created_at, due_at, expires_at, joinable"
            " FROM notifications WHERE id = ?",
            (notification_id,),
        ).fetchone()
        return _notification(row) if row else None

    def close_notification(self, notification_id: str, sent: bool) -> None:
        self.db.execute(
            "UPDATE notifications SET joinable = 0, sent_at = coalesce(?, sent_at) WHERE id = ?",
            (self._now if sent else None, notification_id),
        )

    # -- deliveries and attempts --------------------------------------------------------------

    def delivery(self, delivery_id: str) -> Delivery | None:
        row = self.db.execute(
            f"SELECT {_DELIVERY} FROM deliveries WHERE id = ?", (delivery_id,)
        ).fetchone()
        return _delivery(row) if row else None

    def deliveries_of(self, notification_id: str) -> Sequence[Delivery]:
        rows = self.db.execute(
            f"SELECT {_DELIVERY} FROM deliveries WHERE notification_id = ? ORDER BY uri",
            (notification_id,),
        )
        return [_delivery(row) for row in rows]

    def put_delivery(self, delivery: Delivery) -> None:
        self.db.execute(
            "INSERT OR REPLACE INTO deliveries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (delivery.id, delivery.notification_id, delivery.user, delivery.subject, delivery.uri,
             delivery.scheme, delivery.state.value, delivery.due_at, delivery.expires_at,
             delivery.held, delivery.attempts, delivery.tries, delivery.repeats_unknown,
             delivery.reason),
        )  # fmt: skip

    def deliveries_due(self, schemes: Sequence[str], limit: int) -> Sequence[Delivery]:
        found: list[Delivery] = []
        for scheme in schemes:  # One index seek each; with IN the rows would have to be sorted.
            rows = self.db.execute(
                f"SELECT {_DELIVERY} FROM deliveries WHERE scheme = ? AND due_at <= ?"
                " ORDER BY due_at LIMIT ?",
                (scheme, self._now, limit),
            )
            found += [_delivery(row) for row in rows]
        found.sort(key=lambda delivery: delivery.due_at or 0.0)
        return found[:limit]

    def next_due(self, schemes: Sequence[str]) -> float | None:
        times: list[float] = []
        for scheme in schemes:
            row = self.db.execute(
                "SELECT due_at FROM deliveries WHERE scheme = ? AND due_at IS NOT NULL"
                " ORDER BY due_at LIMIT 1",
                (scheme,),
            ).fetchone()
            if row:
                times.append(row[0])
        return min(times, default=None)

    def schemes_open(self) -> Sequence[str]:
        # From channel to channel in the index; DISTINCT would visit every delivery.
        rows = self.db.execute(
            "WITH RECURSIVE open(scheme) AS ("
            " SELECT min(scheme) FROM deliveries WHERE due_at IS NOT NULL UNION ALL"
            " SELECT (SELECT min(d.scheme) FROM deliveries AS d WHERE d.due_at IS NOT NULL"
            "  AND d.scheme > open.scheme) FROM open WHERE open.scheme IS NOT NULL)"
            " SELECT scheme FROM open WHERE scheme IS NOT NULL"
        )
        return [row[0] for row in rows]

    def deliveries_expired(self, limit: int) -> Sequence[Delivery]:
        rows = self.db.execute(
            f"SELECT {_DELIVERY} FROM deliveries WHERE due_at IS NOT NULL AND expires_at <= ?"
            " ORDER BY expires_at LIMIT ?",
            (self._now, limit),
        )
        return [_delivery(row) for row in rows]

    def has_open_deliveries(self, user: str, subject: str) -> bool:
        row = self.db.execute(
            "SELECT 1 FROM deliveries WHERE user = ? AND subject = ?"
            " AND (due_at IS NOT NULL OR state = 'sending') LIMIT 1",
            (user, subject),
        ).fetchone()
        return row is not None

    def deliveries_sending(self, limit: int) -> Sequence[Delivery]:
        rows = self.db.execute(
            f"SELECT {_DELIVERY} FROM deliveries WHERE state = 'sending' LIMIT ?", (limit,)
        )
        return [_delivery(row) for row in rows]

    def begin_attempt(self, attempt: Attempt) -> None:
        self.end_attempt(attempt)

    def end_attempt(self, attempt: Attempt) -> None:
        self.db.execute(
            "INSERT OR REPLACE INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (attempt.delivery_id, attempt.number, attempt.at, attempt.ended_at, attempt.plugin,
             attempt.outcome, attempt.provider_id, attempt.detail),
        )  # fmt: skip

    def attempts(self, delivery_id: str) -> Sequence[Attempt]:
        rows = self.db.execute(
            "SELECT delivery_id, number, at, plugin, outcome, ended_at, provider_id, detail"
            " FROM attempts WHERE delivery_id = ? ORDER BY number",
            (delivery_id,),
        )
        return [Attempt(*row) for row in rows]

    # -- the end of records -------------------------------------------------------------------

    def expire_records(self, before: float, limit: int) -> int:
        old = self.db.execute(
            "SELECT id FROM notifications AS n WHERE created_at < ?"
            " AND NOT EXISTS (SELECT 1 FROM deliveries WHERE notification_id = n.id"
            " AND (due_at IS NOT NULL OR state = 'sending')) ORDER BY created_at LIMIT ?",
            (before, limit),
        ).fetchall()
        for (own_id,) in old:
            self.db.execute(
                "DELETE FROM attempts WHERE delivery_id IN"
                " (SELECT id FROM deliveries WHERE notification_id = ?)",
                (own_id,),
            )
            self.db.execute("DELETE FROM deliveries WHERE notification_id = ?", (own_id,))
            self.db.execute("DELETE FROM notifications WHERE id = ?", (own_id,))
        decided = self.db.execute(
            "DELETE FROM decided WHERE (user, subject, to_seq) IN (SELECT user, subject, to_seq"
            " FROM decided WHERE at < ? AND (notification_id = '' OR NOT EXISTS"
            " (SELECT 1 FROM notifications WHERE id = notification_id)) LIMIT ?)",
            (before, limit),
        ).rowcount
        suppressed = self.db.execute(
            "DELETE FROM suppressions WHERE (user, subject, reason, window_from) IN (SELECT user,"
            " subject, reason, window_from FROM suppressions WHERE at < ? LIMIT ?)",
            (before, limit),
        ).rowcount
        self.db.execute("DELETE FROM holds WHERE since < ?", (before,))
        return len(old) + decided + suppressed


def _notification(row: tuple[Any, ...]) -> Notification:
    own_id, user, subject, first_seq, created_at, due_at, expires_at, joinable = row
    return Notification(
        own_id, user, subject, first_seq, created_at, due_at, expires_at, bool(joinable)
    )


def _delivery(row: tuple[Any, ...]) -> Delivery:
    own_id, notification_id, user, subject, uri, state, due_at, expires_at, held, *rest = row
    attempts, tries, repeats_unknown, reason = rest
    return Delivery(
        own_id,
        notification_id,
        user,
        subject,
        uri,
        DeliveryState(state),
        due_at,
        expires_at,
        bool(held),
        attempts,
        tries,
        bool(repeats_unknown),
        reason,
    )
