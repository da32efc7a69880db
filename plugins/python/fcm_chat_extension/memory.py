"""What the extension remembers, in one SQLite file: users, positions, and what was pushed.

What an answer acknowledges is committed before it: users with the position in one transaction, and
each push as soon as it is made. So after a crash the file says what need not be done again.
"""

import json
import sqlite3
from collections.abc import Iterable
from contextlib import contextmanager

from offline import Client, Event, User, joined

_SCHEMA = """
CREATE TABLE IF NOT EXISTS positions (
  partition INTEGER PRIMARY KEY, number INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS users (
  user TEXT PRIMARY KEY, partition INTEGER NOT NULL, tokens TEXT NOT NULL,
  nobody_there INTEGER NOT NULL, offline INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS users_by_partition ON users (partition);
CREATE TABLE IF NOT EXISTS clients (
  user TEXT NOT NULL, client_id TEXT NOT NULL, generation INTEGER NOT NULL,
  offline INTEGER NOT NULL, subjects TEXT NOT NULL, PRIMARY KEY (user, client_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS follows (
  subject TEXT NOT NULL, user TEXT NOT NULL, PRIMARY KEY (subject, user)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS follows_by_user ON follows (user);
-- Pushes of the message of a partition that is being pushed.
CREATE TABLE IF NOT EXISTS pushed (
  partition INTEGER NOT NULL, number INTEGER NOT NULL, token TEXT NOT NULL,
  PRIMARY KEY (partition, number, token)
) WITHOUT ROWID;
-- Tokens that the provider does not know any more.
CREATE TABLE IF NOT EXISTS gone (token TEXT PRIMARY KEY) WITHOUT ROWID;
"""


class Memory:
    """The file at `path`. Its calls take a moment, and do not await."""

    def __init__(self, path: str) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """End; nothing is lost."""
        self._db.close()

    def position(self, partition: int) -> int:
        """The last number of the partition that was taken; 0: none."""
        rows = self._db.execute(
            "SELECT number FROM positions WHERE partition = ?", (partition,)
        ).fetchall()
        return rows[0][0] if rows else 0

    # -- presence -----------------------------------------------------------------------------

    def take(self, partition: int, events: Iterable[tuple[int, str, Event]]) -> None:
        """Take events of a partition, each with its number and its user; those taken before
        change nothing."""
        with self._transaction():
            for number, user, event in events:
                if number > self.position(partition):
                    self._put_user(partition, user, joined(self.user(user), event))
                    self._move(partition, number)

    def user(self, user: str) -> User:
        """What is known of a user."""
        found = self._db.execute(
            "SELECT tokens, nobody_there FROM users WHERE user = ?", (user,)
        ).fetchall()
        if not found:
            return User()
        clients = self._db.execute(
            "SELECT client_id, generation, offline, subjects FROM clients WHERE user = ?", (user,)
        )
        return User(
            {row[0]: Client(row[1], bool(row[2]), tuple(json.loads(row[3]))) for row in clients},
            tuple(json.loads(found[0][0])),
            bool(found[0][1]),
        )

    def lose(self, partition: int, last: int) -> None:
        """Happenings up to `last` were lost: what is known of the partition's users may be wrong.
        Nobody is pushed anything on the strength of it; the next that is told of a user counts."""
        with self._transaction():
            users = "(SELECT user FROM users WHERE partition = ?)"
            for table in ("clients", "follows"):
                self._db.execute(f"DELETE FROM {table} WHERE user IN {users}", (partition,))
            self._db.execute("DELETE FROM users WHERE partition = ?", (partition,))
            self._move(partition, last)

    def _put_user(self, partition: int, name: str, user: User) -> None:
        tokens = json.dumps(user.tokens)
        self._db.execute(
            "REPLACE INTO users VALUES (?, ?, ?, ?, ?)",
            (name, partition, tokens, user.nobody_there, user.offline),
        )
        for client_id, client in user.clients.items():
            subjects = json.dumps(client.subjects)
            self._db.execute(
                "REPLACE INTO clients VALUES (?, ?, ?, ?, ?)",
                (name, client_id, client.generation, client.offline, subjects),
            )
        self._db.execute("DELETE FROM follows WHERE user = ?", (name,))
        follows = [(subject, name) for subject in user.subjects]
        self._db.executemany("INSERT INTO follows VALUES (?, ?)", follows)

    # -- messages -----------------------------------------------------------------------------

    def tokens_for(self, subject: str, publisher: str) -> list[str]:
        """The tokens of all who follow the subject and are offline, but the publisher's own."""
        rows = self._db.execute(
            "SELECT u.tokens FROM follows AS f JOIN users AS u ON u.user = f.user"
            " WHERE f.subject = ? AND u.offline = 1 AND u.user <> ? ORDER BY u.user",
            (subject, publisher),
        ).fetchall()
        return list(dict.fromkeys(token for (tokens,) in rows for token in json.loads(tokens)))

    def left(self, partition: int, number: int, tokens: list[str]) -> list[str]:
        """Those of the tokens that this message was not pushed to, and that are not gone."""
        done = {
            row[0]
            for row in self._db.execute(
                "SELECT token FROM pushed WHERE partition = ? AND number = ?"
                " UNION SELECT token FROM gone",
                (partition, number),
            )
        }
        return [token for token in tokens if token not in done]

    def pushed(self, partition: int, number: int, token: str) -> None:
        """The message was handed over for this token."""
        self._db.execute(
            "INSERT OR IGNORE INTO pushed VALUES (?, ?, ?)", (partition, number, token)
        )

    def lost(self, token: str) -> None:
        """The provider does not know this token any more."""
        self._db.execute("INSERT OR IGNORE INTO gone VALUES (?)", (token,))

    def done(self, partition: int, number: int) -> None:
        """The message was pushed to everybody."""
        with self._transaction():
            self._move(partition, number)
            self._db.execute("DELETE FROM pushed WHERE partition = ?", (partition,))

    def _move(self, partition: int, number: int) -> None:
        self._db.execute(
            "INSERT INTO positions VALUES (?, ?) ON CONFLICT (partition)"
            " DO UPDATE SET number = max(number, excluded.number)",
            (partition, number),
        )

    @contextmanager
    def _transaction(self):
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:  # Whatever ended it undoes it, and is passed on.
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")
