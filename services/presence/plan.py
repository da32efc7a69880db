"""How a message is to be notified: what the routing file says of it, fixed once decided. Pure.

Knows the shape of a plan and its text in the store. Must not know how routes are found (`routing`)
nor what is made of a plan (`decision`, `notifications`, `claims`). A plan is kept with its
notification, so that a changed file changes nothing that has begun. Without a routing file, and
wherever that says nothing, a plan is `DEFAULT_PLAN`, whose text is empty.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from enum import Enum, IntEnum
from functools import lru_cache
from typing import Any


class Policy(Enum):
    """Who silences a notification by having received the message, or by answering for it."""

    # One client of the user, for all endpoints.
    USER = "user"
    # For an endpoint: the clients that registered it, and nobody else.
    ENDPOINT = "endpoint"
    # Nobody.
    ALWAYS = "always"


class Priority(IntEnum):
    """How urgent it is; the number is the rank in which deliveries are sent. URGENT passes quiet
    hours, rate caps, collapsing and digests."""

    URGENT = 0
    HIGH = 1
    NORMAL = 2
    LOW = 3


class Quiet(Enum):
    """What becomes of it in the user's quiet hours."""

    # It waits for their end.
    DEFER = "defer"
    # It is suppressed.
    DROP = "drop"
    # It is sent.
    PASS = "pass"


@dataclass(frozen=True, slots=True)
class Plan:
    """How one message is to be notified. Times are in seconds."""

    policy: Policy = Policy.USER
    # For which users may have preferences; empty: none.
    category: str = ""
    # Whether the publisher made the category up: no file knows it.
    free: bool = False
    # The name of a template; empty: title and body are made from the messages.
    template: str = ""
    priority: Priority = Priority.NORMAL
    quiet: Quiet = Quiet.DEFER
    # Channels (schemes) in steps of an escalation; those of the first are used at once, those of
    # a further one if no receipt came in `escalate_s`. Empty: all channels at once.
    steps: tuple[tuple[str, ...], ...] = ()
    escalate_s: float = 0.0
    # Between two notifications of one subject to one user; None: the setting.
    collapse_s: float | None = None
    # The first waits so long too, and those after it join; 0: it goes at once.
    digest_s: float = 0.0
    # From the decision on; None: the setting.
    expiry_s: float | None = None
    # Absolute, in seconds since 1970, as the publisher said of this message; None: nothing was
    # said. Not kept with a notification, which has its own.
    expires_at: float | None = None
    # Whether the category is notified of, without a preference, on the channels of `silent`.
    allowed: bool = True
    silent: tuple[str, ...] = ()

    def step_of(self, channel: str) -> int | None:
        """In which step the channel is used; None: not at all."""
        if not self.steps:
            return 0
        return next((n for n, step in enumerate(self.steps) if channel in step), None)

    def is_told_with(self, other: "Plan", named: Collection[str]) -> bool:
        """Whether messages of both plans may be told together to a user whose preferences name
        these categories. What publishers call their messages parts them only for users to whom it
        means something: else each would be a notification of its own."""
        if self == other:
            return True
        if not (self.free and other.free) or self.category in named or other.category in named:
            return False
        return replace(self, category=other.category) == other

    def told_with(self, other: "Plan") -> "Plan":
        """The plan of a notification of messages of both: of no category where theirs differ, so
        that what the user says of one of them later does not count for the other."""
        return self if self == other else replace(self, category="")


DEFAULT_PLAN = Plan()
_ENUMS: dict[str, type[Enum]] = {"policy": Policy, "priority": Priority, "quiet": Quiet}


@lru_cache(maxsize=4_096)
def encode(plan: Plan) -> str:
    """As it stands in the store: JSON of what differs from the default; empty: nothing does."""
    value: dict[str, Any] = {}
    for field in fields(Plan):
        part = getattr(plan, field.name)
        if part != getattr(DEFAULT_PLAN, field.name):
            value[field.name] = part.value if isinstance(part, Enum) else part
    return json.dumps(value, separators=(",", ":")) if value else ""


@lru_cache(maxsize=4_096)
def decode(text: str) -> Plan:
    """The plan of which `encode` made the text; what a newer version wrote is passed over."""
    if not text:
        return DEFAULT_PLAN
    known = {field.name for field in fields(Plan)}
    value = {name: part for name, part in json.loads(text).items() if name in known}
    for name, enum in _ENUMS.items():
        if name in value:
            value[name] = enum(value[name])
    if "steps" in value:
        value["steps"] = tuple(tuple(step) for step in value["steps"])
    if "silent" in value:
        value["silent"] = tuple(value["silent"])
    return Plan(**value)
