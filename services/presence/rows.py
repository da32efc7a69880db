"""What all rows of a transaction share: the connection, its time, and what was touched."""

from services.presence.sql import Sql
from services.presence.state import UserState
from services.presence.store import Touched


class Rows:
    """Rows on one connection. `partitions` is the frozen count: it says which partition a
    subject's marks are in."""

    def __init__(self, db: Sql, partitions: int) -> None:
        self.db = db
        self.partitions = partitions
        self.touched = Touched()
        # Users who were read ahead; one who is written, or whose marks are, is read again.
        self.read_ahead: dict[str, UserState] = {}
        self._now: float | None = None

    def now(self) -> float:
        """The store's clock when the transaction began, or first asked for it."""
        if self._now is None:
            self._now = self.db.now()
        return self._now
