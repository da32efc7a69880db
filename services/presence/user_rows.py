"""Reads and writes the rows of one user: registers, follows, waiting, handovers, holds.

Part of `store.UserRows`; endpoints are in `endpoint_rows`, questions across users in `crowd_rows`.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from services.chassis.subjects import partition_of
from services.presence import state
from services.presence.endpoint_rows import EndpointRows
from services.presence.sql import Row, Statement, listed
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

# A seq that a client made up may be above what stores take; no real one comes near.
_SEQ_MAX = (1 << 63) - 1
_STANDINGS = {standing.value: standing for standing in Standing}

_REGISTER = (
    "client_id, generation, session_id, edge_id, standing, grace_until, number, connected, ended,"
    " acknowledges, active, since, away, connected_at, info"
)
_FOLLOW = (
    "subject, client_id, opened, base, acked, acked_pos, ended, session_id, round,"
    " first_generation, last_generation, started"
)
_HANDOVER = "subject, client_id, opened, after, run"
_ENDPOINT = "uri, clients, registered_at"
# All tables of a user's rows, in the order of `_states`.
_TABLES = {
    "registers": _REGISTER,
    "follows": _FOLLOW,
    "handovers": _HANDOVER,
    "waiting": "subject, client_id",
    "endpoints": _ENDPOINT,
}
_REGISTER_OF_R = ", ".join(f"r.{column.strip()}" for column in _REGISTER.split(","))
_FOLLOW_OF_F = ", ".join(f"f.{column.strip()}" for column in _FOLLOW.split(","))
_MARK = "SELECT round, pos FROM marks WHERE edge_id = ? AND partition = ?"


class OneUserRows(EndpointRows):
    """The rows of one user at a time, or of many for one subject."""

    # -- loading ------------------------------------------------------------------------------

    def load_user(self, user: str, subject: str | None = None) -> UserState:
        if subject is None and user in self.read_ahead:
            return self.read_ahead.pop(user)
        where = "user = ?" if subject is None else "user = ? AND subject = ?"
        of = (user,) if subject is None else (user, subject)
        found = self.db.rows_of_all(
            [
                (f"SELECT user, {_REGISTER} FROM registers WHERE user = ?", (user,)),
                (f"SELECT user, {_FOLLOW} FROM follows WHERE {where}", of),
                (f"SELECT user, {_HANDOVER} FROM handovers WHERE {where}", of),
                (f"SELECT user, subject, client_id FROM waiting WHERE {where}", of),
                (f"SELECT user, {_ENDPOINT} FROM endpoints WHERE user = ?", (user,)),
            ]
        )
        state_now = _states([user], *found)[user]
        asked = _marks_asked([state_now])
        marks: dict[tuple[int, str], Mark] = {}
        rows_of = self.db.rows_of_all(
            [(_MARK, (edge, partition_of(name, self.partitions))) for edge, name in asked]
        )
        for key, rows in zip(asked, rows_of, strict=True):
            if rows:
                marks[key] = Mark(*rows[0])
        return replace(state_now, marks=marks)

    def users_ahead(self, users: Sequence[str]) -> list[Statement]:
        """What reads all rows of these users, for `keep_ahead`."""
        asked = (listed(users),)
        return [
            (
                f"SELECT t.user, {', '.join(f't.{one.strip()}' for one in columns.split(','))}"
                f" FROM each_text(?) CROSS JOIN {table} AS t ON t.user = value",
                asked,
            )
            for table, columns in _TABLES.items()
        ]

    def keep_ahead(self, users: Sequence[str], found: Sequence[Sequence[Row]]) -> None:
        """Keep what `users_ahead` has found, with the marks that go with it."""
        states = _states(users, *found)
        asked = _marks_asked(states.values())
        partitions = {name: partition_of(name, self.partitions) for _, name in asked}
        known = {
            (row[0], row[1]): Mark(row[2], row[3])
            for row in self.db.rows(
                "SELECT edge_id, partition, round, pos FROM each_number(?)"
                " CROSS JOIN marks ON partition = value",
                (listed(set(partitions.values())),),
            )
        }
        for user, state_now in states.items():
            marks = {
                (edge, name): known[edge, partitions[name]]
                for edge, name in _marks_asked([state_now])
                if (edge, partitions[name]) in known
            }
            self.read_ahead[user] = replace(state_now, marks=marks)

    def load_followers(self, users: Sequence[str], subject: str) -> Mapping[str, UserState]:
        asked = listed(users)
        found_registers, found_follows = self.db.rows_of_all(
            [
                (
                    f"SELECT r.user, {_REGISTER_OF_R} FROM each_text(?)"
                    " CROSS JOIN registers AS r ON r.user = value",
                    (asked,),
                ),
                (
                    f"SELECT f.user, {_FOLLOW_OF_F} FROM each_text(?)"
                    " CROSS JOIN follows AS f ON f.user = value AND f.subject = ?",
                    (asked, subject),
                ),
            ]
        )
        registers: dict[str, dict[str, Register]] = {user: {} for user in users}
        for user, *columns in found_registers:
            registers[user][columns[0]] = _register(columns)
        follows: dict[str, dict[FollowKey, Follow]] = {user: {} for user in users}
        for user, *columns in found_follows:
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
        if not edges:
            return {}
        rows = self.db.rows(
            "SELECT edge_id, round, pos FROM each_number(?) CROSS JOIN marks"
            " ON partition = ? AND edge_id = value",
            (listed(edges), partition_of(subject, self.partitions)),
        )
        return {row[0]: Mark(row[1], row[2]) for row in rows}

    def holds(self, user: str, subject: str, first_seq: int) -> Mapping[str, Hold]:
        rows = self.db.rows(
            "SELECT client_id, since, acked, acked_pos FROM holds"
            " WHERE user = ? AND subject = ? AND first_seq = ?",
            (user, subject, first_seq),
        )
        return {row[0]: Hold(subject, first_seq, *row) for row in rows}

    # -- writing the effects of cores ---------------------------------------------------------

    def write_user(self, user: str, effect: state.Effect) -> None:
        self.touch([user])
        self.read_ahead.pop(user, None)
        match effect:
            case state.PutRegister(register):
                self._put_register(user, register)
            case state.DropRegister(client_id):
                for table in ("registers", "gone"):
                    self.db.execute(
                        f"DELETE FROM {table} WHERE user = ? AND client_id = ?", (user, client_id)
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
                    f"INSERT INTO handovers (user, {_HANDOVER}, partition)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?)"
                    " ON CONFLICT (user, subject, client_id, opened)"
                    " DO UPDATE SET after = excluded.after, run = excluded.run",
                    (user, *handover.key, min(handover.after, _SEQ_MAX), handover.run,
                     partition_of(user, self.partitions)),
                )  # fmt: skip
            case state.DropHandover(key):
                self._delete("handovers", user, key)
            case state.PutHold(hold):
                self._put_hold(user, hold)
            case state.PutEndpoint(endpoint):
                self.put_endpoint(user, endpoint)
            case state.DropEndpoint(uri):
                self.drop_endpoint(user, uri, "ENDPOINT_REMOVED")
            case state.ForgetGone(client_id, uri):
                self.forget_gone(user, client_id, uri)
            case state.Wake(subject):
                # Only what is held back: others wait for their own reasons.
                self.db.execute(
                    "UPDATE deliveries SET due_at = ? WHERE user = ? AND subject = ?"
                    " AND due_at IS NOT NULL AND held = 1",
                    (self.now(), user, subject),
                )
            case state.ScheduleGrace():
                pass  # The register row holds the same time.
            case state.Notify() | state.Suppress():
                raise AssertionError("decisions are recorded by the outbox")

    def _put_register(self, user: str, row: Register) -> None:
        self.db.execute(
            f"INSERT INTO registers (user, {_REGISTER}, partition)"
            f" VALUES ({', '.join('?' * 17)})"
            " ON CONFLICT (user, client_id) DO UPDATE SET generation = excluded.generation,"
            " session_id = excluded.session_id, edge_id = excluded.edge_id,"
            " standing = excluded.standing, grace_until = excluded.grace_until,"
            " number = excluded.number, connected = excluded.connected, ended = excluded.ended,"
            " acknowledges = excluded.acknowledges, active = excluded.active,"
            " since = excluded.since, away = excluded.away,"
            " connected_at = excluded.connected_at, info = excluded.info",
            (user, row.client_id, row.generation, row.session_id, row.edge_id, row.standing.value,
             row.grace_until, row.number, int(row.connected), int(row.ended),
             int(row.acknowledges), int(row.active), row.since,
             row.generation if row.away else 0,
             row.connected_at, row.info,
             partition_of(user, self.partitions)),
        )  # fmt: skip

    def _put_follow(self, user: str, row: Follow) -> None:
        self.db.execute(
            f"INSERT INTO follows (user, {_FOLLOW}) VALUES ({', '.join('?' * 13)})"
            " ON CONFLICT (user, subject, client_id, opened) DO UPDATE SET base = excluded.base,"
            " acked = excluded.acked, acked_pos = excluded.acked_pos, ended = excluded.ended,"
            " session_id = excluded.session_id, round = excluded.round,"
            " first_generation = excluded.first_generation,"
            " last_generation = excluded.last_generation, started = excluded.started",
            (user, row.subject, row.client_id, row.opened, min(row.base, _SEQ_MAX),
             min(row.acked, _SEQ_MAX), row.acked_pos, int(row.ended), row.session_id, row.round,
             row.first_generation, row.last_generation, min(row.started, _SEQ_MAX)),
        )  # fmt: skip

    def _put_hold(self, user: str, hold: Hold) -> None:
        self.db.execute(
            "INSERT INTO holds VALUES (?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (user, subject, first_seq, client_id) DO UPDATE SET"
            " since = excluded.since, acked = excluded.acked, acked_pos = excluded.acked_pos",
            (user, hold.subject, hold.first_seq, hold.client_id, hold.since, hold.acked,
             hold.acked_pos),
        )  # fmt: skip

    def _delete(self, table: str, user: str, key: FollowKey) -> None:
        self.db.execute(
            f"DELETE FROM {table} WHERE user = ? AND subject = ? AND client_id = ? AND opened = ?",
            (user, *key),
        )


def _states(
    users: Sequence[str],
    registers: Sequence[Row],
    follows: Sequence[Row],
    handovers: Sequence[Row],
    waiting: Sequence[Row],
    endpoints: Sequence[Row],
) -> dict[str, UserState]:
    """The users from their rows, each of which begins with the user; without marks."""
    registers_of: dict[str, dict[str, Register]] = {user: {} for user in users}
    follows_of: dict[str, dict[FollowKey, Follow]] = {user: {} for user in users}
    handovers_of: dict[str, dict[FollowKey, Handover]] = {user: {} for user in users}
    waiting_of: dict[str, set[tuple[str, str]]] = {user: set() for user in users}
    endpoints_of: dict[str, dict[str, Endpoint]] = {user: {} for user in users}
    for user, *columns in registers:
        registers_of[user][columns[0]] = _register(columns)
    for user, *columns in follows:
        follow = _follow(columns)
        follows_of[user][follow.key] = follow
    for user, subject, client_id, opened, after, run in handovers:
        key = FollowKey(subject, client_id, opened)
        handovers_of[user][key] = Handover(key, after, run)
    for user, subject, client_id in waiting:
        waiting_of[user].add((subject, client_id))
    for user, uri, clients, at in endpoints:
        endpoints_of[user][uri] = Endpoint(uri, tuple(json.loads(clients)), at)
    return {
        user: UserState(
            user,
            registers_of[user],
            follows_of[user],
            frozenset(waiting_of[user]),
            handovers_of[user],
            endpoints_of[user],
        )
        for user in users
    }


def _marks_asked(states: Iterable[UserState]) -> list[tuple[int, str]]:
    """Whose marks matter to these users: edge and subject of each open follow."""
    asked: dict[tuple[int, str], None] = {}
    for state_now in states:
        for follow in state_now.follows.values():
            register = state_now.registers.get(follow.client_id)
            if register is not None and not follow.ended:
                asked[register.edge_id, follow.subject] = None
    return list(asked)


def _register(row: Sequence[Any]) -> Register:
    c, g, s, e, standing, until, n, connected, ended, acknowledges, active, since, away, *rest = row
    # Of which session it was said: a service that does not know it leaves it as it is.
    is_away = away == g and not active and standing == Standing.ONLINE.value
    return Register(
        c, g, s, e, _STANDINGS[standing], until, n, bool(connected), bool(ended),
        bool(acknowledges), bool(active), since, is_away, *rest,
    )  # fmt: skip


def _follow(row: Row | Sequence[Any]) -> Follow:
    s, c, opened, base, acked, pos, ended, session_id, round_, *rest = row
    return Follow(s, c, opened, base, acked, pos, bool(ended), session_id, round_, *rest)
