"""Who is offline: what presence tells of a user's clients, joined. Pure.

Rules:
- Of a client the greatest (generation, offline) counts, and offline is greater than online: so a
  late, repeated or overtaken event changes nothing, in whatever order events come.
- A user is offline if all clients that are known are, and the event that counted last said that no
  client is there: there may be others, from before this program was registered.
- The external tokens are those that the event that counted last told.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Client:
    """What counts of one client."""

    generation: int
    offline: bool
    subjects: tuple[str, ...]


@dataclass(frozen=True)
class Event:
    """One change of presence, as far as it matters here."""

    client_id: str
    client: Client
    tokens: tuple[str, ...]
    nobody_there: bool


@dataclass(frozen=True)
class User:
    """What is known of one user."""

    clients: Mapping[str, Client] = field(default_factory=dict)
    tokens: tuple[str, ...] = ()
    nobody_there: bool = False

    @property
    def offline(self) -> bool:
        """Whether a message is to be pushed."""
        return self.nobody_there and all(client.offline for client in self.clients.values())

    @property
    def subjects(self) -> frozenset[str]:
        """What any of the clients follows."""
        return frozenset(one for client in self.clients.values() for one in client.subjects)


def joined(user: User, event: Event) -> User:
    """The user with the event taken in."""
    known = user.clients.get(event.client_id)
    if known is not None:
        before = (known.generation, known.offline)
        if (event.client.generation, event.client.offline) < before:
            return user
    return replace(
        user,
        clients={**user.clients, event.client_id: event.client},
        tokens=event.tokens,
        nobody_there=event.nobody_there,
    )
