"""The decision about a message that presence found due, and its reason."""

from services.presence.decision import (
    EXPIRED,
    MUTED,
    NO_ENDPOINT,
    NO_ROUTE,
    OPTED_OUT,
    PREFERENCE,
    PUBLISHER,
    QUIET_HOURS,
    RATE_CAPPED,
    Due,
    Facts,
    Later,
    Suppressed,
    decide,
    recheck,
)
from services.presence.plan import DEFAULT_PLAN, Plan, Priority, Quiet
from services.presence.profile import NO_PROFILE, Mute, Preference, Profile, QuietHours
from services.presence.routing import Cap

MAIL, PUSH = "mailto:ann@example.org", "fcm:abc"


def test_a_message_is_due_at_every_endpoint():
    assert decide(Facts("ann", "bob", (MAIL, PUSH))) == Due((MAIL, PUSH))


def test_the_rest_of_a_backlog_has_no_publisher_and_is_due():
    assert decide(Facts("ann", None, (MAIL,))) == Due((MAIL,))


def test_nobody_is_notified_of_an_own_message():
    assert decide(Facts("ann", "ann", (MAIL,))) == Suppressed(PUBLISHER)


def test_without_an_endpoint_there_is_nowhere_to_send():
    assert decide(Facts("ann", "bob", ())) == Suppressed(NO_ENDPOINT)


def test_the_own_message_is_the_first_reason():
    assert decide(Facts("ann", "ann", ())) == Suppressed(PUBLISHER)


def test_an_endpoint_that_opted_out_is_left_out():
    assert decide(Facts("ann", "bob", (MAIL, PUSH), frozenset({PUSH}))) == Due((MAIL,))


def test_if_all_endpoints_opted_out_that_is_the_reason():
    assert decide(Facts("ann", "bob", (MAIL,), frozenset({MAIL}))) == Suppressed(OPTED_OUT)


NIGHT = Profile(quiet=QuietHours(22 * 60, 7 * 60))
EVENING = 23 * 3600.0
MORNING = (24 + 7) * 3600.0


def facts(uris=(MAIL, PUSH), plan=DEFAULT_PLAN, profile=NO_PROFILE, now=EVENING) -> Facts:
    return Facts("ann", "bob", uris, frozenset(), "/a", plan, profile, now)


def test_what_has_expired_is_not_sent():
    assert decide(facts(plan=Plan(expires_at=EVENING))) == Suppressed(EXPIRED)
    assert decide(facts(plan=Plan(expires_at=EVENING + 1))) == Due((MAIL, PUSH))


def test_what_is_muted_is_not_sent():
    assert decide(facts(profile=Profile(mutes=(Mute("/a"),)))) == Suppressed(MUTED)
    assert decide(facts(profile=Profile(mutes=(Mute("/b"),)))) == Due((MAIL, PUSH))


def test_only_channels_of_the_plan_are_used():
    assert decide(facts(plan=Plan(steps=(("fcm",), ("tel",))))) == Due((PUSH,))
    assert decide(facts(plan=Plan(steps=(("tel",),)))) == Suppressed(NO_ROUTE)


def test_only_channels_that_the_user_wants_are_used():
    no_mail = Profile(preferences=(Preference("news", "mailto", False),))
    assert decide(facts(plan=Plan(category="news"), profile=no_mail)) == Due((PUSH,))
    assert decide(facts(profile=no_mail)) == Due((MAIL, PUSH))
    nothing = Profile(preferences=(Preference("news", "", False),))
    assert decide(facts(plan=Plan(category="news"), profile=nothing)) == Suppressed(PREFERENCE)


def test_a_category_that_is_off_is_sent_to_those_who_want_it():
    off = Plan(category="news", allowed=False)
    wanted = Profile(preferences=(Preference("news", "fcm", True),))
    assert decide(facts(plan=off)) == Suppressed(PREFERENCE)
    assert decide(facts(plan=off, profile=wanted)) == Due((PUSH,))


def test_a_category_may_be_silent_on_a_channel():
    assert decide(facts(plan=Plan(category="news", silent=("mailto",)))) == Due((PUSH,))


def test_in_quiet_hours_it_waits_or_is_dropped_or_passes():
    assert decide(facts(profile=NIGHT)) == Due((MAIL, PUSH), MORNING)
    assert decide(facts(plan=Plan(quiet=Quiet.DROP), profile=NIGHT)) == Suppressed(QUIET_HOURS)
    assert decide(facts(plan=Plan(quiet=Quiet.PASS), profile=NIGHT)) == Due((MAIL, PUSH))


def test_what_is_urgent_passes_quiet_hours_but_not_a_mute_or_a_preference():
    urgent = Plan(priority=Priority.URGENT, quiet=Quiet.DROP)
    assert decide(facts(plan=urgent, profile=NIGHT)) == Due((MAIL, PUSH))
    muted = Profile(mutes=(Mute("/a"),))
    assert decide(facts(plan=urgent, profile=muted)) == Suppressed(MUTED)
    unwanted = Profile(preferences=(Preference("", "", False),))
    assert decide(facts(plan=urgent, profile=unwanted)) == Suppressed(PREFERENCE)


# -- at send ---------------------------------------------------------------------------------------


def checked(plan=DEFAULT_PLAN, profile=NO_PROFILE, now=EVENING, cap=None, used=0.0):
    return recheck("/a", "mailto", plan, profile, now, cap, used)


def test_nothing_stands_against_the_usual_delivery():
    assert checked() is None


def test_what_was_muted_or_refused_since_is_not_sent():
    assert checked(profile=Profile(mutes=(Mute("/*"),))) == Suppressed(MUTED)
    refused = Profile(preferences=(Preference("", "mailto", False),))
    assert checked(profile=refused) == Suppressed(PREFERENCE)


def test_quiet_hours_at_send():
    assert checked(profile=NIGHT) == Later(MORNING, QUIET_HOURS)
    assert checked(Plan(quiet=Quiet.DROP), NIGHT) == Suppressed(QUIET_HOURS)
    assert checked(Plan(quiet=Quiet.PASS), NIGHT) is None
    assert checked(Plan(priority=Priority.URGENT), NIGHT) is None


def test_above_the_cap_it_waits_or_is_dropped():
    now = EVENING
    waits, drops = Cap(1, 60.0), Cap(1, 60.0, drops=True)
    used = waits.after(0.0, now)
    assert checked(cap=waits) is None
    assert checked(cap=waits, used=used) == Later(now + 60.0, RATE_CAPPED)
    assert checked(cap=drops, used=used) == Suppressed(RATE_CAPPED)
    assert checked(Plan(priority=Priority.URGENT), cap=drops, used=used) is None
