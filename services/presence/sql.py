"""What the rows ask of a database connection, and the SQL that they speak to it.

The SQL is what SQLite and PostgreSQL both understand, and five words that each store writes in its
own way, once per statement: `?` is a parameter; `each_text(?)` and `each_number(?)` are a table
with the column `value` of the elements of a JSON list; `CROSS JOIN … ON` is an inner join whose
left side comes first, where the planner can be told; `user` is always the column; `FOR UPDATE`
locks rows where others write too. Booleans are the numbers 0 and 1, and lists are JSON.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

Row = tuple[Any, ...]
# SQL, and its parameters.
Statement = tuple[str, Sequence[Any]]


class Sql(Protocol):
    """One connection within one transaction, or between transactions if nothing is written."""

    def now(self) -> float:
        """The store's clock, in seconds."""

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """The rows that a statement returns. After everything that was executed before."""

    def rows_of_all(self, statements: Sequence[Statement]) -> list[list[Row]]:
        """As `rows`, of each of several statements, in one round trip."""

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        """Run a statement that returns nothing; at the latest with the next rows, or the commit,
        and that is also when its fault may be raised."""

    def lock(self, names: Sequence[str]) -> bool:
        """Wait until no other transaction has locked one of these names, and lock them until this
        one ends. False: there is no other, so that whatever was read before still holds."""

    def insert_all(self, table: str, columns: str, rows: Sequence[Row], conflict: str = "") -> None:
        """Insert rows, in their order, by one statement; `conflict` is its ON CONFLICT clause."""


def listed(values: Iterable[Any]) -> str:
    """A parameter for `each_text` and `each_number`."""
    return json.dumps(list(values))
