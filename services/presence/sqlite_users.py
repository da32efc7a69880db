"""Reads and writes the rows of users in SQLite: `store.UserRows`."""

import json
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from services.chassis.subjects import partition_of
from services.presence import state
from services.presence.state import (
    Endpoint,
    Follow,
    FollowKey,
    Handover,
    Hold,
    Mark,
    Register,
    Standing,
    UserState,
)
from services.presence.store import FanOut, GraceDue, Touched

# Tokens that nobody can guess belong to the last user who registered them.
_MOVING_SCHEMES = ("fcm:", "apns:", "webpush:")
# A seq that a client made up may be above what SQLite takes; no real one comes near.
_SEQ_MAX = (1 << 63) - 1
_STANDINGS = {standing.value: standing for standing in Standing}


class SqliteUserRows:
    """The rows of users, on one connection. `now` is the time of the transaction."""

    def __init__(self, db: sqlite3.Connection, now: float, partitions: int) -> None:
        self.db = db
        self._now = now
        self._partitions = partitions
        self.touched = Touched()

    def now(self) -> float:
        return self._now

    # -- loading ------------------------------------------------------------------------------

    def load_user(self, user: str, subject: str | None = None) -> UserState:
        registers = {row.client_id: row for row in self._registers(user)}
        follows = {row.key: row for row in self._follows(user, subject)}
        handovers = {row.key: row for row in self._handovers(user, subject)}
        return UserState(
            user=user,
            registers=registers,
            follows=follows,
            waiting=self._waiting(user, subject),
            handovers=handovers,
            endpoints={row.uri: row for row in self._endpoints(user)},
            marks=self._marks(registers, follows),
        )

    def load_followers(self, users: Sequence[str], subject: str) -> Mapping[str, UserState]:
        asked = json.dumps(list(users))
        registers: dict[str, dict[str, Register]] = {user: {} for user in users}
        for user, *columns in self.db.execute(
            "SELECT r.user, r.client_id, r.generation, r.session_id, r.edge_id, r.standing,"
            " r.grace_until, r.number, r.connected, r.ended, r.acknowledges, r.active, r.since"
            " FROM json_each(?) CROSS JOIN registers AS r ON r.user = value",
            (asked,),
        ):
            registers[user][columns[0]] = _register(columns)
        follows: dict[str, dict[FollowKey, Follow]] = {user: {} for user in users}
        for user, *columns in self.db.execute(
            "SELECT f.user, f.subject, f.client_id, f.opened, f.base, f.acked, f.acked_pos,"
            " f.ended, f.session_id, f.round, f.first_generation, f.last_generation"
            " FROM json_each(?) CROSS JOIN follows AS f ON f.user = value AND f.subject = ?",
            (asked, subject),
        ):
            follow = _follow(columns)
            follows[user][follow.key] = follow
        edges = {one.edge_id for rows in registers.values() for one in rows.values()}
        marks = self._marks_of(subject, edges)
        return {
            user: UserState(
                user,
                registers[user],
                follows[user],
                marks={
                    (register.edge_id, subject): marks[register.edge_id]
                    for register in registers[user].values()
                    if register.edge_id in marks
                },
            )
            for user in users
        }

    def _marks_of(self, subject: str, edges: Collection[int]) -> dict[int, Mark]:
        """By edge, the marks of these edges in the partition of the subject."""
        rows = self.db.execute(
            "SELECT edge_id, round, pos FROM json_each(?) CROSS JOIN marks"
            " ON partition = ? AND edge_id = value",
            (json.dumps(list(edges)), partition_of(subject, self._partitions)),
        )
        return {row[0]: Mark(row[1], row[2]) for row in rows}

    def _registers(self, user: str) -> Sequence[Register]:
        rows = self.db.execute(
            "SELECT client_id, generation, session_id, edge_id, standing, grace_until, number,"
            " connected, ended, acknowledges, active, since FROM registers WHERE user = ?",
            (user,),
        )
        return [_register(row) for row in rows]

    def _follows(self, user: str, subject: str | None) -> Sequence[Follow]:
        rows = self.db.execute(
            "SELECT subject, client_id, opened, base, acked, acked_pos, ended, session_id, round,"
            f" first_generation, last_generation FROM follows WHERE {_where(subject)}",
            _of(user, subject),
        )
        return [_follow(row) for row in rows]

    def _handovers(self, user: str, subject: str | None) -> Sequence[Handover]:
        rows = self.db.execute(
            f"SELECT subject, client_id, opened, after, run FROM handovers WHERE {_where(subject)}",
            _of(user, subject),
        )
        return [Handover(FollowKey(*row[:3]), row[3], row[4]) for row in rows]

    def _waiting(self, user: str, subject: str | None) -> frozenset[tuple[str, str]]:
        rows = self.db.execute(
            f"SELECT subject, client_id FROM waiting WHERE {_where(subject)}", _of(user, subject)
        )
        return frozenset((row[0], row[1]) for row in rows)

    def _endpoints(self, user: str) -> Sequence[Endpoint]:
        rows = self.db.execute(
            "SELECT uri, clients, registered_at FROM endpoints WHERE user = ?", (user,)
        )
        return [Endpoint(uri, tuple(json.loads(clients)), at) for uri, clients, at in rows]

    def _marks(
        self, registers: Mapping[str, Register], follows: Mapping[FollowKey, Follow]
    ) -> dict[tuple[int, str], Mark]:
        marks: dict[tuple[int, str], Mark] = {}
        for follow in follows.values():
            register = registers.get(follow.client_id)
            if follow.ended or register is None or (register.edge_id, follow.subject) in marks:
                continue
            row = self.db.execute(
                "SELECT round, pos FROM marks WHERE edge_id = ? AND partition = ?",
                (register.edge_id, partition_of(follow.subject, self._partitions)),
            ).fetchone()
            if row:
                marks[register.edge_id, follow.subject] = Mark(*row)
        return marks

    # -- writing the effects of cores ---------------------------------------------------------

    def write_user(self, user: str, effect: state.Effect) -> None:
        self.touched.users.add(user)
        match effect:
            case state.PutRegister(register):
                self._put_register(user, register)
            case state.DropRegister(client_id):
                self.db.execute(
                    "DELETE FROM registers WHERE user = ? AND client_id = ?", (user, client_id)
                )
                self.db.execute(
                    "DELETE FROM gone WHERE user = ? AND client_id = ?", (user, client_id)
                )
            case state.PutFollow(follow):
                self._put_follow(user, follow)
            case state.DropFollow(key):
                self._delete("follows", user, key)
            case state.PutWaiting(subject, client_id):
                self.db.execute(
                    "INSERT INTO waiting VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                    (subject, user, client_id),
                )
            case state.DropWaiting(subject, client_id):
                self.db.execute(
                    "DELETE FROM waiting WHERE subject = ? AND user = ? AND client_id = ?",
                    (subject, user, client_id),
                )
            case state.PutHandover(handover):
                self.db.execute(
                    "INSERT OR REPLACE INTO handovers VALUES (?, ?, ?, ?, ?, ?)",
                    (user, *handover.key, min(handover.after, _SEQ_MAX), handover.run),
                )
            case state.DropHandover(key):
                self._delete("handovers", user, key)
            case state.PutHold(hold):
                self.db.execute(
                    "INSERT OR REPLACE INTO holds VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (user, hold.subject, hold.first_seq, hold.client_id, hold.since, hold.acked,
                     hold.acked_pos),
                )  # fmt: skip
            case state.PutEndpoint(endpoint):
                self._put_endpoint(user, endpoint)
            case state.DropEndpoint(uri):
                self._drop_endpoint(user, uri, "ENDPOINT_REMOVED")
            case state.ForgetGone(client_id, uri):
                self.db.execute(
                    "DELETE FROM gone WHERE user = ? AND client_id = ? AND uri = ?",
                    (user, client_id, uri),
                )
            case state.Wake(subject):
                # Only what is held back: others wait for their own reasons.
                self.db.execute(
                    "UPDATE deliveries SET due_at = ? WHERE user = ? AND subject = ?"
                    " AND due_at IS NOT NULL AND held = 1",
                    (self._now, user, subject),
                )
            case state.ScheduleGrace():
                pass  # The register row holds the same time.
            case state.Notify() | state.Suppress():
                raise AssertionError("decisions are recorded by the outbox")

    def _put_register(self, user: str, row: Register) -> None:
        self.db.execute(
            "INSERT INTO registers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (user, client_id) DO UPDATE SET generation = excluded.generation,"
            " session_id = excluded.session_id, edge_id = excluded.edge_id,"
            " standing = excluded.standing, grace_until = excluded.grace_until,"
            " number = excluded.number, connected = excluded.connected, ended = excluded.ended,"
            " acknowledges = excluded.acknowledges, active = excluded.active,"
            " since = excluded.since",
            (user, row.client_id, row.generation, row.session_id, row.edge_id, row.standing.value,
             row.grace_until, row.number, row.connected, row.ended, row.acknowledges,
             row.active, row.since),
        )  # fmt: skip

    def _put_follow(self, user: str, row: Follow) -> None:
        self.db.execute(
            "INSERT OR REPLACE INTO follows VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (user, row.subject, row.client_id, row.opened, min(row.base, _SEQ_MAX),
             min(row.acked, _SEQ_MAX), row.acked_pos,
             row.ended, row.session_id, row.round, row.first_generation, row.last_generation),
        )  # fmt: skip

    def _delete(self, table: str, user: str, key: FollowKey) -> None:
        self.db.execute(
            f"DELETE FROM {table} WHERE user = ? AND subject = ? AND client_id = ? AND opened = ?",
            (user, *key),
        )

    def _put_endpoint(self, user: str, row: Endpoint) -> None:
        if row.uri.lower().startswith(_MOVING_SCHEMES):
            others = self.db.execute(
                "SELECT user FROM endpoints WHERE uri = ? AND user <> ?", (row.uri, user)
            ).fetchall()
            for (other,) in others:
                self._drop_endpoint(other, row.uri, "ENDPOINT_MOVED")
        self.db.execute(
            "INSERT INTO endpoints VALUES (?, ?, ?, ?, 0) ON CONFLICT (user, uri) DO UPDATE"
            " SET clients = excluded.clients, registered_at = excluded.registered_at",
            (user, row.uri, json.dumps(row.clients), row.registered_at),
        )
        # Registered anew: it is not gone, whatever was to be told.
        self.db.execute("DELETE FROM gone WHERE user = ? AND uri = ?", (user, row.uri))

    def _drop_endpoint(self, user: str, uri: str, reason: str) -> None:
        self.db.execute("DELETE FROM endpoints WHERE user = ? AND uri = ?", (user, uri))
        self._cancel_deliveries(user, uri, reason)

    def _cancel_deliveries(self, user: str, uri: str, reason: str) -> None:
        self.touched.users.add(user)
        self.db.execute(
            "UPDATE deliveries SET state = 'cancelled', due_at = NULL, held = 0, reason = ?"
            " WHERE user = ? AND uri = ? AND due_at IS NOT NULL",
            (reason, user, uri),
        )

    # -- finding ------------------------------------------------------------------------------

    def users_waiting(
        self, subject: str, after_user: str = "", limit: int = 1_000
    ) -> Sequence[str]:
        rows = self.db.execute(
            "SELECT DISTINCT user FROM waiting WHERE subject = ? AND user > ? ORDER BY user"
            " LIMIT ?",
            (subject, after_user, limit),
        )
        return [row[0] for row in rows]

    def waiting_subjects(self, subjects: Sequence[str]) -> frozenset[str]:
        rows = self.db.execute(
            "SELECT value FROM json_each(?) WHERE EXISTS"
            " (SELECT 1 FROM waiting WHERE waiting.subject = value)",
            (json.dumps(list(subjects)),),
        )
        return frozenset(row[0] for row in rows)

    def put_fanout(self, fanout: FanOut) -> None:
        self.db.execute(
            "INSERT OR REPLACE INTO fanouts VALUES (?, ?, ?, ?, ?)",
            (fanout.subject, fanout.seq, fanout.pos, fanout.publisher, fanout.after_user),
        )

    def drop_fanout(self, subject: str, seq: int) -> None:
        self.db.execute("DELETE FROM fanouts WHERE subject = ? AND seq = ?", (subject, seq))

    def open_fanouts(self, limit: int) -> Sequence[FanOut]:
        rows = self.db.execute(
            "SELECT subject, seq, pos, publisher, after_user FROM fanouts LIMIT ?", (limit,)
        )
        return [FanOut(*row) for row in rows]

    def graces_due(self, limit: int) -> Sequence[GraceDue]:
        rows = self.db.execute(
            "SELECT user, client_id, generation, grace_until FROM registers"
            " WHERE standing = 'grace' AND grace_until <= ? ORDER BY grace_until LIMIT ?",
            (self._now, limit),
        )
        return [GraceDue(*row) for row in rows]

    def next_grace(self) -> float | None:
        row = self.db.execute(
            "SELECT min(grace_until) FROM registers WHERE standing = 'grace'"
        ).fetchone()
        return float(row[0]) if row[0] is not None else None

    def edges_online(self) -> Sequence[int]:
        # From edge to edge in the index; DISTINCT would visit every client online.
        rows = self.db.execute(
            "WITH RECURSIVE edge(id) AS ("
            " SELECT min(edge_id) FROM registers WHERE standing = 'online' UNION ALL"
            " SELECT (SELECT min(r.edge_id) FROM registers AS r WHERE r.standing = 'online'"
            "  AND r.edge_id > edge.id) FROM edge WHERE edge.id IS NOT NULL)"
            " SELECT id FROM edge WHERE id IS NOT NULL"
        )
        return [row[0] for row in rows]

    def clients_of_edge(self, edge_id: int, limit: int) -> Sequence[tuple[str, str]]:
        rows = self.db.execute(
            "SELECT user, client_id FROM registers WHERE standing = 'online' AND edge_id = ?"
            " LIMIT ?",
            (edge_id, limit),
        )
        return [(row[0], row[1]) for row in rows]

    def open_handovers(self, limit: int) -> Sequence[tuple[str, Handover]]:
        rows = self.db.execute(
            "SELECT user, subject, client_id, opened, after, run FROM handovers LIMIT ?", (limit,)
        )
        return [(row[0], Handover(FollowKey(*row[1:4]), row[4], row[5])) for row in rows]

    def handover(self, user: str, key: FollowKey) -> Handover | None:
        row = self.db.execute(
            "SELECT after, run FROM handovers WHERE user = ? AND subject = ? AND client_id = ?"
            " AND opened = ?",
            (user, *key),
        ).fetchone()
        return Handover(key, *row) if row else None

    def clients_unseen(
        self, before: float, after: tuple[float, str, str], limit: int
    ) -> Sequence[tuple[float, str, str]]:
        rows = self.db.execute(
            "SELECT since, user, client_id FROM registers WHERE standing = 'offline'"
            " AND since < ? AND (since, user, client_id) > (?, ?, ?)"
            " ORDER BY since, user, client_id LIMIT ?",
            (before, *after, limit),
        )
        return [(row[0], row[1], row[2]) for row in rows]

    def holds(self, user: str, subject: str, first_seq: int) -> Mapping[str, Hold]:
        rows = self.db.execute(
            "SELECT client_id, since, acked, acked_pos FROM holds"
            " WHERE user = ? AND subject = ? AND first_seq = ?",
            (user, subject, first_seq),
        )
        return {row[0]: Hold(subject, first_seq, *row) for row in rows}

    def subjects_with_ended_follows(self, after: str, limit: int) -> Sequence[str]:
        rows = self.db.execute(
            "SELECT DISTINCT subject FROM follows WHERE ended = 1 AND subject > ?"
            " ORDER BY subject LIMIT ?",
            (after, limit),
        )
        return [row[0] for row in rows]

    def users_with_ended_follows(self, subject: str, after: str, limit: int) -> Sequence[str]:
        rows = self.db.execute(
            "SELECT DISTINCT user FROM follows WHERE ended = 1 AND subject = ? AND user > ?"
            " ORDER BY user LIMIT ?",
            (subject, after, limit),
        )
        return [row[0] for row in rows]

    # -- marks --------------------------------------------------------------------------------

    def put_mark(self, edge_id: int, partition: int, round_: int, pos: int) -> None:
        self.db.execute(
            "INSERT INTO marks VALUES (?, ?, ?, ?, ?) ON CONFLICT (edge_id, partition) DO UPDATE"
            " SET round = max(round, excluded.round), pos = max(pos, excluded.pos),"
            " at = excluded.at",
            (edge_id, partition, round_, pos, self._now),
        )

    def prune_marks(self, live_edges: Sequence[int], older_than: float) -> int:
        done = self.db.execute(
            "DELETE FROM marks WHERE at < ? AND edge_id NOT IN (SELECT value FROM json_each(?))"
            " AND NOT EXISTS (SELECT 1 FROM registers WHERE registers.edge_id = marks.edge_id)",
            (older_than, json.dumps(list(live_edges))),
        )
        return done.rowcount

    # -- endpoints that are gone, or unwilling ------------------------------------------------

    def gone_endpoints(self, user: str, client_id: str) -> Sequence[str]:
        rows = self.db.execute(
            "SELECT uri FROM gone WHERE user = ? AND client_id = ? ORDER BY at, uri",
            (user, client_id),
        )
        return [row[0] for row in rows]

    def uris(self, user: str) -> Mapping[str, bool]:
        rows = self.db.execute(
            "SELECT uri, opted_out FROM endpoints WHERE user = ? ORDER BY uri", (user,)
        )
        return {row[0]: bool(row[1]) for row in rows}

    def uris_of(self, users: Sequence[str]) -> Mapping[str, Mapping[str, bool]]:
        found: dict[str, dict[str, bool]] = {}
        for user, uri, opted_out in self.db.execute(
            "SELECT e.user, e.uri, e.opted_out FROM json_each(?) CROSS JOIN endpoints AS e"
            " ON e.user = value ORDER BY e.uri",
            (json.dumps(list(users)),),
        ):
            found.setdefault(user, {})[uri] = bool(opted_out)
        return found

    def opt_out(self, user: str, uri: str) -> None:
        self.db.execute(
            "UPDATE endpoints SET opted_out = 1 WHERE user = ? AND uri = ?", (user, uri)
        )
        self._cancel_deliveries(user, uri, "OPTED_OUT")

    def remove_gone_endpoint(self, user: str, uri: str, before: float) -> bool:
        row = self.db.execute(
            "SELECT clients FROM endpoints WHERE user = ? AND uri = ? AND registered_at < ?",
            (user, uri, before),
        ).fetchone()
        if row is None:
            return False
        self._drop_endpoint(user, uri, "ENDPOINT_GONE")
        self.db.executemany(
            "INSERT OR IGNORE INTO gone VALUES (?, ?, ?, ?)",
            [(user, client_id, uri, self._now) for client_id in json.loads(row[0])],
        )
        return True


def _register(row: Sequence[Any]) -> Register:
    c, g, s, e, standing, until, n, connected, ended, acknowledges, active, since = row
    return Register(
        c, g, s, e, _STANDINGS[standing], until, n, bool(connected), bool(ended),
        bool(acknowledges), bool(active), since,
    )  # fmt: skip


def _follow(row: Sequence[Any]) -> Follow:
    s, c, opened, base, acked, pos, ended, session_id, round_, first, last = row
    return Follow(s, c, opened, base, acked, pos, bool(ended), session_id, round_, first, last)


def _where(subject: str | None) -> str:
    return "user = ?" if subject is None else "user = ? AND subject = ?"


def _of(user: str, subject: str | None) -> tuple[str, ...]:
    return (user,) if subject is None else (user, subject)
