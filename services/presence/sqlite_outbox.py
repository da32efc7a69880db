"""Reads and writes decisions, notifications, deliveries and attempts in SQLite: `OutboxRows`."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from services.presence.notifications import Delivery, DeliveryState, Notification, Span
from services.presence.store import Attempt, Decided, Suppression, Touched

_DELIVERY = (
    "id, notification_id, user, subject, uri, state, due_at, expires_at, held, attempts, tries,"
    " repeats_unknown, reason"
)
_MEMBERS_AT_ONCE = 1_000
_DELIVERY_OF_D = ", ".join(f"d.{column.strip()}" for column in _DELIVERY.split(","))


class SqliteOutboxRows:
    """The rows of the outbox, on one connection, at the time of the transaction."""

    db: sqlite3.Connection
    touched: Touched
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
        self.touched.users.add(user)
        done = self.db.execute(
            "INSERT OR IGNORE INTO decided VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (user, subject, span.to_seq, span.from_seq, span.pos, decided.notification_id,
             decided.reason, decided.at),
        )  # fmt: skip
        return done.rowcount == 1

    def put_all_decided(self, subject: str, decided: Sequence[tuple[str, Decided]]) -> None:
        self.touched.users.update(user for user, _ in decided)
        self.db.executemany(
            "INSERT OR IGNORE INTO decided VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (user, subject, one.span.to_seq, one.span.from_seq, one.span.pos,
                 one.notification_id, one.reason, one.at)
                for user, one in decided
            ],
        )  # fmt: skip

    def decided_users(self, users: Sequence[str], subject: str, seq: int) -> frozenset[str]:
        rows = self.db.execute(
            "SELECT value FROM json_each(?) WHERE (SELECT from_seq FROM decided WHERE user = value"
            " AND subject = ? AND to_seq >= ? ORDER BY to_seq LIMIT 1) <= ?",
            (json.dumps(list(users)), subject, seq, seq),
        )
        return frozenset(row[0] for row in rows)

    def take_out(self, user: str, subject: str, to_seq: int, reason: str) -> None:
        self.touched.users.add(user)
        self.db.execute(
            "UPDATE decided SET notification_id = '', reason = ?"
            " WHERE user = ? AND subject = ? AND to_seq = ?",
            (reason, user, subject, to_seq),
        )

    def members(self, notification_id: str, limit: int = 1_000) -> Sequence[Span]:
        rows = self.db.execute(
            # With the second condition alone SQLite sees that the partial index will do.
            "SELECT from_seq, to_seq, pos FROM decided WHERE notification_id = ?"
            " AND notification_id <> '' ORDER BY to_seq DESC LIMIT ?",
            (notification_id, limit),
        ).fetchall()
        return [Span(*row) for row in reversed(rows)]

    def members_of(self, notification_ids: Sequence[str]) -> Mapping[str, Sequence[Span]]:
        rows = self.db.execute(
            "SELECT notification_id, from_seq, to_seq, pos FROM json_each(?) CROSS JOIN decided"
            " ON notification_id = value AND notification_id <> '' ORDER BY to_seq LIMIT ?",
            (json.dumps(list(notification_ids)), _MEMBERS_AT_ONCE + 1),
        ).fetchall()
        if len(rows) > _MEMBERS_AT_ONCE:
            # Somebody has many; each is then cut by itself.
            return {own_id: self.members(own_id) for own_id in notification_ids}
        found: dict[str, list[Span]] = {own_id: [] for own_id in notification_ids}
        for own_id, from_seq, to_seq, pos in rows:
            found[own_id].append(Span(from_seq, to_seq, pos))
        return found

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

    def joinables(self, users: Sequence[str], subject: str) -> Mapping[str, Notification]:
        rows = self.db.execute(
            "SELECT n.id, n.user, n.subject, n.first_seq, n.created_at, n.due_at, n.expires_at,"
            " n.joinable FROM json_each(?) CROSS JOIN notifications AS n ON n.user = value"
            " AND n.subject = ? WHERE n.joinable = 1 AND EXISTS (SELECT 1 FROM deliveries"
            " WHERE notification_id = n.id AND state = 'pending' AND attempts = 0)"
            " ORDER BY n.created_at",
            (json.dumps(list(users)), subject),
        )
        return {row[1]: _notification(row) for row in rows}

    def last_sent(self, users: Sequence[str], subject: str) -> Mapping[str, float]:
        rows = self.db.execute(
            "SELECT value, (SELECT max(sent_at) FROM notifications WHERE user = value"
            " AND subject = ?) AS at FROM json_each(?) WHERE at IS NOT NULL",
            (subject, json.dumps(list(users))),
        )
        return {row[0]: row[1] for row in rows}

    def begin_all(
        self, notifications: Sequence[Notification], deliveries: Sequence[Delivery]
    ) -> None:
        self.db.executemany(
            "INSERT INTO notifications VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL)",
            [
                (one.id, one.user, one.subject, one.first_seq, one.created_at, one.due_at,
                 one.expires_at, one.joinable)
                for one in notifications
            ],
        )  # fmt: skip
        self.put_deliveries(deliveries)

    def notifications(self, notification_ids: Sequence[str]) -> Mapping[str, Notification]:
        rows = self.db.execute(
            "SELECT n.id, n.user, n.subject, n.first_seq, n.created_at, n.due_at, n.expires_at,"
            " n.joinable FROM json_each(?) CROSS JOIN notifications AS n ON n.id = value",
            (json.dumps(list(notification_ids)),),
        )
        return {row[0]: _notification(row) for row in rows}

    def close_notifications(self, notification_ids: Sequence[str], sent: bool) -> None:
        self.db.executemany(
            "UPDATE notifications SET joinable = 0, sent_at = coalesce(?, sent_at) WHERE id = ?",
            [(self._now if sent else None, own_id) for own_id in notification_ids],
        )

    # -- deliveries and attempts --------------------------------------------------------------

    def deliveries(self, delivery_ids: Sequence[str]) -> Sequence[Delivery]:
        rows = self.db.execute(
            f"SELECT {_DELIVERY_OF_D} FROM json_each(?) CROSS JOIN deliveries AS d ON d.id = value",
            (json.dumps(list(delivery_ids)),),
        )
        return [_delivery(row) for row in rows]

    def deliveries_of(self, notification_id: str) -> Sequence[Delivery]:
        rows = self.db.execute(
            f"SELECT {_DELIVERY} FROM deliveries WHERE notification_id = ? ORDER BY uri",
            (notification_id,),
        )
        return [_delivery(row) for row in rows]

    def put_deliveries(self, deliveries: Sequence[Delivery]) -> None:
        self.touched.users.update(delivery.user for delivery in deliveries)
        self.db.executemany(
            "INSERT INTO deliveries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET state = excluded.state, due_at = excluded.due_at,"
            " held = excluded.held, attempts = excluded.attempts, tries = excluded.tries,"
            " repeats_unknown = excluded.repeats_unknown, reason = excluded.reason",
            [
                (one.id, one.notification_id, one.user, one.subject, one.uri, one.scheme,
                 one.state.value, one.due_at, one.expires_at, one.held, one.attempts, one.tries,
                 one.repeats_unknown, one.reason)
                for one in deliveries
            ],
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

    def due_now(self, schemes: Sequence[str], at_most: int) -> int:
        row = self.db.execute(
            "SELECT count(*) FROM (SELECT 1 FROM json_each(?) CROSS JOIN deliveries"
            " ON scheme = value WHERE due_at <= ? LIMIT ?)",
            (json.dumps(list(schemes)), self._now, at_most),
        ).fetchone()
        return int(row[0])

    def deliveries_sending(self, limit: int) -> Sequence[Delivery]:
        rows = self.db.execute(
            f"SELECT {_DELIVERY} FROM deliveries WHERE state = 'sending' LIMIT ?", (limit,)
        )
        return [_delivery(row) for row in rows]

    def put_attempts(self, attempts: Sequence[Attempt]) -> None:
        self.db.executemany(
            "INSERT OR REPLACE INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (one.delivery_id, one.number, one.at, one.ended_at, one.plugin, one.outcome,
                 one.provider_id, one.detail)
                for one in attempts
            ],
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
