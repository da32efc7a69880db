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
    "INSERT INTO happening_tails VALUES (?, ?, ?) ON CONFLICT (partition)"
    " DO UPDATE SET number = happening_tails.number + excluded.number,"
    " total = happening_tails.total + excluded.total RETURNING number, total"
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
_FIRST = "SELECT number, at, total FROM happenings WHERE partition = ? ORDER BY number LIMIT 1"
_DELETE = (
    "DELETE FROM happenings WHERE partition = ? AND number < ?"
    " AND (number <= ? OR at < ? OR total <= ?) RETURNING number"
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
        grown = [(p, len(parts[p]), sum(len(one.payload) for one in parts[p])) for p in order]
        tails = self.db.rows_of_all([(_GROW, one) for one in grown])
        now = self.now()
        rows: list[Row] = []
        for (partition, count, size), [[tail, total]] in zip(grown, tails, strict=True):
            total -= size
            for number, one in enumerate(parts[partition], tail - count + 1):
                subject = "" if one.payload else one.key
                total += len(one.payload)
                rows.append((partition, number, subject, one.seq, one.payload, now, total))
        columns = "partition, number, subject, seq, payload, at, total"
        self.db.insert_all("happenings", columns, rows)
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

    def presence_after(
        self, partition: int, number: int, limit: int
    ) -> Sequence[tuple[int, bytes]]:
        rows = self.db.rows(
            "SELECT number, payload FROM happenings"
            " WHERE partition = ? AND number > ? AND subject = '' ORDER BY number LIMIT ?",
            (partition, number, limit),
        )
        return [(row[0], bytes(row[1])) for row in rows]

    def drop_happenings(self, partition: int, numbers: Collection[int]) -> None:
        self.db.execute(
            "DELETE FROM happenings WHERE partition = ?"
            " AND number IN (SELECT value FROM each_number(?))",
            (partition, listed(numbers)),
        )

    def happenings_kept(self) -> Sequence[tuple[int, int]]:
        tails, *firsts = self.db.rows_of_all(
            [
                ("SELECT partition, number, total FROM happening_tails", ()),
                *((_FIRST, (partition,)) for partition in sorted(self.mine.partitions)),
            ]
        )
        tail_of = {partition: (number, total) for partition, number, total in tails}
        kept = []
        for partition, first in zip(sorted(self.mine.partitions), firsts, strict=True):
            if first:
                [(number, _, total)] = first
                tail, whole = tail_of[partition]
                kept.append((tail - number + 1, whole - total))
        return kept

    def trim_happenings(self, before: float, keep_max: int, bytes_max: int, limit: int) -> int:
        mine = sorted(self.mine.partitions)
        acknowledged, tails, *firsts = self.db.rows_of_all(
            [
                ("SELECT partition, min(number) FROM extension_cursors GROUP BY partition", ()),
                ("SELECT partition, number, total FROM happening_tails", ()),
                *((_FIRST, (partition,)) for partition in mine),
            ]
        )
        floor_of: dict[int, int] = dict(acknowledged)
        tail_of = {partition: (number, total) for partition, number, total in tails}
        deleted = 0
        for partition, first in zip(mine, firsts, strict=True):
            if not first or deleted >= limit:
                continue
            [(number, at, total)] = first
            tail, whole = tail_of[partition]
            beyond = whole - bytes_max
            # Without any extension nobody is to be told any of it.
            floor = max(floor_of.get(partition, tail), tail - keep_max)
            if number <= floor or at < before or total <= beyond:
                end = number + limit - deleted
                deleted += len(self.db.rows(_DELETE, (partition, end, floor, before, beyond)))
        return deleted
