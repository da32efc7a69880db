"""Reads and writes endpoints, and what became of those that are gone or unwilling."""

import json
from collections.abc import Mapping, Sequence

from services.chassis.errors import Unavailable
from services.presence.rows import Rows
from services.presence.sql import listed
from services.presence.state import Endpoint

# Tokens that nobody can guess belong to the last user who registered them.
_MOVING_SCHEMES = ("fcm:", "apns:", "webpush:")


def moves(uri: str) -> bool:
    """Whether an endpoint leaves its former users when somebody registers it."""
    return uri.lower().startswith(_MOVING_SCHEMES)


class EndpointRows(Rows):
    """Endpoints of users."""

    def uris(self, user: str) -> Mapping[str, bool]:
        rows = self.db.rows(
            "SELECT uri, opted_out FROM endpoints WHERE user = ? ORDER BY uri", (user,)
        )
        return {row[0]: bool(row[1]) for row in rows}

    def uris_of(self, users: Sequence[str]) -> Mapping[str, Mapping[str, bool]]:
        found: dict[str, dict[str, bool]] = {}
        for user, uri, opted_out in self.db.rows(
            "SELECT e.user, e.uri, e.opted_out FROM each_text(?) CROSS JOIN endpoints AS e"
            " ON e.user = value ORDER BY e.uri",
            (listed(users),),
        ):
            found.setdefault(user, {})[uri] = bool(opted_out)
        return found

    def registrants(self, users: Sequence[str]) -> Mapping[tuple[str, str], Sequence[str]]:
        rows = self.db.rows(
            "SELECT e.user, e.uri, e.clients FROM each_text(?) CROSS JOIN endpoints AS e"
            " ON e.user = value",
            (listed(users),),
        )
        return {(user, uri): json.loads(clients) for user, uri, clients in rows}

    def users_of(self, uris: Sequence[str]) -> Sequence[str]:
        rows = self.db.rows(
            "SELECT DISTINCT e.user FROM each_text(?) CROSS JOIN endpoints AS e ON e.uri = value",
            (listed(uris),),
        )
        return [row[0] for row in rows]

    def put_endpoint(self, user: str, row: Endpoint) -> None:
        """Insert, or replace its clients; a token that moves leaves its former users."""
        if moves(row.uri):
            for other in self.users_of([row.uri]):
                if other != user:
                    if not self.locked(other):
                        # It has moved since the users were locked.
                        raise Unavailable("a token was moved by two at once")
                    self.drop_endpoint(other, row.uri, "ENDPOINT_MOVED")
        self.db.execute(
            "INSERT INTO endpoints VALUES (?, ?, ?, ?, 0) ON CONFLICT (user, uri) DO UPDATE"
            " SET clients = excluded.clients, registered_at = excluded.registered_at",
            (user, row.uri, json.dumps(row.clients), row.registered_at),
        )
        # Registered anew: it is not gone, whatever was to be told.
        self.db.execute("DELETE FROM gone WHERE user = ? AND uri = ?", (user, row.uri))

    def drop_endpoint(self, user: str, uri: str, reason: str) -> None:
        """Delete, and cancel what was to be sent there."""
        self.read_ahead.pop(user, None)
        self.db.execute("DELETE FROM endpoints WHERE user = ? AND uri = ?", (user, uri))
        self._cancel_deliveries(user, uri, reason)

    def opt_out(self, user: str, uri: str) -> None:
        self.db.execute(
            "UPDATE endpoints SET opted_out = 1 WHERE user = ? AND uri = ?", (user, uri)
        )
        self._cancel_deliveries(user, uri, "OPTED_OUT")

    def _cancel_deliveries(self, user: str, uri: str, reason: str) -> None:
        self.touch([user])
        cancelled = self.db.rows(
            "UPDATE deliveries SET state = 'cancelled', due_at = NULL, held = 0, reason = ?"
            " WHERE user = ? AND uri = ? AND due_at IS NOT NULL RETURNING notification_id",
            (reason, user, uri),
        )
        if cancelled:
            self._hasten([row[0] for row in cancelled])

    def _hasten(self, notification_ids: Sequence[str]) -> None:
        """Where no delivery of a former step was sent or will be, the next steps of an escalation
        are due when the notification is, and not before, as a digest's time;
        `escalation.hastened` in one statement."""
        now = self.now()
        self.db.execute(
            "UPDATE deliveries SET due_at = (SELECT CASE WHEN n.due_at > ? THEN n.due_at ELSE ? END"
            " FROM notifications AS n WHERE n.id = deliveries.notification_id), reason = ''"
            " WHERE notification_id IN (SELECT value FROM each_text(?)) AND step > 0"
            " AND state = 'pending' AND attempts = 0 AND held = 0 AND due_at > ?"
            " AND NOT EXISTS (SELECT 1 FROM deliveries AS former"
            " WHERE former.notification_id = deliveries.notification_id"
            " AND former.step < deliveries.step"
            " AND (former.state NOT IN ('failed', 'dead', 'expired', 'cancelled')"
            " OR former.state = 'cancelled' AND former.reason = 'ACKNOWLEDGED'))",
            (now, now, listed(notification_ids), now),
        )

    def gone_endpoints(self, user: str, client_id: str) -> Sequence[str]:
        rows = self.db.rows(
            "SELECT uri FROM gone WHERE user = ? AND client_id = ? ORDER BY at, uri",
            (user, client_id),
        )
        return [row[0] for row in rows]

    def remove_gone_endpoint(self, user: str, uri: str, before: float) -> bool:
        rows = self.db.rows(
            "SELECT clients FROM endpoints WHERE user = ? AND uri = ? AND registered_at < ?",
            (user, uri, before),
        )
        if not rows:
            return False
        self.drop_endpoint(user, uri, "ENDPOINT_GONE")
        self.db.insert_all(
            "gone",
            "user, client_id, uri, at",
            [
                (user, client_id, uri, self.now())
                for client_id in json.loads(rows[0][0])
                # Backends have no client that could be told.
                if not client_id.startswith("@")
            ],
            "ON CONFLICT DO NOTHING",
        )
        return True

    def forget_gone(self, user: str, client_id: str, uri: str) -> None:
        """The client has been told."""
        self.db.execute(
            "DELETE FROM gone WHERE user = ? AND client_id = ? AND uri = ?", (user, client_id, uri)
        )
