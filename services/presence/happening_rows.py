"""Reads and writes happenings and the positions of extensions: `happenings.HappeningRows`.

The row of a partition's tail is what gives numbers: whoever appends holds it until the commit, so
that numbers have no hole, and whoever sees one sees all below it. A number below that is not there
was deleted.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from services.chassis.subjects import partition_of
from services.presence.happenings import Happened, Happening, Page
from services.presence.rows import Rows
from services.presence.sql import Row, Statement, listed

OBSERVED = "SELECT EXISTS (SELECT 1 FROM extension_cursors)"
_GROW = (
    "INSERT INTO happening_tails VALUES (?, ?) ON CONFLICT (partition)"
    " DO UPDATE SET number = happening_tails.number + excluded.number RETURNING number"
)
_POSITIONS = (
    "SELECT c.partition, c.number, coalesce(t.number, 0) FROM each_number(?)"
    " CROSS JOIN extension_cursors AS c ON c.partition = value"
    " LEFT JOIN happening_tails AS t ON t.partition = c.partition WHERE c.extension = ?"
    " ORDER BY c.partition"
)
_PAGE = (
    "SELECT number, subject, seq, payload, at FROM (SELECT number, subject, seq, payload, at,"
    " sum(length(payload)) OVER (ORDER BY number) AS total, row_number() OVER (ORDER BY number)"
    " AS place FROM (SELECT number, subject, seq, payload, at FROM happenings"
    " WHERE partition = ? AND number > ? ORDER BY number LIMIT ?) AS next) AS page"
    " WHERE place = 1 OR total <= ? ORDER BY number"
)
_REGISTER = (
    "INSERT INTO extension_cursors SELECT CAST(? AS text), value, coalesce(t.number, 0)"
    " FROM each_number(?) LEFT JOIN happening_tails AS t ON t.partition = value WHERE true"
    " ON CONFLICT DO NOTHING"
)
_FIRST = "SELECT number, at FROM happenings WHERE partition = ? ORDER BY number LIMIT 1"
_DELETE = (
    "DELETE FROM happenings WHERE partition = ? AND number < ? AND (number <= ? OR at < ?)"
    " RETURNING number"
)


class HappeningTables(Rows):
    """Happenings, their tails, and the positions of extensions."""

    # Whether there are extensions, if it was read already.
    observed: bool | None = None

    def is_observed(self) -> bool:
        if self.observed is None:
            self.observed = bool(self.db.rows(OBSERVED)[0][0])
        return self.observed

    def append_happenings(self, happened: Sequence[Happened]) -> None:
        parts: dict[int, list[Happened]] = defaultdict(list)
        for one in happened:
            parts[partition_of(one.key, self.partitions)].append(one)
        # All who append take the rows in this order, and so nobody waits for one who waits.
        order = sorted(parts)
        tails = self.db.rows_of_all([(_GROW, (p, len(parts[p]))) for p in order])
        now = self.now()
        rows: list[Row] = []
        for partition, [[tail]] in zip(order, tails, strict=True):
            first = tail - len(parts[partition]) + 1
            for number, one in enumerate(parts[partition], first):
                subject = "" if one.payload else one.key
                rows.append((partition, number, subject, one.seq, one.payload, now))
        self.db.insert_all("happenings", "partition, number, subject, seq, payload, at", rows)
        self.touched.happenings.update(order)

    def happenings_after(
        self, extension: str, partitions: Collection[int], limit: int, bytes_max: int
    ) -> Sequence[Page]:
        found = self.db.rows(_POSITIONS, (listed(sorted(partitions)), extension))
        # Positions are read first: what is above them by then is there, or was deleted.
        asked: list[Statement] = [(_PAGE, (row[0], row[1], limit, bytes_max)) for row in found]
        pages = self.db.rows_of_all(asked)
        return [
            Page(
                partition,
                after,
                tail,
                [
                    Happening(partition, n, subject, seq, bytes(p), at)
                    for n, subject, seq, p, at in of
                ],
            )
            for (partition, after, tail), of in zip(found, pages, strict=True)
        ]

    def partitions_behind(self, extension: str) -> Sequence[int]:
        rows = self.db.rows(
            "SELECT c.partition FROM extension_cursors AS c JOIN happening_tails AS t"
            " ON t.partition = c.partition WHERE c.extension = ? AND c.number < t.number"
            " ORDER BY c.partition",
            (extension,),
        )
        return [row[0] for row in rows if row[0] in self.mine.partitions]

    def move_extension(self, extension: str, numbers: Mapping[int, int]) -> None:
        for partition, number in sorted(numbers.items()):
            if partition in self.mine.partitions:
                self.db.execute(
                    "UPDATE extension_cursors SET number = ?"
                    " WHERE extension = ? AND partition = ? AND number < ?",
                    (number, extension, partition, number),
                )

    def register_extension(self, extension: str) -> None:
        self.db.execute(_REGISTER, (extension, listed(range(self.partitions))))

    def forget_extension(self, extension: str) -> bool:
        deleted = self.db.rows(
            "DELETE FROM extension_cursors WHERE extension = ? RETURNING partition", (extension,)
        )
        return bool(deleted)

    def extensions_behind(self) -> Mapping[str, int]:
        rows = self.db.rows(
            "SELECT c.extension, sum(coalesce(t.number, 0) - c.number) FROM extension_cursors AS c"
            " LEFT JOIN happening_tails AS t ON t.partition = c.partition"
            " GROUP BY c.extension ORDER BY c.extension"
        )
        # A sum is of another type in some stores.
        return {row[0]: max(0, int(row[1])) for row in rows}

    def trim_happenings(self, before: float, keep_max: int, limit: int) -> int:
        mine = sorted(self.mine.partitions)
        acknowledged, tails, *firsts = self.db.rows_of_all(
            [
                ("SELECT partition, min(number) FROM extension_cursors GROUP BY partition", ()),
                ("SELECT partition, number FROM happening_tails", ()),
                *((_FIRST, (partition,)) for partition in mine),
            ]
        )
        floor_of: dict[int, int] = dict(acknowledged)
        tail_of: dict[int, int] = dict(tails)
        deleted = 0
        for partition, first in zip(mine, firsts, strict=True):
            if not first or deleted >= limit:
                continue
            [(number, at)] = first
            tail = tail_of[partition]
            # Without any extension nobody is to be told any of it.
            floor = max(floor_of.get(partition, tail), tail - keep_max)
            if number <= floor or at < before:
                end = number + limit - deleted
                deleted += len(self.db.rows(_DELETE, (partition, end, floor, before)))
        return deleted
