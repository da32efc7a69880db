"""Users whom a backend looks after: they need never have connected, and are mailed all the same."""

import json
import urllib.request
from pathlib import Path
from typing import Any

from tests.path.mailbox import Mailbox
from tests.path.stack import Subscriber, Suite, ended
from tests.path.test_handover import mails_to, settled
from tests.waiting import wait_for


def ask(suite: Suite, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """The JSON that the edge answers."""
    request = urllib.request.Request(
        suite.url + path, json.dumps(body or {}).encode(), {"content-type": "application/json"},
        method=method,
    )  # fmt: skip
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


def test_who_never_connected_gets_the_first_message_by_mail(suite: Suite, mailbox: Mailbox) -> None:
    subject = "/backend/first"
    suite.publish(subject, "before")
    whom = ("--user", "eve", "--user", "fay")
    assert suite.command("follows", "add", subject, *whom) == [{"event": "added", "count": 2}]
    for user in ("eve", "fay"):
        suite.command("endpoints", "add", f"mailto:{user}@example.org", "--user", user)
    suite.publish(subject, "hello you")
    for user in ("eve", "fay"):
        (body,) = wait_for(mails_to(mailbox, user), 30, "the mail")
        assert "hello you" in body and "before" not in body
        wait_for(settled(suite, user, subject, range(2, 3)), 10, "it is recorded")
        assert suite.explain(user, subject, 2)["state"] == "NOTIFIED"
        assert suite.explain(user, subject, 1)["state"] == "NOT_FOLLOWED"


def test_a_client_of_such_a_user_silences_what_it_acknowledges(
    suite: Suite, mailbox: Mailbox, tmp_path: Path
) -> None:
    subject = "/backend/client"
    ask(suite, "POST", "/v1/follows", {"users": ["gus"], "subjects": [subject]})
    ask(suite, "POST", "/v1/users/gus/endpoints", {"uri": "mailto:gus@example.org"})
    tab = Subscriber(suite, tmp_path, subject, "--user", "gus", "--client-id", "tab")
    with ended(tab):
        tab.wait_event("connected")
        suite.publish(subject, "seen")
        tab.wait_messages(1)
        wait_for(
            lambda: suite.explain("gus", subject, 1)["state"] in ("ACKNOWLEDGED", "ANSWERED_FOR"),
            10, "the tab answers for it",
        )  # fmt: skip
        there = suite.command("presence", "--subject", subject)[0]
        assert [one["clientId"] for one in there["clients"]] == ["tab"]
        tab.end()
    wait_for(
        lambda: suite.command("presence", "--subject", subject)[0]["absent"] == "1",
        20, "the tab is offline",
    )  # fmt: skip
    suite.publish(subject, "missed")
    (body,) = wait_for(mails_to(mailbox, "gus"), 30, "the mail")
    assert "missed" in body and "seen" not in body


def test_after_a_revocation_and_an_erasure_nothing_comes(suite: Suite, mailbox: Mailbox) -> None:
    first, second = "/backend/revoked", "/backend/kept"
    ask(suite, "POST", "/v1/follows", {"users": ["hal"], "subjects": [first, second]})
    ask(suite, "POST", "/v1/users/hal/endpoints", {"uri": "mailto:hal@example.org"})
    assert ask(suite, "POST", "/v1/users/hal/revoke", {"subject": first}) == {"ended": 1}
    suite.publish(first, "secret")
    suite.publish(second, "open")
    (body,) = wait_for(mails_to(mailbox, "hal"), 30, "the mail")
    assert "open" in body
    suite.command("erase", "hal", "--yes")
    suite.publish(second, "too late")
    # The next one's mail comes after what would have been hal's.
    ask(suite, "POST", "/v1/follows", {"users": ["ivy"], "subjects": [second]})
    ask(suite, "POST", "/v1/users/ivy/endpoints", {"uri": "mailto:ivy@example.org"})
    suite.publish(second, "for ivy")
    wait_for(mails_to(mailbox, "ivy"), 30, "the mail of the other")
    assert len(mails_to(mailbox, "hal")()) == 1
    for seq in (1, 2):
        assert suite.explain("hal", second, seq)["state"] == "NOT_FOLLOWED"
    assert suite.get("/v1/users/hal/endpoints") == {"endpoints": []}


def test_what_a_user_wants_is_kept(suite: Suite) -> None:
    profile = ask(
        suite, "PATCH", "/v1/users/ann/profile",
        {"locale": "de", "quietHours": {"fromMinute": 1320, "toMinute": 420}},
    )["profile"]  # fmt: skip
    assert (profile["locale"], profile["quietHours"]["toMinute"]) == ("de", 420)
    suite.command("mute", "/chat/*", "--user", "ann", "--for", "8h")
    assert [m["subject"] for m in suite.get("/v1/me/mutes?user=ann")["mutes"]] == ["/chat/*"]
