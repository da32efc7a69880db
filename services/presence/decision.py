"""Whether a message that presence found due is sent to a user at all, where and when. Pure.

Presence decides first (`handover`): a client that answers, or an acknowledgement, leaves nothing
to decide. What comes here is due as far as presence goes. It is asked twice: `decide` when the
message is recorded, `recheck` when a delivery is about to be handed to a plugin, because what a
user wants may have changed since. The checks of `decide` stand in the order of the list `_CHECKS`;
the first that objects gives the reason.

Knows facts; must not know stores or plugins. Times are seconds of the store's clock.
"""

from collections.abc import Callable
from dataclasses import dataclass

from services.presence.notifications import scheme_of
from services.presence.placing import QUIET_HOURS, RATE_CAPPED
from services.presence.plan import DEFAULT_PLAN, Plan, Priority, Quiet
from services.presence.profile import NO_PROFILE, Profile
from services.presence.routing import Cap

# Reasons of this module. Those of presence itself are `state.Reason`.
PUBLISHER = "PUBLISHER"
NO_ENDPOINT = "NO_ENDPOINT"
NO_ROUTE = "NO_ROUTE"
OPTED_OUT = "OPTED_OUT"
EXPIRED = "EXPIRED"
MUTED = "MUTED"
PREFERENCE = "PREFERENCE"


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
    subject: str = ""
    plan: Plan = DEFAULT_PLAN
    profile: Profile = NO_PROFILE
    now: float = 0.0


@dataclass(frozen=True, slots=True)
class Due:
    """Notify the user at these endpoints; not before a time, 0: at once."""

    uris: tuple[str, ...]
    not_before: float = 0.0


@dataclass(frozen=True, slots=True)
class Suppressed:
    """Send nothing; record why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Later:
    """Send nothing now; ask again then."""

    until: float
    reason: str


def decide(facts: Facts) -> Due | Suppressed:
    """The decision for one (user, message)."""
    for check in _CHECKS:
        reason = check(facts)
        if reason is not None:
            return Suppressed(reason)
    return Due(tuple(uri for uri in facts.uris if _is_wanted(facts, uri)), _quiet_until(facts))


def recheck(
    subject: str,
    channel: str,
    plan: Plan,
    profile: Profile,
    now: float,
    cap: Cap | None = None,
    used_up_to: float = 0.0,
) -> Later | Suppressed | None:
    """What stands against sending a delivery now; None: nothing. `cap` is that of the channel, if
    it counts for this try, and `used_up_to` what the user has used of it."""
    if profile.is_muted(subject, now):
        return Suppressed(MUTED)
    if not is_allowed(plan, profile, channel):
        return Suppressed(PREFERENCE)
    if plan.priority is Priority.URGENT:
        return None
    quiet_until = profile.quiet_until(now) if plan.quiet is not Quiet.PASS else None
    if quiet_until is not None:
        if plan.quiet is Quiet.DROP:
            return Suppressed(QUIET_HOURS)
        return Later(quiet_until, QUIET_HOURS)
    if cap is not None and not cap.allows(used_up_to, now):
        if cap.drops:
            return Suppressed(RATE_CAPPED)
        return Later(cap.next_at(used_up_to, now), RATE_CAPPED)
    return None


def is_allowed(plan: Plan, profile: Profile, channel: str) -> bool:
    """Whether the user wants the plan's category on the channel."""
    said = profile.allows(plan.category, channel) if profile.preferences else None
    return said if said is not None else plan.allowed and channel not in plan.silent


# -- the checks, each of which names the reason for which nothing is sent ------------------------


def _own_message(facts: Facts) -> str | None:
    return PUBLISHER if facts.publisher == facts.user else None


def _too_late(facts: Facts) -> str | None:
    expires_at = facts.plan.expires_at
    return EXPIRED if expires_at is not None and expires_at <= facts.now else None


def _muted(facts: Facts) -> str | None:
    mutes = facts.profile.mutes
    return MUTED if mutes and facts.profile.is_muted(facts.subject, facts.now) else None


def _nowhere_to_send(facts: Facts) -> str | None:
    return None if facts.uris else NO_ENDPOINT


def _nowhere_wanted(facts: Facts) -> str | None:
    return OPTED_OUT if facts.opted_out.issuperset(facts.uris) else None


def _nowhere_routed(facts: Facts) -> str | None:
    plan = facts.plan
    if not plan.steps or any(
        plan.step_of(scheme_of(uri)) is not None for uri in facts.uris if uri not in facts.opted_out
    ):
        return None
    return NO_ROUTE


def _unwanted(facts: Facts) -> str | None:
    return None if any(_is_wanted(facts, uri) for uri in facts.uris) else PREFERENCE


def _quiet(facts: Facts) -> str | None:
    if facts.plan.quiet is not Quiet.DROP or facts.plan.priority is Priority.URGENT:
        return None
    return None if facts.profile.quiet_until(facts.now) is None else QUIET_HOURS


_CHECKS: tuple[Callable[[Facts], str | None], ...] = (
    _own_message,
    _too_late,
    _muted,
    _nowhere_to_send,
    _nowhere_wanted,
    _nowhere_routed,
    _unwanted,
    _quiet,
)


def _is_wanted(facts: Facts, uri: str) -> bool:
    if uri in facts.opted_out:
        return False
    channel, plan = scheme_of(uri), facts.plan
    return plan.step_of(channel) is not None and is_allowed(plan, facts.profile, channel)


def _quiet_until(facts: Facts) -> float:
    plan = facts.plan
    if plan.quiet is not Quiet.DEFER or plan.priority is Priority.URGENT:
        return 0.0
    return facts.profile.quiet_until(facts.now) or 0.0
