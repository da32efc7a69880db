"""What the mail server answers becomes what is tried, recorded and told."""

from pathlib import Path

from tests.path.mailbox import Mailbox
from tests.path.stack import Subscriber, Suite, ended
from tests.waiting import wait_for


def away(suite: Suite, state: Path, subject: str, client: str) -> None:
    """The user `client` follows the subject with one client and leaves without a word."""
    reader = Subscriber(
        suite, state, subject, "--user", client, "--client-id", client,
        "--external-token", f"mailto:{client}@example.org",
    )  # fmt: skip
    with ended(reader):
        reader.wait_event("connected")
        reader.kill()


def test_a_server_that_is_busy_twice_gets_it_at_the_third_try(
    suite: Suite, mailbox: Mailbox, tmp_path: Path
) -> None:
    away(suite, tmp_path, "/smtp/busy", "busy")
    mailbox.refusals = ["451 4.3.0 try again later", "451 4.3.0 try again later"]
    suite.publish("/smtp/busy", "patience")
    mail = wait_for(lambda: [m for m in mailbox.mails if "busy" in m["X-Rcpt-To"]], 60, "the mail")
    wait_for(lambda: suite.explain("busy", "/smtp/busy", 1)["state"] == "NOTIFIED", 10, "notified")
    (delivery,) = suite.explain("busy", "/smtp/busy", 1)["deliveries"]
    assert [attempt["outcome"] for attempt in delivery["attempts"]] == [
        "RETRY",
        "RETRY",
        "ACCEPTED",
    ]
    assert len(mail) == 1


def test_an_address_that_is_gone_is_removed_and_its_owner_told(
    suite: Suite, mailbox: Mailbox, tmp_path: Path
) -> None:
    mailbox.unknown_recipients.add("gone@example.org")
    away(suite, tmp_path, "/smtp/gone", "gone")
    suite.publish("/smtp/gone", "anybody there?")
    wait_for(lambda: suite.explain("gone", "/smtp/gone", 1)["state"] == "FAILED", 30, "given up")
    tries = mailbox.attempts
    back = Subscriber(suite, tmp_path, "/smtp/gone", "--user", "gone", "--client-id", "gone")
    with ended(back):
        assert back.wait_event("endpoint_gone")["uri"] == "mailto:gone@example.org"
        back.wait_event("connected")
        back.kill()
    suite.publish("/smtp/gone", "nobody")

    def suppressed() -> bool:
        outcome = suite.explain("gone", "/smtp/gone", 2)
        return (outcome["state"], outcome["reason"]) == ("SUPPRESSED", "NO_ENDPOINT")

    wait_for(suppressed, 30, "suppressed for want of an endpoint")
    assert mailbox.attempts == tries
