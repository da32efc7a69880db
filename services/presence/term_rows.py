"""Reads and writes terms and partitions: who works on the store, and what is whose.

A *term* is one membership of a presence service, named by its lease in etcd. It is open until it
ends in peace, or until another service closes it, because it takes over a partition that the term
still has: from then on nothing of that term commits. A partition is of one term, or of none once it
was let go.

Part of `store.Transaction`. Knows nothing of etcd: that a term may be closed is for others to say.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping

from services.chassis.subjects import partition_of
from services.presence.rows import Rows
from services.presence.sql import listed

# Versions that own presence as a whole are fenced by the epoch under this name. None of theirs can
# be above this one, so none of them writes beside terms.
_WHOLE_EPOCH = (1 << 63) - 1
# Rows of such a version do not say whose partition they are in; it is found out in pages.
PLACED_TABLES = ("registers", "handovers", "fanouts")
_PLACED_AT_ONCE = 5_000


class TermTables(Rows):
    """Terms and partitions."""

    # Terms that were to be closed last; whose rows may be waited for.
    closing: frozenset[int] = frozenset()

    def open_term(self, term: int, name: str) -> None:
        """Insert a term, and every partition that was never anybody's. What was open under the
        name is closed: it was this process, or one that it takes the place of."""
        # Whoever opens a term waits here for others who do: no two draw the same slot.
        self._fence_owners_of_all()
        self.close_terms(
            [own_id for own_id, of in self.open_terms().items() if of == name and own_id != term]
        )
        used = {row[0] for row in self.db.rows("SELECT slot FROM terms WHERE closed = 0")}
        slot = next(n for n in range(len(used) + 1) if n not in used)
        self.db.execute("INSERT INTO terms VALUES (?, ?, ?, 0)", (term, name, slot))
        self.db.insert_all(
            "partitions",
            "partition, epoch, term",
            [(partition, 0, 0) for partition in range(self.partitions)],
            "ON CONFLICT DO NOTHING",
        )
        self.db.execute("DELETE FROM meta WHERE name = 'unplaced'")

    def open_terms(self) -> dict[int, str]:
        """Terms that are not closed, with the names of their services."""
        return dict(self.db.rows("SELECT id, name FROM terms WHERE closed = 0 ORDER BY id"))

    def close_terms(self, terms: Collection[int]) -> None:
        """Nothing of these terms commits any more."""
        self.closing = frozenset(terms)
        if terms:
            self.db.execute(
                "UPDATE terms SET closed = 1 WHERE closed = 0"
                " AND id IN (SELECT value FROM each_number(?))",
                (listed(terms),),
            )

    def forget_terms(self) -> None:
        self.db.execute(
            "DELETE FROM terms WHERE closed = 1 AND NOT EXISTS (SELECT 1 FROM deliveries"
            " WHERE keeper = terms.id AND due_at IS NOT NULL) AND NOT EXISTS"
            " (SELECT 1 FROM deliveries WHERE keeper = terms.id AND state = 'sending')"
        )

    def claim(self, epochs: Mapping[int, int]) -> frozenset[int]:
        """Make partitions this term's, where the epoch is above the stored one; returns those that
        are. Terms that still have one of them are closed."""
        taken = [
            (p, epochs[p], term) for p, epoch, term in self._locked(epochs) if epoch < epochs[p]
        ]
        self.close_terms({term for *_, term in taken if term not in (0, self.mine.term)})
        for partition, epoch, _ in taken:
            self.db.execute(
                "UPDATE partitions SET epoch = ?, term = ? WHERE partition = ?",
                (epoch, self.mine.term, partition),
            )
        return frozenset(partition for partition, *_ in taken)

    def release(self, partitions: Collection[int]) -> None:
        """Let partitions of this term go: who takes them need not close it."""
        own = [p for p, _, term in self._locked(partitions) if term == self.mine.term]
        self.db.execute(
            "UPDATE partitions SET term = 0 WHERE partition IN (SELECT value FROM each_number(?))",
            (listed(own),),
        )

    def _locked(self, partitions: Collection[int]) -> list[tuple[int, int, int]]:
        """(partition, epoch, term) of each, locked in one order."""
        rows = self.db.rows(
            "SELECT partition, epoch, term FROM partitions"
            " WHERE partition IN (SELECT value FROM each_number(?)) ORDER BY partition FOR UPDATE",
            (listed(sorted(partitions)),),
        )
        return [(row[0], row[1], row[2]) for row in rows]

    def _fence_owners_of_all(self) -> None:
        self.db.execute("UPDATE meta SET value = ? WHERE name = 'epoch'", (str(_WHOLE_EPOCH),))

    def place_page(self, table: str, after: str) -> str | None:
        """Find out the partitions of rows that a former version wrote: of the next keys above
        `after`. Returns the last of them; None: there are no more."""
        if not self.db.rows("SELECT 1 FROM meta WHERE name = 'unplaced'"):
            return None
        self._fence_owners_of_all()
        key = "subject" if table == "fanouts" else "user"
        found = self.db.rows(
            f"SELECT DISTINCT {key} FROM {table} WHERE {key} > ? AND partition < 0"
            f" ORDER BY {key} LIMIT ?",
            (after, _PLACED_AT_ONCE),
        )
        by_partition: dict[int, list[str]] = defaultdict(list)
        for (value,) in found:
            by_partition[partition_of(value, self.partitions)].append(value)
        for partition, values in by_partition.items():
            self.db.execute(
                f"UPDATE {table} SET partition = ?"
                f" WHERE {key} IN (SELECT value FROM each_text(?)) AND partition < 0",
                (partition, listed(values)),
            )
        return found[-1][0] if found else None
