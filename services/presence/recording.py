"""Records, within a transaction of presence, what extensions are to be told of it.

Whoever changes what can be seen of a user, or makes a message take effect, says so here in the same
transaction: so a happening is there exactly if its effect is. Without any extension nothing is
gathered, and nothing written.

Knows the rows and `happenings`. To drive it: one `Recording(tx)` in a transaction, after whatever
is asked in advance; `user(…)` with a core's effects BEFORE they are written; `write()` at the end.
"""

from collections.abc import Sequence
from dataclasses import replace

from onward.types.v1 import entry_pb2

from services.presence import metrics, state
from services.presence.endpoint_rows import moves
from services.presence.happenings import Happened, changes
from services.presence.state import Endpoint, UserState
from services.presence.store import Transaction


class Recording:
    """What happens in one transaction."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._happened: list[Happened] = []

    def message(self, message: entry_pb2.Message) -> None:
        """A message takes effect."""
        if self._tx.is_observed():
            self._happened.append(Happened(message.subject, message.seq))
            metrics.happenings.labels("message").inc()

    def user(self, before: UserState, effects: Sequence[state.Effect], client_id: str = "") -> None:
        """A user's rows are about to be changed by these effects; `client_id`: by whose event."""
        if not effects or not self._tx.is_observed():
            return
        self._changed(before, effects, client_id)
        # A token that moves is taken away from whoever had it, who may be told of elsewhere.
        uris = [one.endpoint.uri for one in effects if isinstance(one, state.PutEndpoint)]
        for uri in uris:
            if moves(uri) and uri not in before.endpoints:
                for other in sorted(set(self._tx.users_of([uri])) - {before.user}):
                    self._changed(self._tx.load_user(other), [state.DropEndpoint(uri)])

    def gone(self, user: str, uri: str) -> None:
        """An external token was taken away from a user."""
        if self._tx.is_observed():
            now = self._tx.load_user(user)
            before = replace(now, endpoints={**now.endpoints, uri: Endpoint(uri, (), 0.0)})
            self._changed(before, [state.DropEndpoint(uri)])

    def write(self) -> None:
        """Append it all. At the end of the transaction, once."""
        if self._happened:
            self._tx.append_happenings(self._happened)

    def _changed(
        self, before: UserState, effects: Sequence[state.Effect], client_id: str = ""
    ) -> None:
        for seen in changes(before, effects, client_id):
            self._happened.append(Happened(before.user, payload=seen.SerializeToString()))
            metrics.happenings.labels("presence").inc()
