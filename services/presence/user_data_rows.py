"""Reads and writes what `user_data.UserDataRows` says."""

from collections.abc import Mapping, Sequence

from services.presence.rows import Rows
from services.presence.sql import listed
from services.presence.state import BACKEND, Handover, Standing
from services.presence.user_data import Followed, Follower

# What holds rows of a user by themselves, and the primary key, in the order in which they go.
_ERASED = {
    "waiting": "subject, user, client_id",
    "handovers": "user, subject, client_id, opened",
    "follows": "user, subject, client_id, opened",
    "endpoints": "user, uri",
    "registers": "user, client_id",
    "profiles": "user",
    "paces": "user, channel",
    "gone": "user, client_id, uri",
    "holds": "user, subject, first_seq, client_id",
    "decided": "user, subject, to_seq",
    "suppressions": "user, subject, reason, window_from",
}
_OF_NOTIFICATIONS = "SELECT d.id FROM each_text(?) CROSS JOIN deliveries AS d"


class UserDataTables(Rows):
    """Rows of users for whoever asks about them."""

    def followed(self, user: str, after_subject: str, limit: int) -> Sequence[Followed]:
        rows = self.db.rows(
            "SELECT subject, client_id, base FROM follows WHERE user = ? AND subject > ?"
            " AND ended = 0 ORDER BY subject, client_id LIMIT ?",
            (user, after_subject, limit),
        )
        return [Followed(*row) for row in rows]

    def followed_by_backends(self, users: Sequence[str]) -> Mapping[str, int]:
        rows = self.db.rows(
            "SELECT f.user, count(*) FROM each_text(?) CROSS JOIN follows AS f ON f.user = value"
            " WHERE f.client_id = ? AND f.ended = 0 GROUP BY f.user",
            (listed(users), BACKEND),
        )
        return {row[0]: int(row[1]) for row in rows}

    def drop_settled(self, handovers: Sequence[tuple[str, Handover]]) -> None:
        self.touch({user for user, _ in handovers})
        for user, row in handovers:
            self.db.execute(
                "DELETE FROM handovers WHERE user = ? AND subject = ? AND client_id = ?"
                " AND opened = ? AND after = ? AND run = ?",
                (user, *row.key, row.after, row.run),
            )

    def cancel_deliveries_of(self, user: str, subject: str | None, reason: str) -> None:
        self.touch([user])
        of_subject = "" if subject is None else " AND subject = ?"
        self.db.execute(
            "UPDATE deliveries SET state = 'cancelled', due_at = NULL, held = 0, reason = ?"
            f" WHERE user = ?{of_subject} AND due_at IS NOT NULL",
            (reason, user) if subject is None else (reason, user, subject),
        )

    def followers(self, subject: str, after: tuple[str, str], limit: int) -> Sequence[Follower]:
        rows = self.db.rows(
            "SELECT f.user, f.client_id, r.standing, r.active, r.since FROM"
            " (SELECT user, client_id FROM follows WHERE subject = ? AND ended = 0"
            "  AND (user, client_id) > (?, ?) ORDER BY user, client_id LIMIT ?) AS f"
            " LEFT JOIN registers AS r ON r.user = f.user AND r.client_id = f.client_id"
            " ORDER BY f.user, f.client_id",
            (subject, *after, limit),
        )
        offline = Standing.OFFLINE.value
        return [
            Follower(user, client_id, standing or offline, bool(active), since or 0.0)
            for user, client_id, standing, active, since in rows
        ]

    def erase_page(self, user: str, limit: int) -> int:
        self.touch([user])
        self.read_ahead.pop(user, None)
        erased = 0
        for table, key in _ERASED.items():
            if erased < limit:
                erased += len(
                    self.db.rows(
                        f"DELETE FROM {table} WHERE ({key}) IN"
                        f" (SELECT {key} FROM {table} WHERE user = ? LIMIT ?) RETURNING 1",
                        (user, limit - erased),
                    )
                )
        return erased + self._erase_notifications(user, limit - erased)

    def _erase_notifications(self, user: str, limit: int) -> int:
        """Those of which nothing is being sent: whoever sends writes the row of it again."""
        if limit <= 0:
            return 0
        ids = [
            row[0]
            for row in self.db.rows(
                "SELECT id FROM notifications AS n WHERE user = ? AND NOT EXISTS"
                " (SELECT 1 FROM deliveries WHERE notification_id = n.id AND state = 'sending')"
                " LIMIT ?",
                (user, limit),
            )
        ]
        if ids:
            for table in ("attempts", "receipts"):
                self.db.execute(
                    f"DELETE FROM {table} WHERE delivery_id IN"
                    f" ({_OF_NOTIFICATIONS} ON d.notification_id = value)",
                    (listed(ids),),
                )
            for table, column in (("deliveries", "notification_id"), ("notifications", "id")):
                self.db.execute(
                    f"DELETE FROM {table} WHERE {column} IN (SELECT value FROM each_text(?))",
                    (listed(ids),),
                )
        return len(ids)

    def is_being_sent(self, user: str) -> bool:
        return bool(
            self.db.rows(
                "SELECT 1 FROM deliveries WHERE user = ? AND state = 'sending' LIMIT 1", (user,)
            )
        )
