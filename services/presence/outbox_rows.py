"""Reads and writes decisions, notifications, deliveries and attempts: `store_outbox.OutboxRows`."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from services.presence.notifications import (
    Delivery,
    DeliveryState,
    Notification,
    Span,
)
from services.presence.placing import PUT_OFF, Joinable, in_turn
from services.presence.plan import Plan, Priority, decode, encode
from services.presence.rows import Rows
from services.presence.sql import Row, listed
from services.presence.store_outbox import Attempt, Decided, Suppression

_DECIDED = "user, subject, to_seq, from_seq, pos, notification_id, reason, at"
_NOTIFICATION = "id, user, subject, first_seq, created_at, due_at, expires_at, joinable, plan"
_DELIVERY = (
    "id, notification_id, user, subject, uri, state, due_at, expires_at, held, attempts, tries,"
    " repeats_unknown, reason, step, rank"
)
_ATTEMPT = "delivery_id, number, at, plugin, outcome, ended_at, provider_id, detail"
_MEMBERS_AT_ONCE = 1_000


def _of(name: str, columns: str) -> str:
    return ", ".join(f"{name}.{column.strip()}" for column in columns.split(","))


class DecidedRows(Rows):
    """Decisions, and how much was suppressed."""

    def decided_in(
        self, user: str, subject: str, from_seq: int, to_seq: int, limit: int = 1_000
    ) -> Sequence[Decided]:
        # Spans do not overlap, so the first that ends at or above from_seq is the first of all.
        rows = self.db.rows(
            "SELECT from_seq, to_seq, pos, notification_id, reason, at FROM decided"
            " WHERE user = ? AND subject = ? AND to_seq >= ? AND from_seq <= ?"
            " ORDER BY to_seq LIMIT ?",
            (user, subject, from_seq, to_seq, limit),
        )
        return [Decided(Span(*row[:3]), *row[3:]) for row in rows]

    def put_decided(self, user: str, subject: str, decided: Decided) -> None:
        self.put_all_decided(subject, [(user, decided)])

    def put_all_decided(self, subject: str, decided: Sequence[tuple[str, Decided]]) -> None:
        self.touch(user for user, _ in decided)
        self.db.insert_all(
            "decided",
            _DECIDED,
            [
                (user, subject, one.span.to_seq, one.span.from_seq, one.span.pos,
                 one.notification_id, one.reason, one.at)
                for user, one in decided
            ],
            "ON CONFLICT DO NOTHING",
        )  # fmt: skip

    def replace_decided(
        self, user: str, subject: str, row: Decided, parts: Sequence[Decided]
    ) -> None:
        self.touch([user])
        self.db.execute(
            "DELETE FROM decided WHERE user = ? AND subject = ? AND to_seq = ?",
            (user, subject, row.span.to_seq),
        )
        self.put_all_decided(subject, [(user, part) for part in parts])

    def decided_users(self, users: Sequence[str], subject: str, seq: int) -> Mapping[str, str]:
        rows = self.db.rows(
            "SELECT value, reason FROM (SELECT value,"
            " (SELECT CASE WHEN from_seq <= ? THEN reason END"
            " FROM decided WHERE user = value AND subject = ? AND to_seq >= ? ORDER BY to_seq"
            " LIMIT 1) AS reason FROM each_text(?)) AS asked WHERE reason IS NOT NULL",
            (seq, subject, seq, listed(users)),
        )
        return {row[0]: row[1] for row in rows}

    def take_out(self, user: str, subject: str, to_seq: int, reason: str) -> None:
        self.touch([user])
        self.db.execute(
            "UPDATE decided SET notification_id = '', reason = ?"
            " WHERE user = ? AND subject = ? AND to_seq = ?",
            (reason, user, subject, to_seq),
        )

    def shorten(self, user: str, subject: str, rest: Span, reason: str) -> None:
        self.touch([user])
        whole = self.db.rows(
            "SELECT from_seq, at FROM decided WHERE user = ? AND subject = ? AND to_seq = ?",
            (user, subject, rest.to_seq),
        )
        self.db.execute(
            "UPDATE decided SET from_seq = ? WHERE user = ? AND subject = ? AND to_seq = ?",
            (rest.from_seq, user, subject, rest.to_seq),
        )
        for from_seq, at in whole:
            first = Span(from_seq, rest.from_seq - 1, rest.pos)
            self.put_decided(user, subject, Decided(first, "", reason, at))

    def members(self, notification_id: str, limit: int = 1_000) -> Sequence[Span]:
        rows = self.db.rows(
            # With the second condition alone SQLite sees that the partial index will do.
            "SELECT from_seq, to_seq, pos FROM decided WHERE notification_id = ?"
            " AND notification_id <> '' ORDER BY to_seq DESC LIMIT ?",
            (notification_id, limit),
        )
        return [Span(*row) for row in reversed(rows)]

    def members_of(self, notification_ids: Sequence[str]) -> Mapping[str, Sequence[Span]]:
        rows = self.db.rows(
            "SELECT notification_id, from_seq, to_seq, pos FROM each_text(?) CROSS JOIN decided"
            " ON notification_id = value AND notification_id <> '' ORDER BY to_seq LIMIT ?",
            (listed(notification_ids), _MEMBERS_AT_ONCE + 1),
        )
        if len(rows) > _MEMBERS_AT_ONCE:
            # Somebody has many; each is then cut by itself.
            return {own_id: self.members(own_id) for own_id in notification_ids}
        found: dict[str, list[Span]] = {own_id: [] for own_id in notification_ids}
        for own_id, from_seq, to_seq, pos in rows:
            found[own_id].append(Span(from_seq, to_seq, pos))
        return found

    def suppress(self, user: str, subject: str, reason: str, span: Span, window_s: float) -> None:
        self.touch([user])
        window_from = self.now() // window_s * window_s
        self.db.execute(
            "INSERT INTO suppressions VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (user, subject, reason, window_from) DO UPDATE SET"
            " from_seq = CASE WHEN suppressions.from_seq > excluded.from_seq"
            " THEN excluded.from_seq ELSE suppressions.from_seq END,"
            " to_seq = CASE WHEN suppressions.to_seq < excluded.to_seq"
            " THEN excluded.to_seq ELSE suppressions.to_seq END,"
            " count = suppressions.count + excluded.count, at = excluded.at",
            (user, subject, reason, window_from, span.from_seq, span.to_seq, span.count,
             self.now()),
        )  # fmt: skip

    def suppressions(self, user: str, subject: str, limit: int) -> Sequence[Suppression]:
        rows = self.db.rows(
            "SELECT reason, from_seq, to_seq, count, at FROM suppressions"
            " WHERE user = ? AND subject = ? ORDER BY at DESC LIMIT ?",
            (user, subject, limit),
        )
        return [Suppression(*row) for row in rows]


class OutboxTables(DecidedRows):
    """All rows of the outbox."""

    # -- notifications ------------------------------------------------------------------------

    def joinables(
        self, users: Mapping[str, Collection[str]], subject: str, plan: Plan
    ) -> Mapping[str, Joinable]:
        found: dict[str, Joinable] = {}
        # One of a category that a publisher made up may join those of others.
        alike, wanted = ("", ()) if plan.free else (" AND n.plan = ?", (encode(plan),))
        for uri, *row in self.db.rows(
            f"SELECT d.uri, {_of('n', _NOTIFICATION)} FROM each_text(?)"
            " CROSS JOIN notifications AS n"
            " ON n.user = value AND n.subject = ? CROSS JOIN deliveries AS d"
            f" ON d.notification_id = n.id WHERE n.joinable = 1{alike}"
            " AND d.state = 'pending' AND d.attempts = 0 ORDER BY n.created_at, n.id",
            (listed(list(users)), subject, *wanted),
        ):
            notification = _notification(row)
            if not plan.is_told_with(notification.plan, users[notification.user]):
                continue
            before = found.get(notification.user)
            # Of several the newest.
            same = before is not None and before.notification.id == notification.id
            uris = before.uris if before is not None and same else frozenset()
            found[notification.user] = Joinable(notification, uris | {uri})
        return found

    def last_sent(self, users: Sequence[str], subject: str) -> Mapping[str, float]:
        rows = self.db.rows(
            "SELECT value, sent FROM (SELECT value, (SELECT max(sent_at) FROM notifications"
            " WHERE user = value AND subject = ?) AS sent FROM each_text(?)) AS asked"
            " WHERE sent IS NOT NULL",
            (subject, listed(users)),
        )
        return {row[0]: row[1] for row in rows}

    def begin_all(
        self, notifications: Sequence[Notification], deliveries: Sequence[Delivery]
    ) -> None:
        self.db.insert_all(
            "notifications",
            _NOTIFICATION,
            [
                (one.id, one.user, one.subject, one.first_seq, one.created_at, one.due_at,
                 one.expires_at, int(one.joinable), encode(one.plan))
                for one in notifications
            ],
        )  # fmt: skip
        self.put_deliveries(deliveries)

    def put_plans(self, plans: Mapping[str, Plan]) -> None:
        ids_of: dict[Plan, list[str]] = {}
        for own_id, plan in plans.items():
            ids_of.setdefault(plan, []).append(own_id)
        for plan, ids in ids_of.items():
            self.db.execute(
                "UPDATE notifications SET plan = ? WHERE id IN (SELECT value FROM each_text(?))",
                (encode(plan), listed(ids)),
            )

    def notifications(self, notification_ids: Sequence[str]) -> Mapping[str, Notification]:
        rows = self.db.rows(
            f"SELECT {_of('n', _NOTIFICATION)} FROM each_text(?) CROSS JOIN notifications AS n"
            " ON n.id = value",
            (listed(notification_ids),),
        )
        return {row[0]: _notification(row) for row in rows}

    def close_notifications(self, notification_ids: Sequence[str], sent: bool) -> None:
        if notification_ids:
            self.db.execute(
                "UPDATE notifications SET joinable = 0, sent_at = coalesce(?, sent_at)"
                " WHERE id IN (SELECT value FROM each_text(?))",
                (self.now() if sent else None, listed(notification_ids)),
            )

    # -- deliveries and attempts --------------------------------------------------------------

    def deliveries(self, delivery_ids: Sequence[str]) -> Sequence[Delivery]:
        rows = self.db.rows(
            f"SELECT {_of('d', _DELIVERY)} FROM each_text(?) CROSS JOIN deliveries AS d"
            " ON d.id = value",
            (listed(delivery_ids),),
        )
        found = {row[0]: _delivery(row) for row in rows}
        return [found[own_id] for own_id in delivery_ids if own_id in found]

    def deliveries_of(self, notification_id: str) -> Sequence[Delivery]:
        rows = self.db.rows(
            f"SELECT {_DELIVERY} FROM deliveries WHERE notification_id = ? ORDER BY uri",
            (notification_id,),
        )
        return [_delivery(row) for row in rows]

    def deliveries_of_all(
        self, notification_ids: Sequence[str]
    ) -> Mapping[str, Sequence[Delivery]]:
        found: dict[str, list[Delivery]] = {}
        for row in self.db.rows(
            f"SELECT {_of('d', _DELIVERY)} FROM each_text(?) CROSS JOIN deliveries AS d"
            " ON d.notification_id = value ORDER BY d.uri",
            (listed(notification_ids),),
        ):
            found.setdefault(row[1], []).append(_delivery(row))
        return found

    def wake_deferred(self, user: str) -> None:
        self.touch([user])
        self.db.execute(
            "UPDATE deliveries SET due_at = ?, reason = '' WHERE user = ? AND due_at > ?"
            " AND reason IN (SELECT value FROM each_text(?))",
            (self.now(), user, self.now(), listed(PUT_OFF)),
        )

    def put_deliveries(self, deliveries: Sequence[Delivery]) -> None:
        assert self.mine.term, "who sends them writes them"
        self.touch(delivery.user for delivery in deliveries)
        self.db.insert_all(
            "deliveries",
            f"{_DELIVERY}, scheme, keeper",
            [
                (one.id, one.notification_id, one.user, one.subject, one.uri, one.state.value,
                 one.due_at, one.expires_at, int(one.held), one.attempts, one.tries,
                 int(one.repeats_unknown), one.reason, one.step, one.rank, one.scheme,
                 self.mine.term)
                for one in deliveries
            ],
            "ON CONFLICT (id) DO UPDATE SET state = excluded.state, due_at = excluded.due_at,"
            " held = excluded.held, attempts = excluded.attempts, tries = excluded.tries,"
            " repeats_unknown = excluded.repeats_unknown, reason = excluded.reason,"
            " keeper = excluded.keeper",
        )  # fmt: skip

    def deliveries_due(self, schemes: Sequence[str], limit: int) -> Sequence[Delivery]:
        # One index seek each; with IN the rows would have to be sorted.
        found = self._of_each(
            f"SELECT {_DELIVERY} FROM deliveries WHERE keeper = ? AND scheme = ? AND rank = ?"
            " AND due_at <= ? ORDER BY due_at LIMIT ?",
            schemes,
            (self.now(), limit),
        )
        ranked: list[list[Delivery]] = [[] for _ in Priority]
        for delivery in map(_delivery, found):
            ranked[delivery.rank].append(delivery)
        for deliveries in ranked:
            deliveries.sort(key=lambda delivery: delivery.due_at or 0.0)
        return in_turn(ranked, limit)

    def next_due(self, schemes: Sequence[str]) -> float | None:
        found = self._of_each(
            "SELECT due_at FROM deliveries WHERE keeper = ? AND scheme = ? AND rank = ?"
            " AND due_at IS NOT NULL ORDER BY due_at LIMIT 1",
            schemes,
        )
        return min((row[0] for row in found), default=None)

    def _of_each(
        self, sql: str, schemes: Sequence[str], parameters: Sequence[Any] = ()
    ) -> list[Row]:
        """The rows of a statement about this process's deliveries on each channel, of each rank."""
        asked = [
            (sql, (self.mine.term, scheme, rank.value, *parameters))
            for scheme in schemes
            for rank in Priority
        ]
        return [row for rows in self.db.rows_of_all(asked) for row in rows]

    def schemes_open(self) -> Sequence[str]:
        # From channel to channel in the index; DISTINCT would visit every delivery.
        rows = self.db.rows(
            "WITH RECURSIVE open(scheme) AS ("
            " SELECT min(scheme) FROM deliveries WHERE keeper = ? AND due_at IS NOT NULL"
            " UNION ALL SELECT (SELECT min(d.scheme) FROM deliveries AS d"
            "  WHERE d.keeper = ? AND d.due_at IS NOT NULL AND d.scheme > open.scheme)"
            " FROM open WHERE open.scheme IS NOT NULL)"
            " SELECT scheme FROM open WHERE scheme IS NOT NULL",
            (self.mine.term, self.mine.term),
        )
        return [row[0] for row in rows]

    def deliveries_expired(self, limit: int) -> Sequence[Delivery]:
        rows = self.db.rows(
            f"SELECT {_DELIVERY} FROM deliveries WHERE keeper = ? AND due_at IS NOT NULL"
            " AND expires_at <= ? ORDER BY expires_at LIMIT ?",
            (self.mine.term, self.now(), limit),
        )
        return [_delivery(row) for row in rows]

    def has_open_deliveries(self, user: str, subject: str) -> bool:
        rows = self.db.rows(
            "SELECT 1 FROM deliveries WHERE user = ? AND subject = ?"
            " AND (due_at IS NOT NULL OR state = 'sending') LIMIT 1",
            (user, subject),
        )
        return bool(rows)

    def due_now(self, schemes: Sequence[str], at_most: int) -> int:
        counted = self._of_each(
            "SELECT count(*) FROM (SELECT 1 FROM deliveries WHERE keeper = ? AND scheme = ?"
            " AND rank = ? AND due_at <= ? LIMIT ?) AS due",
            schemes,
            (self.now(), at_most),
        )
        return min(at_most, sum(int(row[0]) for row in counted))

    def deliveries_left(self, limit: int) -> Sequence[Delivery]:
        open_ones, claimed = self.db.rows_of_all(
            [
                (
                    f"SELECT {_of('d', _DELIVERY)} FROM terms CROSS JOIN deliveries AS d"
                    f" ON d.keeper = terms.id WHERE terms.closed = 1 AND {left} LIMIT ?",
                    (limit,),
                )
                for left in ("d.due_at IS NOT NULL", "d.state = 'sending'")
            ]
        )
        return [_delivery(row) for row in [*open_ones, *claimed][:limit]]

    def put_attempts(self, attempts: Sequence[Attempt]) -> None:
        self.db.insert_all(
            "attempts",
            _ATTEMPT,
            [
                (one.delivery_id, one.number, one.at, one.plugin, one.outcome, one.ended_at,
                 one.provider_id, one.detail)
                for one in attempts
            ],
            "ON CONFLICT (delivery_id, number) DO UPDATE SET at = excluded.at,"
            " plugin = excluded.plugin, outcome = excluded.outcome, ended_at = excluded.ended_at,"
            " provider_id = excluded.provider_id, detail = excluded.detail",
        )  # fmt: skip

    def attempts(self, delivery_id: str) -> Sequence[Attempt]:
        rows = self.db.rows(
            f"SELECT {_ATTEMPT} FROM attempts WHERE delivery_id = ? ORDER BY number",
            (delivery_id,),
        )
        return [Attempt(*row) for row in rows]

    # -- the end of records -------------------------------------------------------------------

    def expire_records(self, before: float, limit: int) -> int:
        old = self.db.rows(
            "SELECT id FROM notifications AS n WHERE created_at < ?"
            " AND NOT EXISTS (SELECT 1 FROM deliveries WHERE notification_id = n.id"
            " AND (due_at IS NOT NULL OR state = 'sending')) ORDER BY created_at LIMIT ?",
            (before, limit),
        )
        if old:
            ids = (listed(row[0] for row in old),)
            for table in ("attempts", "receipts"):
                self.db.execute(
                    f"DELETE FROM {table} WHERE delivery_id IN (SELECT d.id FROM each_text(?)"
                    " CROSS JOIN deliveries AS d ON d.notification_id = value)",
                    ids,
                )
            for table, column in (("deliveries", "notification_id"), ("notifications", "id")):
                self.db.execute(
                    f"DELETE FROM {table} WHERE {column} IN (SELECT value FROM each_text(?))", ids
                )
        decided = self.db.rows(
            "DELETE FROM decided WHERE (user, subject, to_seq) IN (SELECT user, subject, to_seq"
            " FROM decided WHERE at < ? AND (notification_id = '' OR NOT EXISTS"
            " (SELECT 1 FROM notifications WHERE id = notification_id)) LIMIT ?) RETURNING 1",
            (before, limit),
        )
        suppressed = self.db.rows(
            "DELETE FROM suppressions WHERE (user, subject, reason, window_from) IN (SELECT user,"
            " subject, reason, window_from FROM suppressions WHERE at < ? LIMIT ?) RETURNING 1",
            (before, limit),
        )
        self.db.execute("DELETE FROM holds WHERE since < ?", (before,))
        # A rate that is used up to a time that has passed is not used at all.
        self.db.execute(
            "DELETE FROM paces WHERE (user, channel) IN"
            " (SELECT user, channel FROM paces WHERE at < ? ORDER BY at LIMIT ?)",
            (before, limit),
        )
        return len(old) + len(decided) + len(suppressed)


def _notification(row: Sequence[Any]) -> Notification:
    own_id, user, subject, first_seq, created_at, due_at, expires_at, joinable, plan = row
    return Notification(
        own_id,
        user,
        subject,
        first_seq,
        created_at,
        due_at,
        expires_at,
        bool(joinable),
        decode(plan),
    )


def _delivery(row: Row) -> Delivery:
    own_id, notification_id, user, subject, uri, state, due_at, expires_at, held, *rest = row
    attempts, tries, repeats_unknown, reason, step, rank = rest
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
        step,
        rank,
    )
