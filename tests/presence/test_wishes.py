"""What may be asked for of a profile, and how a profile is told."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from onward.presence.v1 import users_pb2 as pb

from services.presence.profile import NO_PROFILE, Mute, Preference, Profile, QuietHours
from services.presence.wishes import (
    NEVER_S,
    TooMany,
    Unacceptable,
    muted,
    muted_until,
    profile_message,
    unmuted,
    updated,
)

NOW = 1_000.0


def update(part: str, categories: tuple[str, ...] = (), **fields) -> Profile:
    return updated(NO_PROFILE, pb.UserProfile(**fields), [part], categories, NOW)


def mute(subject: str, until: int | None = None) -> pb.SubjectMute:
    stamp = None if until is None else Timestamp(seconds=until)
    return pb.SubjectMute(subject=subject, until=stamp)


@pytest.mark.parametrize(
    "tag", ["x", "de_DE", "de-", "-de", "de-" + "a" * 9, "d1", "de\n", "ä" * 3]
)
def test_what_is_no_language_tag_is_refused(tag: str) -> None:
    with pytest.raises(Unacceptable, match="locale"):
        update("locale", locale=tag)


def test_a_language_tag_longer_than_any_real_one_is_refused() -> None:
    with pytest.raises(Unacceptable, match="locale"):
        update("locale", locale="de" + "-abcdefgh" * 4)


@pytest.mark.parametrize("tag", ["", "de", "pt-BR", "zh-Hant-TW", "de-1996", "en-a-bb-x-c"])
def test_a_language_tag_is_taken_as_it_is(tag: str) -> None:
    assert update("locale", locale=tag).locale == tag


@pytest.mark.parametrize("name", ["Mars/Base", "../etc/passwd", "/etc/localtime", "europe/berlin"])
def test_a_time_zone_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(Unacceptable, match="time_zone"):
        update("time_zone", time_zone=name)


def test_a_time_zone_is_taken_by_its_name() -> None:
    assert update("time_zone", time_zone="Europe/Berlin").time_zone == "Europe/Berlin"


@pytest.mark.parametrize(
    "quiet",
    [
        pb.QuietHours(from_minute=1_440),
        pb.QuietHours(to_minute=1_440),
        pb.QuietHours(days=[0]),
        pb.QuietHours(days=[3, 8]),
    ],
)
def test_quiet_hours_out_of_their_bounds_are_refused(quiet: pb.QuietHours) -> None:
    with pytest.raises(Unacceptable, match="quiet_hours"):
        update("quiet_hours", quiet_hours=quiet)


def test_quiet_hours_are_each_day_if_no_day_is_named() -> None:
    quiet = pb.QuietHours(from_minute=1_320, to_minute=420)
    assert update("quiet_hours", quiet_hours=quiet).quiet == QuietHours(1_320, 420)
    quiet.days.extend([7, 6, 7])
    assert update("quiet_hours", quiet_hours=quiet).quiet == QuietHours(1_320, 420, (6, 7))


def test_quiet_hours_that_are_not_given_are_taken_away() -> None:
    before = Profile(locale="de", quiet=QuietHours(0, 1))
    after = updated(before, pb.UserProfile(), ["quiet_hours"], (), NOW)
    assert after == Profile(locale="de")


def test_a_category_that_no_route_has_is_refused_if_there_are_any() -> None:
    wanted = [pb.Preference(category="chta", allowed=True)]
    assert update("preferences", preferences=wanted).preferences == (Preference("chta", "", True),)
    with pytest.raises(Unacceptable, match="category"):
        update("preferences", ("chat",), preferences=wanted)


@pytest.mark.parametrize(
    "wanted",
    [
        [pb.Preference(channel="Mail To")],
        [pb.Preference(category="a" * 65)],
        [pb.Preference(category="a\nb")],
        [pb.Preference(channel="fcm"), pb.Preference(channel="fcm", allowed=True)],
    ],
)
def test_a_preference_of_no_valid_form_is_refused(wanted: list[pb.Preference]) -> None:
    with pytest.raises(Unacceptable):
        update("preferences", preferences=wanted)


@pytest.mark.parametrize(
    ("part", "fields", "named"),
    [
        ("locale", {"locale": "de_DE"}, "locale"),
        ("time_zone", {"time_zone": "Mars"}, "time_zone"),
        ("quiet_hours", {"quiet_hours": pb.QuietHours(from_minute=1_440)},
         "quiet_hours.from_minute"),
        ("quiet_hours", {"quiet_hours": pb.QuietHours(to_minute=9_999)}, "quiet_hours.to_minute"),
        ("quiet_hours", {"quiet_hours": pb.QuietHours(days=[1, 8])}, "quiet_hours.days[1]"),
        ("preferences", {"preferences": [pb.Preference(), pb.Preference(category="Mars")]},
         "preferences[1].category"),
        ("preferences", {"preferences": [pb.Preference(channel="x y")]}, "preferences[0].channel"),
        ("preferences", {"preferences": [pb.Preference()] * 2}, "preferences[1]"),
        ("mutes", {"mutes": [mute("/a"), mute("Mars")]}, "mutes[1].subject"),
        ("mutes", {"mutes": [mute("/a", -1)]}, "mutes[0].until"),
    ],
    ids=str,
)  # fmt: skip
def test_a_field_that_cannot_be_taken_is_named_by_its_path(part, fields, named) -> None:
    with pytest.raises(Unacceptable, match=re.escape(f"`{named}`")) as refused:
        update(part, ("news",), **fields)
    assert "Mars" not in str(refused.value)


def test_more_preferences_than_allowed_are_too_many() -> None:
    wanted = [pb.Preference(category=f"c{n}") for n in range(201)]
    with pytest.raises(TooMany, match="200 preferences"):
        update("preferences", preferences=wanted)
    assert len(update("preferences", preferences=wanted[:200]).preferences) == 200


@pytest.mark.parametrize("parts", [[], ["name"], ["locale", "quiet"]])
def test_a_part_that_a_profile_does_not_have_is_refused(parts: list[str]) -> None:
    with pytest.raises(Unacceptable, match="parts"):
        updated(NO_PROFILE, pb.UserProfile(), parts, (), NOW)


def test_only_the_parts_that_are_named_are_replaced() -> None:
    before = Profile(locale="de", time_zone="UTC")
    after = updated(before, pb.UserProfile(locale="fr", time_zone="CET"), ["locale"], (), NOW)
    assert after == replace(before, locale="fr")


# -- mutes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("subject", ["", "chat", "/chat/", "/chat/*/x/", "/a//b"])
def test_a_mute_of_no_subject_is_refused(subject: str) -> None:
    with pytest.raises(Unacceptable, match="muted"):
        muted(NO_PROFILE, mute(subject), NOW)


@pytest.mark.parametrize("until", [-1, 0, 999, 1_000, NEVER_S + 1])
def test_a_mute_that_is_over_or_beyond_all_time_is_refused(until: int) -> None:
    with pytest.raises(Unacceptable, match="until"):
        muted(NO_PROFILE, mute("/chat", until), NOW)


def test_a_mute_takes_the_place_of_one_of_the_same_name() -> None:
    once = muted(muted(NO_PROFILE, mute("/a"), NOW), mute("/b/*", 2_000), NOW)
    assert once.mutes == (Mute("/a"), Mute("/b/*", 2_000.0))
    assert muted(once, mute("/a", 3_000), NOW).mutes == (Mute("/b/*", 2_000.0), Mute("/a", 3_000.0))


def test_more_mutes_than_allowed_are_too_many_and_those_that_are_over_do_not_count() -> None:
    full = Profile(mutes=tuple(Mute(f"/{n}", 2_000.0) for n in range(500)))
    with pytest.raises(TooMany, match="500 subjects"):
        muted(full, mute("/x"), NOW)
    assert muted(full, mute("/x"), 2_000.0).mutes == (Mute("/x"),)
    with pytest.raises(TooMany):
        update("mutes", mutes=[mute(f"/{n}") for n in range(501)])


def test_a_mute_is_ended_by_its_name() -> None:
    before = Profile(mutes=(Mute("/a/*"), Mute("/a/b")))
    assert unmuted(before, "/a/*") == Profile(mutes=(Mute("/a/b"),))
    assert unmuted(before, "/a") == before


def test_until_when_a_subject_is_muted_is_the_last_end_of_all_that_mean_it() -> None:
    profile = Profile(mutes=(Mute("/a/*", 2_000.0), Mute("/a/b", 3_000.0), Mute("/c")))
    assert muted_until(profile, "/a/b", NOW) == Timestamp(seconds=3_000)
    assert muted_until(profile, "/c", NOW) == Timestamp(seconds=NEVER_S)
    assert muted_until(profile, "/a", NOW) is None
    assert muted_until(profile, "/a/b", 3_000.0) is None


def test_a_profile_is_told_as_it_was_asked_for_without_mutes_that_are_over() -> None:
    wanted = pb.UserProfile(
        locale="pt-BR",
        time_zone="Europe/Berlin",
        quiet_hours=pb.QuietHours(from_minute=1_320, to_minute=420, days=[1, 5]),
        preferences=[pb.Preference(category="chat", channel="mailto", allowed=False)],
        mutes=[mute("/a"), mute("/b/*", 2_000)],
    )
    parts = ["locale", "time_zone", "quiet_hours", "preferences", "mutes"]
    profile = updated(NO_PROFILE, wanted, parts, (), NOW)
    assert profile_message(profile, NOW) == wanted
    del wanted.mutes[1]
    assert profile_message(profile, 2_000.0) == wanted
