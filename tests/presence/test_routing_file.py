"""The routing file: what it may say, and what is told of what it may not."""

import pytest

from services.presence.plan import DEFAULT_PLAN, Plan, Policy, Priority, Quiet
from services.presence.routing import Cap, Category, Route
from services.presence.routing_file import ROUTES_MAX, RoutingFault, parse
from services.presence.yaml_lines import BYTES_MAX

WHOLE = """
categories:
  chat: {title: Chat messages}
  news: {default: off, off_on: [tel]}
defaults:
  expiry_s: 7200
routes:
  - subject: /chat/*
    headers: {kind: mention}
    category: chat
    policy: endpoint
    priority: urgent
    quiet_hours: pass
    channels: [[fcm, APNS], [tel]]
    escalate_s: 300
    template: mention
  - subject: /news
    category: news
    channels: [mailto]
    digest_s: 3600
    collapse_s: 0
    policy: always
    quiet_hours: drop
rates:
  tel: {at_most: 5, per_s: 86400, then: drop}
  "*": {at_most: 30, per_s: 3600}
templates:
  mention: {title: "Hi"}
"""


def problems(text: str) -> list[str]:
    with pytest.raises(RoutingFault) as fault:
        parse(text)
    return [str(one) for one in fault.value.problems]


def test_a_whole_file():
    routing, templates, _ = parse(WHOLE)
    assert routing.categories == {
        "chat": Category("chat", "Chat messages"),
        "news": Category("news", "news", False, ("tel",)),
    }
    assert routing.default == Route("/*", {}, Plan(expiry_s=7_200.0), frozenset({"expiry_s"}))
    mention, news = routing.routes
    assert mention.headers == {"kind": "mention"}
    assert mention.plan == Plan(
        policy=Policy.ENDPOINT,
        category="chat",
        template="mention",
        priority=Priority.URGENT,
        quiet=Quiet.PASS,
        steps=(("fcm", "apns"), ("tel",)),
        escalate_s=300.0,
        expiry_s=7_200.0,
    )
    assert mention.fixed > {"expiry_s", "category", "priority"}
    assert news.plan == Plan(
        policy=Policy.ALWAYS,
        category="news",
        quiet=Quiet.DROP,
        steps=(("mailto",),),
        collapse_s=0.0,
        digest_s=3600.0,
        expiry_s=7_200.0,
    )
    assert routing.caps == {"tel": Cap(5, 86_400.0, True), "*": Cap(30, 3_600.0)}
    assert templates == {"mention": {"title": "Hi"}}


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n", "null"])
def test_an_empty_file_is_refused_for_it_may_be_one_that_is_being_written(text):
    [told] = problems(text)
    assert told.startswith("Line 1: the file is empty; write `routes: []`")


@pytest.mark.parametrize("text", ["routes: []", "{}", "routes:\ndefaults:\nrates:\ntemplates:\n"])
def test_a_file_may_say_that_it_says_nothing(text):
    routing, templates, _ = parse(text)
    assert (routing.routes, routing.default.plan, templates) == ((), DEFAULT_PLAN, {})


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("- a", 1, "mapping"),
        ("routes: [", 1, "no valid YAML"),
        ("a: 1\n", 1, "`a` is not known"),
        ("\nroutes: 5", 2, "list"),
        ("routes:\n  - subject: a", 2, "'/'"),
        ("routes:\n  - {}", 2, "`subject`"),
        ("templates:\n  a: {title: {{ title }}}", 2, "in quotes"),
        ("templates:\n  a:\n    [b, c]: d", 3, "in quotes"),
        ("a: " + "[" * 2_000 + "]" * 2_000, 1, "no valid YAML"),
        ("routes:\n  - subject: /a\n    policy: often", 3, "`user`, `endpoint`, `always`"),
        ("routes:\n  - subject: /a\n    priority: 5", 3, "as `priority`"),
        ("routes:\n  - subject: /a\n    category: x", 3, "under `categories`"),
        ("routes:\n  - subject: /a\n    expiry_s: 0", 3, "from 1"),
        ("routes:\n  - subject: /a\n    expiry_s: yes", 3, "number"),
        ("routes:\n  - subject: /a\n    digest_s: 1e99", 3, "number"),
        ("routes:\n  - subject: /a\n    channels: fcm", 3, "list"),
        ("routes:\n  - subject: /a\n    channels: [[a], [b]]", 2, "`escalate_s`"),
        ("routes:\n  - subject: /a\n    channels: [[a], [a]]\n    escalate_s: 9", 3, "twice"),
        ("routes:\n  - subject: /a\n    headers: {a: 5}", 3, "quotes"),
        ("routes:\n  - subject: /a\n    color: red", 3, "`color` is not known"),
        ("rates:\n  tel: {at_most: 5}", 2, "a rate has both"),
        ("rates:\n  tel: {at_most: 0, per_s: 5}", 2, "from 1"),
        ("rates:\n  tel: {at_most: 1, per_s: 5, then: wait}", 2, "`defer`, `drop`"),
        ("categories:\n  a: {default: maybe}", 2, "`on`, `off`"),
        ("categories:\n  a: 5", 2, "mapping"),
        ("defaults:\n  expiry_s: 5\n  expiry_s: 6", 3, "twice"),
        ("a: &x 1\nb: *x", 2, "aliases"),
        ("routes:\n  - subject: /a\n  - subject: /b/*/c", 3, "only at the end, for all below"),
        ("routes:\n  - subject: /b*", 2, "as in `/chat/*`; write it so"),
        ("routes:\n  - subject: '*'", 2, "'/'"),
        ("routes:\n  - subject: /a\n    channels: [fcm,\n      email]", 4, "write `mailto`"),
        ("routes:\n  - subject: /a\n    channels: [[fcm], [SMS]]", 3, "write `tel`"),
        ("routes:\n  - subject: /a\n    channels: ['my app']", 3, "is the scheme of external"),
        ("routes:\n  - subject: /a\n    channels: [%s]" % ("x" * 33), 3, "up to 31"),
        ("categories:\n  a: {off_on: [webhook]}", 2, "write `https`"),
        ("rates:\n  e-mail: {at_most: 5, per_s: 5}", 2, "write `mailto`"),
        ("categories:\n  %s: {}" % ("x" * 65), 2, "1 to 64 bytes"),
        ('categories:\n  "a\\nb": {}', 2, "control characters"),
        ("routes:\n  - subject: /a\n    category: 2026-99-99", 3, "in quotes"),
        ("routes:\n  - !own {subject: /a}", 2, "leave out the tag"),
        ("routes: []\n---\nroutes: []", 2, "no valid YAML"),
        ("routes: []\n# \x07", 2, "control character"),
        ("a: " + "x" * BYTES_MAX, 1, "bytes"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text, line, words):
    [told, *_] = problems(text)
    assert told.startswith(f"Line {line}: ")
    assert words in told


def test_everything_that_is_wrong_is_told_at_once():
    assert len(problems("a: 1\nroutes:\n  - subject: /a\n    policy: x\n    priority: y\n")) == 3


def test_what_stands_there_twice_hides_nothing_else():
    told = problems("rates:\nrates:\n  tel: {}\nroutes:\n  - {policy: often}\n")
    assert sorted(one.partition(":")[0] for one in told) == [f"Line {n}" for n in (2, 3, 5, 5)]


def test_every_alias_is_told_before_anything_is_built_of_them():
    told = problems("a: &a [x]\nb: &b [*a, *a]\nc: [*b]\n")
    assert [one.partition(":")[0] for one in told] == ["Line 2", "Line 2", "Line 3"]


def test_what_the_file_says_is_told_short_and_without_control_characters():
    [told] = problems('"\\e[31m%s": 1\n' % ("x" * 5_000))
    assert told.isprintable()
    assert len(told) < 250


@pytest.mark.parametrize("name", ["slack", "mqtt+tls", "x-own.v2", "SLACK"])
def test_any_scheme_may_be_a_channel(name):
    routing, _, _ = parse(f"routes: [{{subject: /a, channels: [{name}]}}]")
    assert routing.routes[0].plan.steps == ((name.lower(),),)


@pytest.mark.parametrize(
    ("said", "line", "words"),
    [
        ("expiry_s: 60\n    digest_s: 60", 4, "`digest_s`"),
        ("digest_s: 90000", 3, "raise `expiry_s`"),
        ("expiry_s: 20\n    collapse_s: 20", 4, "`collapse_s`"),
        ("channels: [[a], [b]]\n    escalate_s: 86400", 4, "`escalate_s`"),
        ("channels: [[a], [b], [c]]\n    escalate_s: 30\n    expiry_s: 60", 4, "after 60 s"),
        ("channels: [[a], [b]]\n    escalate_s: 30\n    digest_s: 40\n    expiry_s: 70", 4, "70"),
    ],
)
def test_times_that_contradict_one_another_are_refused(said, line, words):
    [told] = problems(f"routes:\n  - subject: /a\n    {said}\n")
    assert told.startswith(f"Line {line}: ")
    assert words in told


@pytest.mark.parametrize(
    "said",
    [
        "expiry_s: 60, digest_s: 59",
        "expiry_s: 60, digest_s: 90, priority: urgent",
        # The setting's, which suits usual expiries, stands against nothing.
        "expiry_s: 5",
        "channels: [[a], [b]], escalate_s: 30, expiry_s: 31",
        "channels: [a], escalate_s: 30, expiry_s: 10",
    ],
)
def test_times_that_leave_time_to_send_are_taken(said):
    parse(f"routes: [{{subject: /a, {said}}}]")


def test_times_contradict_those_of_the_defaults_and_of_the_setting_too():
    text = "defaults: {expiry_s: 60}\nroutes:\n  - {subject: /a}\n  - {subject: /b, digest_s: 99}"
    [told] = problems(text)
    assert told.startswith("Line 4: ")
    with pytest.raises(RoutingFault, match="Line 1: a digest of 99 s is never sent"):
        parse("routes: [{subject: /a, digest_s: 99}]", expiry_s=60.0)


def test_a_wrong_time_is_not_told_as_a_contradiction_too():
    [told] = problems("routes:\n  - {subject: /a, digest_s: 99, expiry_s: soon}")
    assert "number" in told


def test_there_are_only_so_many_routes():
    assert "1,000 routes" in problems("routes:\n" + "  - subject: /a\n" * (ROUTES_MAX + 1))[0]
