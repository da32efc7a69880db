"""How a message is to be notified, and what a user wants: part of `judge`, told anew. Pure.

A routing is the data of its YAML, a wish is plain data too (`wishes` draws both); what they mean is
what docs/notifications.md says, not what the services make of it. Times are seconds since 1970.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

Headers = Mapping[str, str]
_WORDS = ("urgent", "high", "normal", "low")


@dataclass(frozen=True)
class Plan:
    """How one message is to be notified."""

    policy: str = "user"
    category: str = ""
    priority: str = "normal"
    quiet_hours: str = "defer"
    steps: tuple[tuple[str, ...], ...] = ()
    escalate_s: float = 0.0
    collapse_s: float | None = None
    digest_s: float = 0.0
    expiry_s: float | None = None
    # As the publisher says; belongs to one message.
    expires_at: float | None = None
    default: bool = True
    off_on: tuple[str, ...] = ()
    # The category is the publisher's, and there is no file that has categories.
    made_up: bool = False

    @property
    def urgent(self) -> bool:
        return self.priority == "urgent"

    @property
    def shared(self) -> "Plan":
        """Without what belongs to one message."""
        return replace(self, expires_at=None)

    def step(self, channel: str) -> int | None:
        """In which step the channel is used; None: not at all."""
        if not self.steps:
            return 0
        places = [n for n, channels in enumerate(self.steps) if channel in channels]
        return places[0] if places else None


def channel_of(uri: str) -> str:
    return uri.split(":")[0]


def means(pattern: str, subject: str) -> bool:
    """Whether a pattern means a subject."""
    below, star, _ = pattern.partition("*")
    return subject[: len(below)] == below if star else subject == pattern


def plan_of(routing: Mapping[str, Any], subject: str, headers: Headers) -> Plan:
    """The plan of a message."""
    said = dict(routing.get("defaults", {}))
    for route in routing.get("routes", ()):
        wanted = route.get("headers", {})
        if means(route["subject"], subject) and all(
            name in headers and value in ("*", headers[name]) for name, value in wanted.items()
        ):
            said |= {n: v for n, v in route.items() if n not in ("subject", "headers")}
            break
    categories = routing.get("categories", {})
    named = headers.get("category", "")
    if "category" not in said and named and (named in categories or not categories):
        said["category"] = named
        said["made_up"] = not categories
    if "priority" not in said and headers.get("priority", "").lower() in _WORDS:
        # What passes quiet hours and rates is for the file to say.
        said["priority"] = headers["priority"].lower().replace("urgent", "high")
    channels = said.pop("channels", [])
    if channels and not isinstance(channels[0], list):
        channels = [channels]
    category = categories.get(said.get("category", ""), {})
    return Plan(
        **said,
        steps=tuple(tuple(step) for step in channels),
        expires_at=_expiry(headers.get("expires_at", "")),
        default=category.get("default", True),
        off_on=tuple(category.get("off_on", ())),
    )


def _expiry(text: str) -> float | None:
    if text.isdigit():
        return float(text)
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def may_join(one: Plan, other: Plan, wish: Mapping[str, Any]) -> bool:
    """Whether the user is told messages of both plans together: categories that publishers make up
    part them only if the user says something of one."""
    if one == other:
        return True
    said = {preference["category"] for preference in wish.get("preferences", ())} - {""}
    return (
        one.made_up
        and other.made_up
        and not said & {one.category, other.category}
        and replace(one, category="") == replace(other, category="")
    )


def together(one: Plan, other: Plan) -> Plan:
    """The plan of a notification of messages of both, which may join."""
    return one if one == other else replace(one, category="")


def rate_of(routing: Mapping[str, Any], channel: str) -> Mapping[str, Any] | None:
    rates = routing.get("rates", {})
    found: Mapping[str, Any] | None = rates.get(channel, rates.get("*"))
    return found


# -- what a user wants -----------------------------------------------------------------------------


def muted(wish: Mapping[str, Any], subject: str, now: float) -> bool:
    return any(
        means(mute["subject"], subject) and not (mute["until"] is not None and mute["until"] <= now)
        for mute in wish.get("mutes", ())
    )


def wants(wish: Mapping[str, Any], plan: Plan, channel: str) -> bool:
    """Whether the plan's category is wanted on a channel: the most specific word counts."""
    best = -1
    answer = plan.default and channel not in plan.off_on
    for one in wish.get("preferences", ()):
        of_category, of_channel = one["category"] != "", one["channel"] != ""
        if of_category and one["category"] != plan.category:
            continue
        if of_channel and one["channel"] != channel:
            continue
        # A word for a category counts for more than one for a channel.
        weight = 2 * of_category + of_channel
        if weight > best:
            best, answer = weight, one["allowed"]
    return bool(answer)


def quiet_end(wish: Mapping[str, Any], now: float) -> float | None:
    """When the quiet hours end that now lies in; None: it lies in none."""
    quiet = wish.get("quiet")
    if not quiet:
        return None
    zone = ZoneInfo(wish.get("zone") or "UTC")
    local = datetime.fromtimestamp(now, UTC).astimezone(zone).replace(tzinfo=None)
    ends = []
    for back in (0, 1):
        day = datetime(local.year, local.month, local.day) - timedelta(days=back)
        if day.isoweekday() not in quiet["days"]:
            continue
        until = quiet["to"] + (1_440 if quiet["to"] <= quiet["from"] else 0)
        begin = moment(day + timedelta(minutes=quiet["from"]), zone)
        end = moment(day + timedelta(minutes=until), zone)
        if begin <= now < end:
            ends.append(end)
    return max(ends) if ends else None


def moment(wall: datetime, zone: ZoneInfo) -> float:
    """When a clock on the wall shows this: at first, if it does twice; if it never does, when it
    would have without the change."""
    before, after = (_offset(wall + timedelta(days=days), zone) for days in (-1, 1))
    with_before = wall.replace(tzinfo=UTC) - before
    with_after = wall.replace(tzinfo=UTC) - after
    if before == after or with_before.astimezone(zone).utcoffset() == before:
        return with_before.timestamp()
    if with_after.astimezone(zone).utcoffset() == after:
        return with_after.timestamp()
    return with_before.timestamp()


def _offset(wall: datetime, zone: ZoneInfo) -> timedelta:
    offset = wall.replace(tzinfo=zone).utcoffset()
    assert offset is not None
    return offset


def objection(
    plan: Plan, wish: Mapping[str, Any], subject: str, uris: Sequence[str], now: float
) -> set[str]:
    """Reasons for which a message is not to be notified at all, to a user with these endpoints,
    none of which has opted out."""
    found = set()
    if plan.expires_at is not None and plan.expires_at <= now:
        found.add("EXPIRED")
    if muted(wish, subject, now):
        found.add("MUTED")
    routed = [uri for uri in uris if plan.step(channel_of(uri)) is not None]
    if uris and not routed:
        found.add("NO_ROUTE")
    if routed and not any(wants(wish, plan, channel_of(uri)) for uri in routed):
        found.add("PREFERENCE")
    quiet = quiet_end(wish, now) is not None
    if quiet and plan.quiet_hours == "drop" and not plan.urgent:
        found.add("QUIET_HOURS")
    return found
