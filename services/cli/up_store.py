"""What `onward up` asks of a PostgreSQL: the era of the log that is there already.

It knows one table of the coordinator's, since whoever starts a new etcd before an old log must say
a higher era, and a person who tries things out should not have to.
"""

import psycopg

from services.chassis.errors import StartError

_ERA_BITS_BELOW = 48
_ANSWER_S = 5


def era_in(store: str) -> int:
    """The era of the log in the store; -1 if there is no log. Raises StartError."""
    try:
        with psycopg.connect(store, connect_timeout=_ANSWER_S, autocommit=True) as connection:
            (log,) = connection.execute("SELECT to_regclass('onward_log.parts')").fetchone() or (0,)
            if log is None:
                return -1
            found = connection.execute("SELECT max(epoch) FROM onward_log.parts").fetchone()
    except psycopg.Error as error:
        # Its words may quote the password.
        raise StartError(
            f"the PostgreSQL of --store cannot be used ({type(error).__name__}); see that it runs, "
            "and that user, password (PGPASSFILE) and database are right"
        ) from None
    return -1 if found is None or found[0] is None else int(found[0]) >> _ERA_BITS_BELOW
