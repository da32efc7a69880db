"""The routing file: what it may say, and what is told of what it may not."""

import pytest

from services.presence.plan import DEFAULT_PLAN, Plan, Policy, Priority, Quiet
from services.presence.routing import Cap, Category, Route
from services.presence.routing_file import FILE_BYTES_MAX, RoutingFault, parse

WHOLE = """
categories:
  chat: {title: Chat messages}
  news: {default: off, off_on: [tel]}
defaults:
  expiry_s: 600
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
    return fault.value.problems


def test_a_whole_file():
    routing, templates, _ = parse(WHOLE)
    assert routing.categories == {
        "chat": Category("chat", "Chat messages"),
        "news": Category("news", "news", False, ("tel",)),
    }
    assert routing.default == Route("/*", {}, Plan(expiry_s=600.0), frozenset({"expiry_s"}))
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
        expiry_s=600.0,
    )
    assert mention.fixed > {"expiry_s", "category", "priority"}
    assert news.plan == Plan(
        policy=Policy.ALWAYS,
        category="news",
        quiet=Quiet.DROP,
        steps=(("mailto",),),
        collapse_s=0.0,
        digest_s=3600.0,
        expiry_s=600.0,
    )
    assert routing.caps == {"tel": Cap(5, 86_400.0, True), "*": Cap(30, 3_600.0)}
    assert templates == {"mention": {"title": "Hi"}}


@pytest.mark.parametrize("text", ["", "# nothing\n", "routes: []"])
def test_an_empty_file_is_as_none(text):
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
        ("routes:\n  - subject: /a\n    priority: 5", 3, "`priority` is one of"),
        ("routes:\n  - subject: /a\n    category: x", 3, "under `categories`"),
        ("routes:\n  - subject: /a\n    expiry_s: 0", 3, "from 1"),
        ("routes:\n  - subject: /a\n    expiry_s: yes", 3, "number"),
        ("routes:\n  - subject: /a\n    digest_s: 1e99", 3, "number"),
        ("routes:\n  - subject: /a\n    channels: fcm", 3, "list"),
        ("routes:\n  - subject: /a\n    channels: [[a], [b]]", 2, "`escalate_s`"),
        ("routes:\n  - subject: /a\n    channels: [[a], [a]]\n    escalate_s: 9", 3, "two steps"),
        ("routes:\n  - subject: /a\n    headers: {a: 5}", 3, "quotes"),
        ("routes:\n  - subject: /a\n    color: red", 3, "`color` is not known"),
        ("rates:\n  tel: {at_most: 5}", 2, "a rate is"),
        ("rates:\n  tel: {at_most: 0, per_s: 5}", 2, "from 1"),
        ("rates:\n  tel: {at_most: 1, per_s: 5, then: wait}", 2, "`defer`, `drop`"),
        ("categories:\n  a: {default: maybe}", 2, "`on`, `off`"),
        ("categories:\n  a: 5", 2, "mapping"),
        ("defaults:\n  expiry_s: 5\n  expiry_s: 6", 3, "twice"),
        ("a: &x 1\nb: *x", 2, "aliases"),
        ("a: " + "x" * FILE_BYTES_MAX, 1, "bytes"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text, line, words):
    [told, *_] = problems(text)
    assert told.startswith(f"Line {line}: ")
    assert words in told


def test_everything_that_is_wrong_is_told_at_once():
    assert len(problems("a: 1\nroutes:\n  - subject: /a\n    policy: x\n    priority: y\n")) == 3
