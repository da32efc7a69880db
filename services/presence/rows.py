"""What all rows of a transaction share: the connection, its time, locks, and what was touched."""

from collections.abc import Collection, Iterable

from services.presence.sql import Sql
from services.presence.state import UserState
from services.presence.store import Mine, Touched


class Rows:
    """Rows on one connection. `partitions` is the frozen count: it says which partition a key is
    in. `mine`: what this process works on."""

    def __init__(self, db: Sql, partitions: int, mine: Mine) -> None:
        self.db = db
        self.partitions = partitions
        self.mine = mine
        self.touched = Touched()
        # Users who were read ahead; one who is written, or whose marks are, is read again.
        self.read_ahead: dict[str, UserState] = {}
        self._locked_users: frozenset[str] | None = None
        self._now: float | None = None

    def now(self) -> float:
        """The store's clock when the transaction began, or first asked for it."""
        if self._now is None:
            self._now = self.db.now()
        return self._now

    def lock(self, users: Collection[str], tokens: Collection[str] = ()) -> bool:
        """As `store.Transaction.lock`."""
        assert self._locked_users is None, "all at once, or two may wait for each other"
        self._locked_users = frozenset(users)
        return self.db.lock(sorted(self._locked_users.union(tokens)))

    def locked(self, user: str) -> bool:
        """Whether the user's rows may be written in this transaction."""
        return self._locked_users is not None and user in self._locked_users

    def touch(self, users: Iterable[str]) -> None:
        """The users' rows are written; they are locked."""
        for user in users:
            assert self.locked(user), "the rows of a user are written under the user's lock"
            self.touched.users.add(user)
