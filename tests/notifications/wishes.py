"""What a story's operator and users may want: routing files, profiles, headers, at random.

A routing is drawn as the plain data of its YAML, which the judge reads too; `yaml_of` is what is
written to the file. A profile is drawn as plain data for the judge; `profile_of` makes the row.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import yaml

from services.presence.profile import Mute, Preference, Profile, QuietHours

SUBJECTS = ("/chat/1", "/chat/2", "/news/a", "/desk")
CATEGORIES = ("talk", "news")
CHANNELS = ("fcm", "webpush", "mailto", "tel")
ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "")
# When stories begin, and where most of their users live: in nights of a clock change, and others.
MOMENTS = (
    ("2026-10-24T23:20:00+00:00", "Europe/Berlin"),
    ("2026-10-25T00:40:00+00:00", "Europe/Berlin"),
    ("2026-10-24T22:20:00+00:00", "Europe/Berlin"),
    ("2026-03-29T00:30:00+00:00", "Europe/Berlin"),
    ("2026-03-28T23:50:00+00:00", "Europe/Berlin"),
    ("2026-11-01T05:10:00+00:00", "America/New_York"),
    ("2026-11-01T06:45:00+00:00", "America/New_York"),
    ("2026-04-04T14:20:00+00:00", "Australia/Lord_Howe"),
    ("2026-10-03T15:10:00+00:00", "Australia/Lord_Howe"),
    ("2026-06-10T12:00:00+00:00", "Asia/Kolkata"),
    ("2026-12-31T22:59:30+00:00", ""),
)


def moment_of(random: Random) -> tuple[float, str]:
    """When a story begins, an hour around one of `MOMENTS`, and where it is at home."""
    moment, zone = random.choice(MOMENTS)
    return datetime.fromisoformat(moment).timestamp() + random.uniform(-1800, 1800), zone


def routing_of(random: Random, rates: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A routing as its YAML says it; empty: there is no file. `rates`: those it has to have."""
    if rates is None and random.random() < 0.15:
        return {}
    categories: dict[str, Any] = {name: {} for name in CATEGORIES}
    if random.random() < 0.3:
        categories["news"] = {"default": random.choice((True, False))}
    if random.random() < 0.3:
        categories["talk"] = {"off_on": random.sample(CHANNELS, 1)}
    patterns = ["/chat/*", "/chat/1", "/news/*", "/desk", "/*"]
    routes = []
    for _ in range(random.randint(1, 4)):
        route = {"subject": random.choice(patterns), **_plan_of(random)}
        if random.random() < 0.25:
            route["headers"] = {"kind": random.choice(("alarm", "*"))}
        routes.append(route)
    routing: dict[str, Any] = {"categories": categories, "routes": routes}
    if random.random() < 0.4:
        routing["defaults"] = _plan_of(random)
    _mend_times(routing)
    routing["rates"] = _rates_of(random) if rates is None else dict(rates)
    return routing


def _plan_of(random: Random) -> dict[str, Any]:
    plan: dict[str, Any] = {}
    if random.random() < 0.6:
        plan["policy"] = random.choice(("user", "endpoint", "always"))
    if random.random() < 0.4:
        plan["category"] = random.choice(CATEGORIES)
    if random.random() < 0.3:
        plan["priority"] = random.choice(("urgent", "high", "normal", "low"))
    if random.random() < 0.5:
        plan["quiet_hours"] = random.choice(("defer", "drop", "pass"))
    if random.random() < 0.4:
        steps = random.sample(CHANNELS, random.randint(2, 4))
        cut = random.randint(1, len(steps) - 1)
        if random.random() < 0.7:
            plan["channels"] = [steps[:cut], steps[cut:]]
            plan["escalate_s"] = random.choice((2, 10, 300))
        else:
            plan["channels"] = steps
    if random.random() < 0.3:
        plan["collapse_s"] = random.choice((0, 1, 20))
    if random.random() < 0.25:
        plan["digest_s"] = random.choice((1, 5, 60))
    if random.random() < 0.15:
        plan["expiry_s"] = random.choice((5, 60, 3_600))
    return plan


def _mend_times(routing: dict[str, Any]) -> None:
    """Nothing of it expires before it can be sent: such files are not taken."""
    defaults = routing.get("defaults", {})
    for said in (defaults, *routing["routes"]):
        whole = defaults | said
        waits_s = max(whole.get("digest_s", 0), whole.get("collapse_s", 0))
        if any(isinstance(one, list) for one in whole.get("channels", ())):
            waits_s = max(waits_s, whole.get("digest_s", 0) + whole["escalate_s"])
        if whole.get("expiry_s", 3_600) <= waits_s:
            said["expiry_s"] = waits_s + 5


def _rates_of(random: Random) -> dict[str, Any]:
    rates: dict[str, Any] = {}
    for channel in (*CHANNELS, "*"):
        if random.random() < 0.2:
            rate: dict[str, Any] = {
                "at_most": random.randint(1, 3),
                "per_s": random.choice((5, 60, 3_600)),
            }
            if random.random() < 0.5:
                rate["then"] = random.choice(("defer", "drop"))
            rates[channel] = rate
    return rates


def yaml_of(routing: Mapping[str, Any]) -> str:
    return str(yaml.safe_dump(dict(routing), sort_keys=False))


def headers_of(random: Random, now: float) -> dict[str, str]:
    """What a publisher says of a message."""
    headers = {}
    if random.random() < 0.15:
        headers["category"] = random.choice((*CATEGORIES, "unheard"))
    if random.random() < 0.12:
        headers["priority"] = random.choice(("urgent", "High", "low", "shrill"))
    if random.random() < 0.12:
        until = now + random.choice((-5.0, 0.5, 3.0, 20.0, 7_200.0))
        words = (str(int(until)), datetime.fromtimestamp(until, UTC).isoformat(), "soon")
        headers["expires_at"] = random.choice(words)
    if random.random() < 0.2:
        headers["kind"] = random.choice(("alarm", "other"))
    return headers


def wish_of(random: Random, now: float, home: str) -> dict[str, Any]:
    """A profile as plain data; what is not said is missing."""
    wish: dict[str, Any] = {}
    if random.random() < 0.75:
        zone = home if random.random() < 0.6 else random.choice(ZONES)
        local = datetime.fromtimestamp(now, ZoneInfo(zone or "UTC"))
        minute = local.hour * 60 + local.minute
        begin = (minute + random.randint(-60, 20)) % 1_440
        end = (begin + random.choice((1, 30, 90, 150, 240, 600, 1_440))) % 1_440
        day = local.isoweekday()
        days = random.choice(([1, 2, 3, 4, 5, 6, 7], [day], [(day - 2) % 7 + 1], [day % 7 + 1]))
        wish["zone"] = zone
        wish["quiet"] = {"from": begin, "to": end, "days": days}
    if random.random() < 0.4:
        wish["mutes"] = [
            {
                "subject": random.choice((*SUBJECTS, "/chat/*", "/*")),
                "until": random.choice((None, now + 3.0, now + 30.0, now + 3_600.0, now - 1.0)),
            }
            for _ in range(random.randint(1, 2))
        ]
    if random.random() < 0.4:
        keys = {
            (random.choice((*CATEGORIES, "")), random.choice((*CHANNELS, "")))
            for _ in range(random.randint(1, 3))
        }
        wish["preferences"] = [
            {"category": category, "channel": channel, "allowed": random.random() < 0.5}
            for category, channel in sorted(keys)
        ]
    return wish


def profile_of(wish: Mapping[str, Any]) -> Profile:
    """The profile as presence has it."""
    quiet = wish.get("quiet")
    return Profile(
        time_zone=wish.get("zone", ""),
        quiet=quiet and QuietHours(quiet["from"], quiet["to"], tuple(quiet["days"])),
        preferences=tuple(
            Preference(one["category"], one["channel"], one["allowed"])
            for one in wish.get("preferences", ())
        ),
        mutes=tuple(Mute(one["subject"], one["until"]) for one in wish.get("mutes", ())),
    )
