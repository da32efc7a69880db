"""A transaction on any store that speaks SQL: all rows, cursors, counts, and whose log it is."""

from collections.abc import Mapping, Sequence

from services.presence.crowd_rows import AWAITED, CrowdRows
from services.presence.handed_rows import HandedTables
from services.presence.happening_rows import OBSERVED, HappeningTables
from services.presence.outbox_rows import OutboxTables
from services.presence.profile_rows import ProfileTables
from services.presence.sql import Sql, listed
from services.presence.state import Standing
from services.presence.store import Counts, Cursor, Mine
from services.presence.term_rows import TermTables
from services.presence.user_data_rows import UserDataTables
from services.presence.user_rows import OneUserRows


class SqlTransaction(
    OneUserRows,
    CrowdRows,
    OutboxTables,
    HandedTables,
    ProfileTables,
    UserDataTables,
    HappeningTables,
    TermTables,
):
    """Implements `store.Transaction`. `meta`: what stands in that table, if it was read already."""

    def __init__(
        self, db: Sql, partitions: int, mine: Mine, meta: dict[str, str] | None = None
    ) -> None:
        super().__init__(db, partitions, mine)
        self._meta_rows = meta
        # What was read ahead.
        self._cursors: dict[int, Cursor] = {}
        self._awaited: dict[str, bool] = {}

    def log_id(self) -> str:
        return self._meta("log_id")

    def adopt_log(self, log_id: str) -> None:
        assert not self.log_id(), "the store belongs to a log already"
        self._put_meta("log_id", log_id)

    def read_in_advance(self, partitions: Sequence[int], subjects: Sequence[str]) -> None:
        cursors, awaited, observed = self.db.rows_of_all(
            [
                (
                    "SELECT partition, pos, epoch FROM each_number(?)"
                    " CROSS JOIN cursors ON partition = value",
                    (listed(partitions),),
                ),
                (AWAITED, (listed(subjects),)),
                (OBSERVED, ()),
            ]
        )
        self.observed = bool(observed[0][0])
        self._cursors = dict.fromkeys(partitions, Cursor())
        self._cursors |= {row[0]: Cursor(row[1], row[2]) for row in cursors}
        self._awaited = dict.fromkeys(subjects, False) | {row[0]: True for row in awaited}

    def read_users_in_advance(self, users: Sequence[str]) -> None:
        if users:
            self.keep_ahead(users, self.db.rows_of_all(self.users_ahead(users)))

    def waiting_subjects(self, subjects: Sequence[str]) -> frozenset[str]:
        if all(subject in self._awaited for subject in subjects):
            return frozenset(subject for subject in subjects if self._awaited[subject])
        return super().waiting_subjects(subjects)

    def cursor(self, partition: int) -> Cursor:
        if partition in self._cursors:
            return self._cursors[partition]
        rows = self.db.rows("SELECT pos, epoch FROM cursors WHERE partition = ?", (partition,))
        return Cursor(*rows[0]) if rows else Cursor()

    def put_cursor(self, partition: int, cursor: Cursor) -> None:
        self._cursors[partition] = cursor
        self.db.execute(
            "INSERT INTO cursors VALUES (?, ?, ?) ON CONFLICT (partition)"
            " DO UPDATE SET pos = excluded.pos, epoch = excluded.epoch",
            (partition, cursor.pos, cursor.epoch),
        )
        self.touched.partitions.add(partition)

    def cursors(self) -> Mapping[int, Cursor]:
        rows = self.db.rows("SELECT partition, pos, epoch FROM cursors ORDER BY partition")
        return {row[0]: Cursor(row[1], row[2]) for row in rows}

    def counts(self) -> Counts:
        named, handovers, fanouts = self.db.rows_of_all(
            [
                # Each term counts in rows of its own.
                ("SELECT name, sum(count) FROM counts GROUP BY name", ()),
                ("SELECT count(*) FROM handovers", ()),
                ("SELECT count(*) FROM fanouts", ()),
            ]
        )
        rows = {row[0]: int(row[1]) for row in named}
        return Counts(
            deliveries={
                name.partition("/")[2]: count
                for name, count in rows.items()
                if name.startswith("delivery/") and count
            },
            clients_online=rows.get("client/online", 0),
            clients_in_grace=rows.get("client/grace", 0),
            clients_waiting=rows.get("client/waiting", 0),
            clients_known=sum(rows.get(f"client/{one.value}", 0) for one in Standing),
            handovers=handovers[0][0],
            fanouts=fanouts[0][0],
        )

    def _meta(self, name: str) -> str:
        if self._meta_rows is None:
            self._meta_rows = {
                row[0]: row[1] for row in self.db.rows("SELECT name, value FROM meta")
            }
        return self._meta_rows.get(name, "")

    def _put_meta(self, name: str, value: str) -> None:
        if self._meta_rows is not None:
            self._meta_rows[name] = value
        self.db.execute(
            "INSERT INTO meta VALUES (?, ?)"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (name, value),
        )
