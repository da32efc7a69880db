"""Finds rows across users: who waits, whose time has come, who is at an edge, what is unfinished.

Part of `store.UserRows`. Also keeps marks and fan-outs, which are nobody's own.
"""

from collections.abc import Collection, Mapping, Sequence

from services.chassis.subjects import partition_of
from services.presence.plan import decode, encode
from services.presence.rows import Rows
from services.presence.sql import listed
from services.presence.state import FollowKey, Handover
from services.presence.store import FanOut, GraceDue

# Those of the listed subjects that anybody waits for.
AWAITED = (
    "SELECT value FROM each_text(?) WHERE EXISTS"
    " (SELECT 1 FROM waiting WHERE waiting.subject = value)"
)
_WAITING = "SELECT DISTINCT user FROM waiting WHERE subject = ? AND user > ? ORDER BY user LIMIT ?"
_FOLLOWING = (
    "SELECT DISTINCT user FROM follows WHERE subject = ? AND ended = 0 AND user > ?"
    " ORDER BY user LIMIT ?"
)
_MINE = "partition IN (SELECT value FROM each_number(?))"


class CrowdRows(Rows):
    """Rows across users."""

    # -- who waits ----------------------------------------------------------------------------

    def users_waiting(
        self, subject: str, after_user: str = "", limit: int = 1_000
    ) -> Sequence[str]:
        return [row[0] for row in self.db.rows(_WAITING, (subject, after_user, limit))]

    def users_following(
        self, subject: str, after_user: str = "", limit: int = 1_000
    ) -> Sequence[str]:
        return [row[0] for row in self.db.rows(_FOLLOWING, (subject, after_user, limit))]

    def crowds(
        self, subjects: Sequence[str], limit: int, following: Collection[str] = ()
    ) -> Mapping[str, Sequence[str]]:
        pages = self.db.rows_of_all(
            [
                (_FOLLOWING if subject in following else _WAITING, (subject, "", limit))
                for subject in subjects
            ]
        )
        return {
            subject: [row[0] for row in rows] for subject, rows in zip(subjects, pages, strict=True)
        }

    def waiting_subjects(self, subjects: Sequence[str]) -> frozenset[str]:
        if not subjects:
            return frozenset()
        rows = self.db.rows(AWAITED, (listed(subjects),))
        return frozenset(row[0] for row in rows)

    def put_fanout(self, fanout: FanOut) -> None:
        self.db.execute(
            "INSERT INTO fanouts (subject, seq, pos, publisher, after_user, partition, plan)"
            " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (subject, seq) DO UPDATE"
            " SET pos = excluded.pos, publisher = excluded.publisher,"
            " after_user = excluded.after_user",
            (fanout.subject, fanout.seq, fanout.pos, fanout.publisher, fanout.after_user,
             partition_of(fanout.subject, self.partitions), encode(fanout.plan)),
        )  # fmt: skip

    def drop_fanout(self, subject: str, seq: int) -> None:
        self.db.execute("DELETE FROM fanouts WHERE subject = ? AND seq = ?", (subject, seq))

    def open_fanouts(self, limit: int) -> Sequence[FanOut]:
        rows = self.db.rows(
            "SELECT subject, seq, pos, publisher, after_user, plan FROM fanouts"
            f" WHERE {_MINE} LIMIT ?",
            (listed(self.mine.partitions), limit),
        )
        return [
            FanOut(subject, seq, pos, publisher, after, decode(plan))
            for subject, seq, pos, publisher, after, plan in rows
        ]

    # -- whose time has come ------------------------------------------------------------------

    def graces_due(self, limit: int) -> Sequence[GraceDue]:
        rows = self.db.rows(
            "SELECT user, client_id, generation, grace_until FROM registers"
            f" WHERE standing = 'grace' AND grace_until <= ? AND {_MINE}"
            " ORDER BY grace_until LIMIT ?",
            (self.now(), listed(self.mine.partitions), limit),
        )
        return [GraceDue(*row) for row in rows]

    def next_grace(self) -> float | None:
        rows = self.db.rows(
            f"SELECT grace_until FROM registers WHERE standing = 'grace' AND {_MINE}"
            " ORDER BY grace_until LIMIT 1",
            (listed(self.mine.partitions),),
        )
        return float(rows[0][0]) if rows else None

    def clients_unseen(
        self, before: float, after: tuple[float, str, str], limit: int
    ) -> Sequence[tuple[float, str, str]]:
        rows = self.db.rows(
            "SELECT since, user, client_id FROM registers WHERE standing = 'offline'"
            " AND since < ? AND (since, user, client_id) > (?, ?, ?)"
            " ORDER BY since, user, client_id LIMIT ?",
            (before, *after, limit),
        )
        return [(row[0], row[1], row[2]) for row in rows]

    # -- who is at an edge --------------------------------------------------------------------

    def edges_online(self) -> Sequence[int]:
        # From edge to edge in the index; DISTINCT would visit every client online.
        rows = self.db.rows(
            "WITH RECURSIVE edge(id) AS ("
            " SELECT min(edge_id) FROM registers WHERE standing = 'online' UNION ALL"
            " SELECT (SELECT min(r.edge_id) FROM registers AS r WHERE r.standing = 'online'"
            "  AND r.edge_id > edge.id) FROM edge WHERE edge.id IS NOT NULL)"
            " SELECT id FROM edge WHERE id IS NOT NULL"
        )
        return [row[0] for row in rows]

    def clients_of_edge(self, edge_id: int, limit: int) -> Sequence[tuple[str, str]]:
        rows = self.db.rows(
            "SELECT user, client_id FROM registers WHERE standing = 'online' AND edge_id = ?"
            f" AND {_MINE} LIMIT ?",
            (edge_id, listed(self.mine.partitions), limit),
        )
        return [(row[0], row[1]) for row in rows]

    def count_clients_of_edge(self, edge_id: int, at_most: int) -> int:
        rows = self.db.rows(
            "SELECT count(*) FROM (SELECT 1 FROM registers WHERE standing = 'online'"
            " AND edge_id = ? LIMIT ?) AS online",
            (edge_id, at_most),
        )
        return int(rows[0][0])

    def clients_idle(
        self, before: float, after: tuple[float, str, str], limit: int
    ) -> Sequence[tuple[float, str, str]]:
        rows = self.db.rows(
            "SELECT since, user, client_id FROM registers WHERE standing = 'online' AND active = 0"
            " AND away <> generation AND since <= ? AND (since, user, client_id) > (?, ?, ?)"
            f" AND acknowledges = 1 AND {_MINE} ORDER BY since, user, client_id LIMIT ?",
            (before, *after, listed(self.mine.partitions), limit),
        )
        return [(row[0], row[1], row[2]) for row in rows]

    def put_mark(self, edge_id: int, partition: int, round_: int, pos: int) -> None:
        self.read_ahead.clear()
        self.db.execute(
            "INSERT INTO marks (edge_id, partition, round, pos, at) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (partition, edge_id) DO UPDATE SET"
            " round = CASE WHEN marks.round < excluded.round THEN excluded.round"
            " ELSE marks.round END,"
            " pos = CASE WHEN marks.pos < excluded.pos THEN excluded.pos ELSE marks.pos END,"
            " at = excluded.at",
            (edge_id, partition, round_, pos, self.now()),
        )

    def prune_marks(self, live_edges: Sequence[int], older_than: float) -> int:
        pruned = self.db.rows(
            "DELETE FROM marks WHERE at < ? AND edge_id NOT IN (SELECT value FROM each_number(?))"
            " AND NOT EXISTS (SELECT 1 FROM registers WHERE registers.edge_id = marks.edge_id)"
            " RETURNING 1",
            (older_than, listed(live_edges)),
        )
        return len(pruned)

    # -- what is unfinished -------------------------------------------------------------------

    def open_handovers(self, limit: int) -> Sequence[tuple[str, Handover]]:
        rows = self.db.rows(
            "SELECT user, subject, client_id, opened, after, run FROM handovers"
            f" WHERE {_MINE} LIMIT ?",
            (listed(self.mine.partitions), limit),
        )
        return [(row[0], Handover(FollowKey(*row[1:4]), row[4], row[5])) for row in rows]

    def subjects_with_ended_follows(self, after: str, limit: int) -> Sequence[str]:
        rows = self.db.rows(
            "SELECT DISTINCT subject FROM follows WHERE ended = 1 AND subject > ?"
            " ORDER BY subject LIMIT ?",
            (after, limit),
        )
        return [row[0] for row in rows]

    def users_with_ended_follows(self, subject: str, after: str, limit: int) -> Sequence[str]:
        rows = self.db.rows(
            "SELECT DISTINCT user FROM follows WHERE ended = 1 AND subject = ? AND user > ?"
            " ORDER BY user LIMIT ?",
            (subject, after, limit),
        )
        return [row[0] for row in rows]
