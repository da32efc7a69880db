"""Which plan a message has."""

import pytest

from services.presence.plan import DEFAULT_PLAN, Plan, Policy, Priority
from services.presence.routing import Cap, Category, Route, Routing, category_fault

MENTION = Plan(priority=Priority.HIGH, category="chat")
CHAT = Plan(category="chat")


def routing(**changes) -> Routing:
    routes = (Route("/chat/*", {"kind": "mention"}, MENTION), Route("/chat/*", {}, CHAT))
    return Routing(routes=routes, **changes)


def test_without_a_file_every_message_has_the_default_plan():
    assert Routing().plan("/a", {}) is DEFAULT_PLAN


def test_the_first_route_that_matches_gives_the_plan():
    assert routing().plan("/chat/1", {"kind": "mention"}) == MENTION
    assert routing().plan("/chat/1", {"kind": "other"}) == CHAT
    assert routing().plan("/chat/1") == CHAT
    assert routing().plan("/news") == DEFAULT_PLAN


def test_a_star_asks_only_for_the_header_to_be_there():
    star = Routing(routes=(Route("/*", {"kind": "*"}, MENTION),))
    assert star.plan("/a", {"kind": ""}) == MENTION
    assert star.plan("/a", {"other": "1"}) == DEFAULT_PLAN


def test_headers_say_what_the_file_leaves_open():
    plan = Routing().plan("/a", {"category": "news", "priority": "low", "expires_at": "1000"})
    assert plan == Plan(category="news", free=True, priority=Priority.LOW, expires_at=1_000.0)


def test_what_is_urgent_is_for_the_file_to_say():
    assert Routing().plan("/a", {"priority": "urgent"}).priority is Priority.HIGH


def test_what_the_file_sets_headers_do_not_change():
    fixed = Routing(default=Route("/*", {}, CHAT, frozenset({"category", "priority"})))
    assert fixed.plan("/a", {"category": "news", "priority": "urgent"}) == CHAT


def test_a_header_names_a_category_of_the_file_or_none():
    known = Routing(categories={"news": Category("news", allowed=False, silent=("tel",))})
    assert known.plan("/a", {"category": "chat"}).category == ""
    assert known.plan("/a", {"category": "news"}) == Plan(
        category="news", allowed=False, silent=("tel",)
    )


@pytest.mark.parametrize("value", ["", "soon", "-5", "9" * 40, "2026-99-01", "nan", "1e9"])
def test_an_expiry_that_is_no_time_says_nothing(value):
    assert Routing().plan("/a", {"expires_at": value}).expires_at is None


@pytest.mark.parametrize("value", ["2026-06-01T12:00:00Z", "2026-06-01T14:00:00+02:00"])
def test_an_expiry_is_a_time_of_rfc_3339(value):
    assert Routing().plan("/a", {"expires_at": value}).expires_at == 1_780_315_200.0


@pytest.mark.parametrize("value", ["", "asap", "0", "urgent "])
def test_a_priority_that_is_none_says_nothing(value):
    assert Routing().plan("/a", {"priority": value}).priority is Priority.NORMAL


@pytest.mark.parametrize(
    "name", ["", "x" * 65, "ü" * 33, "a\nb", "a\x00", "a\x1b[31m", "\u2028", "\u200b"]
)
def test_a_category_that_cannot_be_one_says_nothing(name):
    assert Routing().plan("/a", {"category": name}) == DEFAULT_PLAN
    assert category_fault(name)


@pytest.mark.parametrize("name", ["x" * 64, "ü" * 32, "two words", "新闻"])
def test_a_category_has_a_name_as_people_write_them(name):
    assert Routing().plan("/a", {"category": name}).category == name
    assert category_fault(name) is None


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"category": "x" * 65}, "`category` is passed over: a category has 1 to 64 bytes"),
        ({"category": ""}, "`category` is passed over: a category has 1 to 64 bytes"),
        ({"priority": "asap"}, "`priority` is passed over: it is none of urgent, high, normal"),
        ({"priority": "URGENT"}, "it counts as high"),
        ({"expires_at": "soon"}, "`expires_at` is passed over: it is no time of RFC 3339"),
    ],
)
def test_a_header_that_does_not_count_is_told_without_its_value(headers, words):
    [said] = Routing().passed_over("/a", headers)
    assert words in said
    assert all(value not in said or not value for value in headers.values())


def test_a_header_that_the_file_stands_against_is_told():
    known = routing(categories={"chat": Category("chat"), "news": Category("news")})
    [said] = known.passed_over("/news", {"category": "other"})
    assert "the routing file has no such category" in said
    fixed = Routing(default=Route("/*", {}, CHAT, frozenset({"category", "priority"})))
    said = fixed.passed_over("/a", {"category": "news", "priority": "low"})
    assert [one.endswith("the routing file says it.") for one in said] == [True, True]


def test_a_header_that_counts_or_says_the_same_is_not_told():
    said = {"category": "news", "priority": "high", "expires_at": "1000", "kind": "x" * 99}
    assert Routing().passed_over("/a", said) == ()
    fixed = Routing(default=Route("/*", {}, CHAT, frozenset({"category", "priority"})))
    assert fixed.passed_over("/a", {"category": "chat", "priority": "Normal"}) == ()


def test_a_subject_concerns_those_online_if_any_route_of_it_may():
    loud = Routing(routes=(Route("/a/*", {"kind": "x"}, Plan(policy=Policy.ALWAYS)),))
    assert loud.concerns_all("/a/1")
    assert not loud.concerns_all("/b")
    assert Routing(default=Route("/*", {}, Plan(policy=Policy.ENDPOINT))).concerns_all("/b")


def test_a_cap_is_that_of_the_channel_or_of_all():
    tel, other = Cap(1, 60), Cap(9, 60)
    capped = Routing(caps={"tel": tel, "*": other})
    assert (capped.cap("tel"), capped.cap("fcm")) == (tel, other)
    assert Routing().cap("tel") is None


def test_so_many_go_at_once_and_then_one_in_each_part_of_the_time():
    cap, used, now = Cap(3, 60.0), 0.0, 1_000.0
    for _ in range(3):
        assert cap.allows(used, now)
        used = cap.after(used, now)
    assert not cap.allows(used, now)
    assert cap.next_at(used, now) == 1_020.0
    assert cap.allows(used, 1_020.0)
    assert not cap.allows(cap.after(used, 1_020.0), 1_020.0)


def test_a_cap_that_was_not_used_is_whole_again():
    cap = Cap(2, 60.0)
    used = cap.after(cap.after(0.0, 0.0), 0.0)
    later = 1_000.0
    assert cap.allows(cap.after(used, later), later)


def test_as_many_as_a_cap_allows_go_at_once():
    """Whatever becomes of thirds of its time when they are added up."""
    for at_most in range(1, 50):
        for now in (0.0, 1.0, 1_791_046_643.8547647):
            cap = Cap(at_most, 5.0)
            used = 0.0
            for _ in range(at_most):
                assert cap.allows(used, now), (at_most, now)
                used = cap.after(used, now)
            assert not cap.allows(used, now), (at_most, now)
