"""Whether a message that presence found due is sent to a user at all, or suppressed, and why. Pure.

Presence decides first (`handover`): a client that answers, or an acknowledgement, leaves nothing
to decide. What comes here is due as far as presence goes. Checks stand in the order of the list
`_CHECKS`; the first that objects gives the reason. A check of a later kind (mute, preferences,
quiet hours, rate cap, entitlement) is one more function in that list, and its facts one more
field. Knows facts; must not know stores or plugins.
"""

from collections.abc import Callable
from dataclasses import dataclass

# Reasons of this module. Those of presence itself are `state.Reason`.
PUBLISHER = "PUBLISHER"
NO_ENDPOINT = "NO_ENDPOINT"
OPTED_OUT = "OPTED_OUT"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a decision about one message, or the rest of a long backlog, rests on."""

    user: str
    # Who published; None for the rest of a long backlog, whose publishers are not looked up.
    publisher: str | None
    # External tokens of the user.
    uris: tuple[str, ...]
    # Those of them that refuse to be sent anything.
    opted_out: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Due:
    """Notify the user at these endpoints."""

    uris: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Suppressed:
    """Send nothing; record why."""

    reason: str


def decide(facts: Facts) -> Due | Suppressed:
    """The decision for one (user, message)."""
    for check in _CHECKS:
        reason = check(facts)
        if reason is not None:
            return Suppressed(reason)
    return Due(tuple(uri for uri in facts.uris if uri not in facts.opted_out))


def _own_message(facts: Facts) -> str | None:
    return PUBLISHER if facts.publisher == facts.user else None


def _nowhere_to_send(facts: Facts) -> str | None:
    return None if facts.uris else NO_ENDPOINT


def _nowhere_wanted(facts: Facts) -> str | None:
    return OPTED_OUT if facts.opted_out.issuperset(facts.uris) else None


_CHECKS: tuple[Callable[[Facts], str | None], ...] = (
    _own_message,
    _nowhere_to_send,
    _nowhere_wanted,
)
