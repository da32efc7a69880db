"""From online to offline and back: what was not read is mailed once, what was read never.

Each test is a story that a user could live through, with real processes from the command line
to the mail server.
"""

import signal
from collections.abc import Callable
from pathlib import Path

from tests.path.mailbox import Mailbox
from tests.path.socket_client import Socket, connecting
from tests.path.stack import Subscriber, Suite, ended
from tests.waiting import wait_for

# Who does not acknowledge, or does not answer a close, is cut sooner than by default.
SETTINGS = {"ONWARD_EDGE_UNACKNOWLEDGED_S": "5", "ONWARD_EDGE_CLOSE_S": "1"}


def reader(suite: Suite, state: Path, subject: str, client: str) -> Subscriber:
    """A subscriber of a user of the same name as its client, with an e-mail address."""
    return Subscriber(
        suite, state, subject, "--user", client, "--client-id", client,
        "--external-token", f"mailto:{client}@example.org",
    )  # fmt: skip


def mails_to(mailbox: Mailbox, client: str) -> Callable[[], list[str]]:
    """The bodies mailed to a client's address so far."""
    return lambda: [
        str(mail.get_content())
        for mail in list(mailbox.mails)
        if mail["X-Rcpt-To"] == f"{client}@example.org"
    ]


def settled(suite: Suite, user: str, subject: str, seqs: range) -> Callable[[], bool]:
    """Whether every one of these messages is decided for the user."""
    return lambda: all(
        suite.explain(user, subject, seq)["state"] in ("ACKNOWLEDGED", "NOTIFIED", "SUPPRESSED")
        for seq in seqs
    )


def test_messages_missed_by_a_killed_reader_are_mailed_once_and_recovered(
    suite: Suite, mailbox: Mailbox, tmp_path: Path
) -> None:
    subject, mails = "/story/killed", mails_to(mailbox, "ann-1")
    first = reader(suite, tmp_path, subject, "ann-1")
    with ended(first):
        first.wait_event("connected")
        suite.publish(subject, "one")
        assert first.wait_messages(1) == [(1, "LIVE", "one")]
        wait_for(
            lambda: suite.explain("ann-1", subject, 1)["state"] in ("ACKNOWLEDGED", "ANSWERED_FOR"),
            10, "the first message is acknowledged",
        )  # fmt: skip
        first.kill()
    for text in ("two", "three", "four"):
        suite.publish(subject, text)
    bodies = wait_for(mails, 30, "the mail")
    assert all(text in bodies[0] for text in ("two", "three", "four"))
    wait_for(settled(suite, "ann-1", subject, range(2, 5)), 10, "all three are decided")

    second = reader(suite, tmp_path, subject, "ann-1")
    with ended(second):
        recovered = second.wait_messages(3)
        assert recovered == [
            (2, "RECOVERED", "two"), (3, "RECOVERED", "three"), (4, "RECOVERED", "four"),
        ]  # fmt: skip
        second.wait_event("synced")
        suite.publish(subject, "five")
        assert second.wait_messages(4)[-1] == (5, "LIVE", "five")
    assert len(mails()) == 1
    story = {o["fromSeq"]: o for o in suite.command(
        "explain", "--user", "ann-1", "--subject", subject)}  # fmt: skip
    assert story["1"]["state"] == "ACKNOWLEDGED"
    assert {story[seq]["state"] for seq in ("2", "3", "4")} == {"NOTIFIED"}


def test_a_message_written_to_a_frozen_reader_is_mailed(
    suite: Suite, mailbox: Mailbox, tmp_path: Path
) -> None:
    subject, mails = "/story/frozen", mails_to(mailbox, "ann-frozen")
    frozen = reader(suite, tmp_path, subject, "ann-frozen")
    with ended(frozen):
        frozen.wait_event("connected")
        frozen.signal(signal.SIGSTOP)
        suite.publish(subject, "unread")
        assert "unread" in wait_for(mails, 60, "the mail")[0]
        assert frozen.messages() == []
    assert len(mails()) == 1


def test_who_returns_within_the_grace_gets_no_mail_and_everything_else(
    suite: Suite, mailbox: Mailbox, tmp_path: Path
) -> None:
    subject, client = "/story/short", "ann-short"
    first = reader(suite, tmp_path, subject, client)
    with ended(first):
        first.wait_event("connected")
        suite.publish(subject, "zero")
        first.wait_messages(1)
        first.kill()
    for text in ("one", "two"):
        suite.publish(subject, text)
    # A bare client returns at once; a program would spend the short grace on its own start.
    with Socket(suite, client) as second:
        answer = second.ask(connect=connecting(client, {"subject": subject, "afterSeq": "1"}))
        assert answer["connected"]["subscriptions"][0]["recovered"] is True
        recovered = [second.receive()["message"] for _ in range(2)]
        assert [(m["seq"], m["kind"], m["text"]) for m in recovered] == [
            ("2", "RECOVERED", "one"), ("3", "RECOVERED", "two"),
        ]  # fmt: skip
        assert second.receive() == {"synced": {"subject": subject, "seq": "3"}}
        second.ask(ack={"positions": [{"subject": subject, "seq": "3"}]})
    wait_for(settled(suite, client, subject, range(1, 4)), 20, "everything is acknowledged")
    assert mails_to(mailbox, client)() == []


def test_who_returns_and_dies_again_before_reading_is_mailed_once(
    suite: Suite, mailbox: Mailbox, tmp_path: Path
) -> None:
    subject, client = "/story/twice", "ann-twice"
    mails = mails_to(mailbox, client)
    first = reader(suite, tmp_path, subject, client)
    with ended(first):
        first.wait_event("connected")
        first.kill()
    for text in ("one", "two"):
        suite.publish(subject, text)
    with Socket(suite, "ann") as second:
        answer = second.ask(connect=connecting(client, {"subject": subject, "afterSeq": "0"}))
        assert answer["connected"]["subscriptions"][0]["recovered"] is True
        assert [second.receive()["message"]["text"] for _ in range(2)] == ["one", "two"]
        second.drop()
    body = wait_for(mails, 40, "the mail")[0]
    assert "one" in body
    assert "two" in body
    wait_for(settled(suite, client, subject, range(1, 3)), 10, "both are decided")
    assert len(mails()) == 1
