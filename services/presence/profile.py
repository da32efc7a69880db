"""What a user wants to be notified of: language, quiet hours, mutes, preferences. Pure.

Knows the shape of a profile, its text in the store, and what it says about a subject, a category or
a moment. Must not know routing, messages or stores. A user who never said anything has the empty
profile, and no row. Times are seconds since 1970, by the store's clock.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from services.presence.patterns import covers

PREFERENCES_MAX = 200
MUTES_MAX = 500
MINUTES_OF_DAY = 1_440
_EVERY_DAY = (1, 2, 3, 4, 5, 6, 7)


@dataclass(frozen=True, slots=True)
class QuietHours:
    """When not to disturb, in the user's time zone; from 22:00 to 07:00 is over midnight."""

    # Minutes after midnight, 0 to 1,439; the same: all day.
    from_minute: int
    to_minute: int
    # ISO days on which they begin, 1 (Monday) to 7.
    days: tuple[int, ...] = _EVERY_DAY


@dataclass(frozen=True, slots=True)
class Preference:
    """Whether notifications of a category are wanted on a channel; empty: of any."""

    category: str
    channel: str
    allowed: bool


@dataclass(frozen=True, slots=True)
class Mute:
    """A subject, or all below one (`/chat/*`), of which nothing is notified."""

    subject: str
    # None: until it is ended.
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """All that a user wants."""

    # A BCP 47 tag, as `pt-BR`; empty: not known.
    locale: str = ""
    # An IANA name; empty: UTC.
    time_zone: str = ""
    quiet: QuietHours | None = None
    preferences: tuple[Preference, ...] = ()
    mutes: tuple[Mute, ...] = ()

    def is_muted(self, subject: str, now: float) -> bool:
        """Whether nothing of the subject is wanted now."""
        return any(
            (mute.until is None or now < mute.until) and covers(mute.subject, subject)
            for mute in self.mutes
        )

    def allows(self, category: str, channel: str) -> bool | None:
        """What the most specific preference says: of both, of the category, of the channel, of
        all. None: none says anything."""
        said = {(one.category, one.channel): one.allowed for one in self.preferences}
        for key in ((category, channel), (category, ""), ("", channel), ("", "")):
            if key in said:
                return said[key]
        return None

    def categories(self) -> frozenset[str]:
        """Those that preferences name."""
        return frozenset(one.category for one in self.preferences if one.category)

    def quiet_until(self, now: float) -> float | None:
        """When the quiet hours end in which `now` lies; None: it lies in none."""
        if self.quiet is None:
            return None
        zone = zone_of(self.time_zone)
        today = datetime.fromtimestamp(now, zone).date()
        ends = []
        for day in (today - timedelta(days=1), today):
            if day.isoweekday() not in self.quiet.days:
                continue
            # By the clock on the wall: in the night of a clock change they are longer or shorter.
            midnight = datetime(day.year, day.month, day.day)
            long = self.quiet.to_minute <= self.quiet.from_minute
            last = self.quiet.to_minute + (MINUTES_OF_DAY if long else 0)
            begin = _moment(midnight + timedelta(minutes=self.quiet.from_minute), zone)
            end = _moment(midnight + timedelta(minutes=last), zone)
            if begin <= now < end:
                ends.append(end)
        return max(ends, default=None)


NO_PROFILE = Profile()


@lru_cache(maxsize=1_024)
def zone_of(name: str) -> ZoneInfo:
    """The time zone of that name; UTC for one that this machine does not know (any more)."""
    try:
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


def _moment(wall: datetime, zone: ZoneInfo) -> float:
    """When a clock on the wall shows this. An hour that a change skips is as if it had not been
    skipped; of one that comes twice, the first is meant."""
    return wall.replace(tzinfo=zone).astimezone(UTC).timestamp()


def encode(profile: Profile) -> str:
    """As it stands in the store: JSON, without what is not set."""
    quiet = profile.quiet
    value: dict[str, Any] = {
        "locale": profile.locale,
        "zone": profile.time_zone,
        "quiet": quiet and [quiet.from_minute, quiet.to_minute, *quiet.days],
        "preferences": [[one.category, one.channel, one.allowed] for one in profile.preferences],
        "mutes": [[one.subject, one.until] for one in profile.mutes],
    }
    return json.dumps({name: part for name, part in value.items() if part}, ensure_ascii=False)


def decode(text: str) -> Profile:
    """The profile of which `encode` made the text."""
    value: dict[str, Any] = json.loads(text)
    quiet: Sequence[int] = value.get("quiet", ())
    return Profile(
        locale=value.get("locale", ""),
        time_zone=value.get("zone", ""),
        quiet=QuietHours(quiet[0], quiet[1], tuple(quiet[2:])) if quiet else None,
        preferences=tuple(Preference(*one) for one in value.get("preferences", ())),
        mutes=tuple(Mute(*one) for one in value.get("mutes", ())),
    )
