"""What a presence store of a former schema needs to become one of the present schema.

The present schema stands in `schema.sql`, and creates what is missing; here is what it cannot do.
"""

from typing import NamedTuple


class Change(NamedTuple):
    """SQL to be run before and after `schema.sql`, in one transaction with it."""

    before: str = ""
    after: str = ""


def change_from(version: int, now: float) -> Change:
    """What a store of this version needs; 0: a new one, which needs nothing. `now`: the store's
    clock, in seconds."""
    steps = [_from_1(now), _FROM_2, _FROM_3][version - 1 :] if version else []
    return Change("".join(one.before for one in steps), "".join(one.after for one in steps))


# Terms and partitions instead of one owner of all. Term 0 is whoever owned all of it: what it left
# to send has no other keeper. To which partition a row belongs is found out by the first term.
_FROM_2 = Change(
    before="""
        ALTER TABLE registers ADD COLUMN partition INTEGER NOT NULL DEFAULT -1;
        ALTER TABLE fanouts ADD COLUMN partition INTEGER NOT NULL DEFAULT -1;
        ALTER TABLE handovers ADD COLUMN partition INTEGER NOT NULL DEFAULT -1;
        ALTER TABLE deliveries ADD COLUMN keeper INTEGER NOT NULL DEFAULT 0;
        DROP INDEX IF EXISTS deliveries_due;
        DROP INDEX IF EXISTS deliveries_expiring;
        DROP INDEX IF EXISTS deliveries_sending;
        """,
    after="""
        INSERT INTO terms VALUES (0, '', 0, 1);
        INSERT INTO meta VALUES ('unplaced', '1');
        """,
)


# How notifications are to be sent, what users want, what extensions are told.
_FROM_3 = Change(
    before="""
        ALTER TABLE registers ADD COLUMN away INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE registers ADD COLUMN connected_at REAL NOT NULL DEFAULT 0;
        ALTER TABLE registers ADD COLUMN info TEXT NOT NULL DEFAULT '';
        ALTER TABLE follows ADD COLUMN started INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE fanouts ADD COLUMN plan TEXT NOT NULL DEFAULT '';
        ALTER TABLE notifications ADD COLUMN plan TEXT NOT NULL DEFAULT '';
        ALTER TABLE deliveries ADD COLUMN step INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE deliveries ADD COLUMN rank INTEGER NOT NULL DEFAULT 2;
        DROP INDEX IF EXISTS deliveries_due;
        """,
)


def _from_1(now: float) -> Change:
    # When clients went away was not known; they count as gone since the change.
    before = f"""
        ALTER TABLE registers ADD COLUMN active INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE registers ADD COLUMN since REAL NOT NULL DEFAULT 0;
        UPDATE registers SET active = standing = 'online', since = {now:f};
        DROP INDEX waiting_by_user;
        ALTER TABLE marks RENAME TO marks_1;
        """
    after = """
        INSERT INTO marks (edge_id, partition, round, pos, at)
          SELECT edge_id, partition, round, pos, at FROM marks_1;
        DROP TABLE marks_1;
        INSERT INTO counts
          SELECT 'delivery/' || iif(held, 'held', state), count(*) FROM deliveries GROUP BY 1;
        INSERT INTO counts SELECT 'client/' || standing, count(*) FROM registers GROUP BY 1;
        INSERT INTO counts SELECT 'client/waiting', count(*) FROM
          (SELECT DISTINCT user, client_id FROM waiting);
        """
    return Change(before, after)
