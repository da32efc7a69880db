"""What users want, between the contract and `profile`: what may be asked for, and what is told.

Pure. Knows the messages of users.proto and the bounds of a profile. Must not know stores. A part
that cannot be taken raises `Unacceptable`, whose sentence names it; a bound that is reached raises
`TooMany`.
"""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import cache
from zoneinfo import available_timezones

from google.protobuf.timestamp_pb2 import Timestamp
from onward.presence.v1 import users_pb2

from services.chassis.channel_names import SCHEME
from services.chassis.times import seconds_of
from services.presence.patterns import pattern_fault
from services.presence.profile import (
    MINUTES_OF_DAY,
    MUTES_MAX,
    PREFERENCES_MAX,
    Mute,
    Preference,
    Profile,
    QuietHours,
)
from services.presence.routing import CATEGORY_BYTES_MAX, category_fault

# Name, title, and whether it is notified of without a preference: as the routing file has them.
Categories = Callable[[], Sequence[tuple[str, str, bool]]]

PARTS = ("locale", "time_zone", "quiet_hours", "preferences", "mutes")
# RFC 5646, section 2.1, without its irregular tags: a language, then subtags of up to 8 letters.
_LOCALE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")
_LOCALE_MAX = 35  # section 4.4.1
# The last second that a Timestamp can say: a mute until then is one without an end.
NEVER_S = 253_402_300_799


class Unacceptable(ValueError):
    """What is asked for is not of the agreed shape. The message is one sentence."""


class TooMany(ValueError):
    """A bound of a user's data is reached. The message names it; `of`: what there are too many of,
    in a word."""

    def __init__(self, of: str, message: str) -> None:
        super().__init__(message)
        self.of = of


def updated(
    before: Profile,
    wanted: users_pb2.UserProfile,
    parts: Sequence[str],
    categories: Collection[str],
    now: float,
) -> Profile:
    """The profile with these parts replaced. `categories`: empty if no routing file names any."""
    if not parts:
        raise Unacceptable(f"`parts` names at least one of {', '.join(PARTS)}.")
    profile = before
    for part in parts:
        match part:
            case "locale":
                profile = replace(profile, locale=_locale(wanted.locale))
            case "time_zone":
                profile = replace(profile, time_zone=_time_zone(wanted.time_zone))
            case "quiet_hours":
                quiet = wanted.quiet_hours if wanted.HasField("quiet_hours") else None
                profile = replace(profile, quiet=_quiet(quiet))
            case "preferences":
                preferences = _preferences(wanted.preferences, categories)
                profile = replace(profile, preferences=preferences)
            case "mutes":
                mutes = [_mute(one, f"mutes[{n}].") for n, one in enumerate(wanted.mutes)]
                profile = replace(profile, mutes=_bounded_mutes(mutes, now))
            case _:
                raise Unacceptable(f"`parts` names one of {', '.join(PARTS)}.")
    return profile


def muted(before: Profile, wanted: users_pb2.SubjectMute, now: float) -> Profile:
    """The profile with this mute; one of the same subject is replaced."""
    mute = _mute(wanted)
    if mute.until is not None and mute.until <= now:
        raise Unacceptable("`until` is over already.")
    others = [one for one in before.mutes if one.subject != mute.subject]
    return replace(before, mutes=_bounded_mutes([*others, mute], now))


def unmuted(before: Profile, subject: str) -> Profile:
    """The profile without the mute of that name."""
    return replace(before, mutes=tuple(one for one in before.mutes if one.subject != subject))


def muted_until(profile: Profile, subject: str, now: float) -> Timestamp | None:
    """Until when nothing of the subject is notified; None: it is not muted."""
    ends = [
        NEVER_S if mute.until is None else mute.until
        for mute in profile.mutes
        if replace(profile, mutes=(mute,)).is_muted(subject, now)
    ]
    return timestamp(max(ends)) if ends else None


def profile_message(profile: Profile, now: float) -> users_pb2.UserProfile:
    """The profile as it is told; mutes that are over are left out."""
    quiet = profile.quiet
    return users_pb2.UserProfile(
        locale=profile.locale,
        time_zone=profile.time_zone,
        quiet_hours=None
        if quiet is None
        else users_pb2.QuietHours(
            from_minute=quiet.from_minute, to_minute=quiet.to_minute, days=quiet.days
        ),
        preferences=[
            users_pb2.Preference(category=one.category, channel=one.channel, allowed=one.allowed)
            for one in profile.preferences
        ],
        mutes=[
            users_pb2.SubjectMute(
                subject=one.subject, until=None if one.until is None else timestamp(one.until)
            )
            for one in profile.mutes
            if one.until is None or one.until > now
        ],
    )


def timestamp(at: float) -> Timestamp:
    """A time of the store's clock as it is told."""
    return Timestamp(seconds=int(at), nanos=int(at % 1 * 1e6) * 1_000)


def _locale(tag: str) -> str:
    if tag and (len(tag) > _LOCALE_MAX or not _LOCALE.fullmatch(tag)):
        raise Unacceptable("`locale` is a BCP 47 tag of at most 35 characters, as in pt-BR.")
    return tag


@cache
def _time_zones() -> frozenset[str]:
    """Read once: it walks a folder."""
    return frozenset(available_timezones())


def _time_zone(name: str) -> str:
    if name and name not in _time_zones():
        raise Unacceptable("`time_zone` is an IANA name, as in Europe/Berlin.")
    return name


def _quiet(wanted: users_pb2.QuietHours | None) -> QuietHours | None:
    if wanted is None:
        return None
    for name, minute in (("from_minute", wanted.from_minute), ("to_minute", wanted.to_minute)):
        if minute >= MINUTES_OF_DAY:
            raise Unacceptable(f"`quiet_hours.{name}` is 0 to {MINUTES_OF_DAY - 1}.")
    for place, day in enumerate(wanted.days):
        if not 1 <= day <= 7:
            raise Unacceptable(f"`quiet_hours.days[{place}]` is 1 (Monday) to 7.")
    days = sorted(set(wanted.days))
    if not days:
        return QuietHours(wanted.from_minute, wanted.to_minute)
    return QuietHours(wanted.from_minute, wanted.to_minute, tuple(days))


def _preferences(
    wanted: Sequence[users_pb2.Preference], categories: Collection[str]
) -> tuple[Preference, ...]:
    if len(wanted) > PREFERENCES_MAX:
        raise TooMany("preferences", f"A user has at most {PREFERENCES_MAX} preferences.")
    said: dict[tuple[str, str], Preference] = {}
    for place, one in enumerate(wanted):
        at = f"preferences[{place}]"
        if one.category and category_fault(one.category):
            bound = f"at most {CATEGORY_BYTES_MAX} bytes, and no control characters"
            raise Unacceptable(f"`{at}.category` has {bound}.")
        if one.category and categories and one.category not in categories:
            raise Unacceptable(f"`{at}.category` is none that the routing file has.")
        if one.channel and not SCHEME.fullmatch(one.channel):
            raise Unacceptable(f"`{at}.channel` is a scheme of external tokens, as in mailto.")
        key = (one.category, one.channel)
        if key in said:
            raise Unacceptable(f"`{at}` is of the same category and channel as one before it.")
        said[key] = Preference(*key, one.allowed)
    return tuple(said.values())


def _mute(wanted: users_pb2.SubjectMute, at: str = "") -> Mute:
    """`at`: where it stands in what was asked for."""
    if fault := pattern_fault(wanted.subject):
        raise Unacceptable(
            f"`{at}subject`, what is muted, is a subject, or all below one, as in /chat/*. {fault}"
        )
    if not wanted.HasField("until"):
        return Mute(wanted.subject)
    seconds = wanted.until.seconds
    if not 0 <= seconds <= NEVER_S:
        raise Unacceptable(f"`{at}until` is a time from 1970 to 9999.")
    return Mute(wanted.subject, None if seconds == NEVER_S else seconds_of(wanted.until))


def _bounded_mutes(mutes: Sequence[Mute], now: float) -> tuple[Mute, ...]:
    """One for each subject, the last; those that are over count for nothing."""
    left = {one.subject: one for one in mutes if one.until is None or one.until > now}
    if len(left) > MUTES_MAX:
        raise TooMany("mutes", f"A user mutes at most {MUTES_MAX} subjects.")
    return tuple(left.values())
