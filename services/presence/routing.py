"""Which plan a message has: the routes of the routing file, and what its publisher says. Pure.

A route names subjects by a pattern, and headers; the first that matches gives the plan, over the
file's `defaults`. Where neither says anything of category, priority or expiry, the message's own
headers `category`, `priority` (at most `high`) and `expires_at` do. Without a file there are those
headers alone.

Knows routes, categories and caps. Must not know YAML (`routing_file`), users or stores.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from services.presence.patterns import covers
from services.presence.plan import DEFAULT_PLAN, Plan, Policy, Priority

CATEGORY_BYTES_MAX = 64
_NAME_OF_CATEGORY = f"a category has 1 to {CATEGORY_BYTES_MAX} bytes, and no control characters"
# Parts of a cap's time do not add up to it exactly.
_ROUNDING_S = 1e-3
ANY_CHANNEL = "*"
_NOTHING: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Category:
    """What users may have preferences for."""

    name: str
    title: str = ""
    # Whether it is notified of without a preference; but not on the channels of `silent`.
    allowed: bool = True
    silent: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Cap:
    """How many notifications a user gets on a channel in a time."""

    at_most: int
    per_s: float
    # What is too much: True: is suppressed; False: waits.
    drops: bool = False

    def allows(self, used_up_to: float, now: float) -> bool:
        """Whether one more is within the cap; `used_up_to` as `after` returned it, or 0."""
        return self.after(used_up_to, now) <= now + self.per_s + _ROUNDING_S

    def after(self, used_up_to: float, now: float) -> float:
        """What the cap is used up to after one more: the n-th of n at once uses all of `per_s`."""
        return max(used_up_to, now) + self.per_s / self.at_most

    def next_at(self, used_up_to: float, now: float) -> float:
        """When the next one will be within the cap."""
        return max(now, self.after(used_up_to, now) - self.per_s)


@dataclass(frozen=True, slots=True)
class Route:
    """Which messages it is for, and what it says."""

    subject: str
    # Name to value; `*`: whatever it is, as long as it is there.
    headers: Mapping[str, str] = field(default_factory=dict)
    plan: Plan = DEFAULT_PLAN
    # Parts of the plan that the file sets, for this route or for all: headers do not change them.
    fixed: frozenset[str] = frozenset()

    def matches(self, subject: str, headers: Mapping[str, str]) -> bool:
        """Whether the message is one of those."""
        return covers(self.subject, subject) and all(
            name in headers if value == ANY_CHANNEL else headers.get(name) == value
            for name, value in self.headers.items()
        )


@dataclass(frozen=True, slots=True)
class Routing:
    """All that a routing file says of decisions. What it says of words is in `templates`."""

    routes: tuple[Route, ...] = ()
    # For messages of no route.
    default: Route = Route("/*")
    categories: Mapping[str, Category] = field(default_factory=dict)
    # By channel; `*`: for each of those not named.
    caps: Mapping[str, Cap] = field(default_factory=dict)

    def plan(self, subject: str, headers: Mapping[str, str] = _NOTHING) -> Plan:
        """How a message is to be notified."""
        route = self._route(subject, headers)
        plan = _with_headers(route, headers, self.categories) if headers else route.plan
        category = self.categories.get(plan.category)
        if category is not None:
            plan = replace(plan, allowed=category.allowed, silent=category.silent)
        return plan

    def passed_over(self, subject: str, headers: Mapping[str, str]) -> tuple[str, ...]:
        """A sentence for each header that says something of the plan and does not count, without
        its value."""
        route = self._route(subject, headers)
        told: list[str] = []
        category, priority = headers.get("category"), headers.get("priority")
        if category is not None and (why := _unheard(route, category, self.categories)):
            told.append(f"The header `category` is passed over: {why}.")
        if priority is not None and (why := _no_priority(route, priority)):
            told.append(f"The header `priority` is passed over: {why}.")
        if "expires_at" in headers and _moment(headers["expires_at"]) is None:
            why = "it is no time of RFC 3339, nor seconds since 1970"
            told.append(f"The header `expires_at` is passed over: {why}.")
        return tuple(told)

    def _route(self, subject: str, headers: Mapping[str, str]) -> Route:
        return next((one for one in self.routes if one.matches(subject, headers)), self.default)

    def concerns_all(self, subject: str) -> bool:
        """Whether messages of the subject may be due to users who are online: some route for it
        has another policy than `user`."""
        return any(
            one.plan.policy is not Policy.USER and covers(one.subject, subject)
            for one in (*self.routes, self.default)
        )

    def cap(self, channel: str) -> Cap | None:
        """The cap on a channel."""
        return self.caps.get(channel) or self.caps.get(ANY_CHANNEL)


NO_ROUTING = Routing()


def category_fault(name: str) -> str | None:
    """Why a category cannot have this name, with the remedy; None: it can."""
    if 0 < len(name.encode("utf-8", "replace")) <= CATEGORY_BYTES_MAX and name.isprintable():
        return None
    return f"{_NAME_OF_CATEGORY}; give it another name."


def _with_headers(
    route: Route, headers: Mapping[str, str], categories: Mapping[str, Category]
) -> Plan:
    """The route's plan, with what the publisher says where the file says nothing."""
    plan = route.plan
    named = headers.get("category")
    if named is not None and "category" not in route.fixed and not _no_category(named, categories):
        plan = replace(plan, category=named, free=not categories)
    priority = headers.get("priority", "").upper()
    if priority in Priority.__members__ and "priority" not in route.fixed:
        # What passes quiet hours and caps is for whoever writes the file to say.
        plan = replace(plan, priority=max(Priority[priority], Priority.HIGH))
    expires_at = _moment(headers.get("expires_at", ""))
    return plan if expires_at is None else replace(plan, expires_at=expires_at)


def _unheard(route: Route, named: str, categories: Mapping[str, Category]) -> str:
    """Why a header does not give the category; empty: it does, or says the same as the file."""
    if "category" in route.fixed:
        return "" if named == route.plan.category else "the routing file says it"
    return _no_category(named, categories)


def _no_category(named: str, categories: Mapping[str, Category]) -> str:
    """Why a publisher cannot name this category; empty: it can. Where the file knows categories,
    it knows all; without, preferences may name any."""
    if categories:
        return "" if named in categories else "the routing file has no such category"
    return "" if category_fault(named) is None else _NAME_OF_CATEGORY


def _no_priority(route: Route, text: str) -> str:
    said = Priority.__members__.get(text.upper())
    if said is None:
        return f"it is none of {', '.join(one.name.lower() for one in Priority)}"
    if "priority" in route.fixed:
        return "" if said is route.plan.priority else "the routing file says it"
    if said is Priority.URGENT:
        return "what is urgent is for the routing file to say, so it counts as high"
    return ""


def _moment(text: str) -> float | None:
    """A time as RFC 3339 writes it, or as seconds since 1970; None: it is neither."""
    try:
        if text.isascii() and text.isdigit() and len(text) <= 12:
            return float(text)
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
