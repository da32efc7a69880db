"""What users want, and what it says about a moment."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from services.presence.profile import (
    NO_PROFILE,
    Mute,
    Preference,
    Profile,
    QuietHours,
    decode,
    encode,
)

BERLIN = "Europe/Berlin"
NIGHT = QuietHours(22 * 60, 7 * 60)


def at(text: str, zone: str = BERLIN) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def quiet_until(now: str, quiet: QuietHours = NIGHT, zone: str = BERLIN) -> str | None:
    """When it ends, by the clock on the user's wall; None: it is not quiet."""
    end = Profile(time_zone=zone, quiet=quiet).quiet_until(at(now, zone))
    return None if end is None else f"{datetime.fromtimestamp(end, ZoneInfo(zone)):%d. %H:%M}"


def test_a_profile_comes_back_as_it_was():
    whole = Profile(
        locale="pt-BR",
        time_zone=BERLIN,
        quiet=QuietHours(60, 120, (1, 7)),
        preferences=(Preference("news", "", False), Preference("", "tel", True)),
        mutes=(Mute("/a/*", 5.0), Mute("/b")),
    )
    assert decode(encode(whole)) == whole
    assert decode(encode(NO_PROFILE)) == NO_PROFILE


def test_hours_over_midnight_are_quiet_before_and_after_it():
    assert quiet_until("2026-06-01T21:59") is None
    assert quiet_until("2026-06-01T22:00") == "02. 07:00"
    assert quiet_until("2026-06-02T06:59") == "02. 07:00"
    assert quiet_until("2026-06-02T07:00") is None


def test_hours_of_one_day():
    lunch = QuietHours(12 * 60, 13 * 60)
    assert quiet_until("2026-06-01T11:59", lunch) is None
    assert quiet_until("2026-06-01T12:30", lunch) == "01. 13:00"
    assert quiet_until("2026-06-01T13:00", lunch) is None


def test_the_same_twice_is_all_day():
    assert quiet_until("2026-06-01T09:00", QuietHours(8 * 60, 8 * 60)) == "02. 08:00"


def test_a_night_belongs_to_the_day_on_which_it_begins():
    friday = QuietHours(22 * 60, 7 * 60, (5,))
    assert quiet_until("2026-06-05T23:00", friday) == "06. 07:00"
    assert quiet_until("2026-06-06T06:00", friday) == "06. 07:00"
    assert quiet_until("2026-06-06T23:00", friday) is None


def test_the_zone_is_the_users():
    assert quiet_until("2026-06-01T23:00", zone="America/New_York") == "02. 07:00"
    assert (
        Profile(time_zone="", quiet=NIGHT).quiet_until(
            datetime(2026, 6, 1, 23, tzinfo=UTC).timestamp()
        )
        == datetime(2026, 6, 2, 7, tzinfo=UTC).timestamp()
    )


def test_a_zone_that_this_machine_does_not_know_is_utc():
    assert Profile(time_zone="Mars/Olympus", quiet=NIGHT).quiet_until(
        datetime(2026, 6, 1, 23, tzinfo=UTC).timestamp()
    )


@pytest.mark.parametrize(
    ("evening", "hours"),
    [("2026-03-28T23:00", 7), ("2026-10-24T23:00", 9), ("2026-06-01T23:00", 8)],
)
def test_a_night_in_which_clocks_change_ends_by_the_clock_on_the_wall(evening, hours):
    now = at(evening)
    end = Profile(time_zone=BERLIN, quiet=NIGHT).quiet_until(now)
    assert end is not None
    assert end - now == hours * 3600


def test_quiet_hours_that_begin_in_a_skipped_hour_end_all_the_same():
    # On this day there is no 02:30.
    skipped = QuietHours(2 * 60 + 30, 4 * 60)
    assert quiet_until("2026-03-29T03:45", skipped) == "29. 04:00"
    assert quiet_until("2026-03-29T04:00", skipped) is None


def test_the_most_specific_preference_holds():
    profile = Profile(
        preferences=(
            Preference("", "", False),
            Preference("", "tel", True),
            Preference("news", "", True),
            Preference("news", "mailto", False),
        )
    )
    assert profile.allows("news", "mailto") is False
    assert profile.allows("news", "fcm") is True
    assert profile.allows("chat", "tel") is True
    assert profile.allows("chat", "fcm") is False
    assert NO_PROFILE.allows("chat", "fcm") is None


def test_a_mute_holds_until_its_time():
    profile = Profile(mutes=(Mute("/a/*", 10.0), Mute("/b")))
    assert profile.is_muted("/a/1", 9.0)
    assert not profile.is_muted("/a/1", 10.0)
    assert profile.is_muted("/b", 1e12)
    assert not profile.is_muted("/c", 9.0)
