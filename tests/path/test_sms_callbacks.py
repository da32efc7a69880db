"""Twilio's status callbacks, from the edge's HTTP to what `explain` tells.

Each is sent as Twilio would: to the URL that the request for the SMS named, signed over that URL,
which is the public one, though it arrives at another. A wrong signature changes nothing.
"""

import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.notifier.fake_twilio import SENDER, SID, TOKEN, FakeTwilio, callback, error, form_of
from tests.notifier.http_double import Answer
from tests.path.cells import Cell, taken
from tests.path.doubles import PUBLIC_URL, Line
from tests.path.playing import (
    Played,
    come_back,
    has_ended,
    leave,
    listed,
    publish,
    tries_of,
    watch,
)
from tests.path.stack import QUICK, Suite, ended
from tests.waiting import wait_for

SETTINGS = {
    "ONWARD_PRESENCE_GRACE_CLEAN_S": "0.3",
    "ONWARD_PRESENCE_COLLAPSE_S": "0",
    "ONWARD_PUBLIC_URL": PUBLIC_URL,
    "ONWARD_TWILIO_ACCOUNT_SID": SID,
    "ONWARD_TWILIO_AUTH_TOKEN": TOKEN,
    "ONWARD_TWILIO_FROM": SENDER,
}
SENT = taken("sms", "to be reported of")


@pytest.fixture(scope="module")
def twilio() -> Iterator[FakeTwilio]:
    with FakeTwilio() as fake:
        yield fake


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory, twilio: FakeTwilio) -> Iterator[Suite]:
    settings = QUICK | SETTINGS | {"ONWARD_TWILIO_URL": twilio.url}
    up = Suite(tmp_path_factory.mktemp("data"), settings)
    with ended(up):
        up.wait_ready()
        yield up


class Sent:
    """A user who has left and was sent an SMS, and what Twilio reports of it."""

    def __init__(self, suite: Suite, twilio: FakeTwilio, number: int, cell: Cell = SENT) -> None:
        self._suite, self._twilio = suite, twilio
        line = Line("tel", "ACCEPTED", twilio.scripts, _number, lambda n: f"tel:{_number(n)}")
        self.played = Played(cell, line, number)
        twilio.scripts.say(self.played.key, *cell.said)
        leave(suite, self.played)
        publish(suite, self.played, 1)
        [story] = watch(suite, [self.played], 1, has_ended)
        assert story["state"] == cell.state, story

    @property
    def forms(self) -> list[dict[str, str]]:
        """Of all requests for the number."""
        forms = [form_of(request) for request in self._twilio.requests]
        return [form for form in forms if form["To"] == self.played.key]

    @property
    def url(self) -> str:
        """Where Twilio was told to report."""
        return self.forms[-1]["StatusCallback"]

    def report(self, *, url: str = "", token: str = TOKEN, **form: str) -> int:
        """Report; returns the status of the answer. `url`: where to, of what is signed."""
        headers, body = callback(self.url, token, To=self.played.key, **form)
        return self.post(url or self.url, body, headers)

    def post(self, url: str, body: bytes, headers: dict[str, str]) -> int:
        """Post to the suite's own edge what is meant for the public URL."""
        parts = urlsplit(url)
        assert f"{parts.scheme}://{parts.netloc}" == PUBLIC_URL
        request = urllib.request.Request(
            f"{self._suite.url}{parts.path}?{parts.query}", body, headers
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def story(self) -> dict[str, Any]:
        return self._suite.explain(self.played.user, self.played.subject, 1)

    def next(self) -> tuple[str, str]:
        """State and reason of another message."""
        publish(self._suite, self.played, 2)
        [story] = watch(self._suite, [self.played], 2, has_ended)
        return story["state"], story["reason"]

    def endpoints(self) -> list[str]:
        return listed(self._suite, self.played)

    def told_gone(self) -> list[str]:
        """What the user is told when back."""
        return come_back(self._suite, self.played)


def _number(number: int) -> str:
    return f"+1555{number:07}"


def delivery_of(story: dict[str, Any]) -> tuple[str, list[str]]:
    """Its state, and the receipts that were kept of it."""
    [delivery] = story["deliveries"]
    return delivery["state"], [receipt["kind"] for receipt in delivery["receipts"]]


def test_what_has_arrived_is_told_as_delivered(suite: Suite, twilio: FakeTwilio) -> None:
    sent = Sent(suite, twilio, 1)
    assert sent.url.startswith(f"{PUBLIC_URL}/v1/callbacks/notifier?channel=sms&delivery=")
    assert delivery_of(sent.story()) == ("accepted", [])
    for step in ("queued", "sending", "sent"):
        assert sent.report(MessageStatus=step) == 204
    assert delivery_of(sent.story()) == ("accepted", [])
    for _ in range(2):  # Twilio may say it twice.
        assert sent.report(MessageStatus="delivered") == 204
        assert delivery_of(sent.story()) == ("delivered", ["DELIVERED"])
    assert sent.story()["state"] == "NOTIFIED"
    assert sent.story()["text"].startswith("Delivered by tel at ")
    assert len(sent.forms) == 1


@pytest.mark.parametrize(
    ("number", "how"),
    [(11, "another token"), (12, "no signature"), (13, "another delivery"), (14, "other words")],
)
def test_a_bad_signature_is_forbidden_and_changes_nothing(
    suite: Suite, twilio: FakeTwilio, number: int, how: str
) -> None:
    sent = Sent(suite, twilio, number)
    before = sent.story()
    form = {"MessageStatus": "undelivered", "ErrorCode": "30006"}
    headers, body = callback(sent.url, To=sent.played.key, **form)
    match how:
        case "another token":
            status = sent.report(token="another", **form)
        case "no signature":
            del headers["x-twilio-signature"]
            status = sent.post(sent.url, body, headers)
        case "another delivery":
            other = Sent(suite, twilio, 15)
            status = sent.post(other.url, body, headers)
            assert delivery_of(other.story()) == ("accepted", [])
        case _:
            status = sent.post(sent.url, body.replace(b"30006", b"30003"), headers)
    assert status == 403
    assert sent.story() == before
    assert sent.endpoints() == [sent.played.endpoint]
    assert sent.told_gone() == []


def test_a_number_that_cannot_be_reached_is_removed_and_its_owner_told(
    suite: Suite, twilio: FakeTwilio
) -> None:
    sent = Sent(suite, twilio, 21)
    assert sent.report(MessageStatus="undelivered", ErrorCode="30006") == 204
    story = sent.story()
    assert (story["state"], story["reason"]) == ("FAILED", "ENDPOINT_GONE")
    assert delivery_of(story) == ("failed", ["ENDPOINT_GONE"])
    assert sent.endpoints() == []
    assert sent.told_gone() == [sent.played.endpoint]
    assert sent.next() == ("SUPPRESSED", "NO_ENDPOINT")
    assert len(sent.forms) == 1


def test_a_handset_that_was_off_costs_the_one_message(suite: Suite, twilio: FakeTwilio) -> None:
    sent = Sent(suite, twilio, 22)
    assert sent.report(MessageStatus="undelivered", ErrorCode="30003") == 204
    story = sent.story()
    assert (story["state"], story["reason"]) == ("FAILED", "REPORTED_FAILED")
    assert "REPORTED_FAILED" in story["text"]
    assert sent.endpoints() == [sent.played.endpoint]
    assert sent.told_gone() == []
    assert sent.next() == ("NOTIFIED", "")


def test_who_is_reported_to_have_answered_stop_gets_no_more(
    suite: Suite, twilio: FakeTwilio
) -> None:
    sent = Sent(suite, twilio, 23)
    assert sent.report(MessageStatus="failed", ErrorCode="21610") == 204
    assert delivery_of(sent.story())[1] == ["OPTED_OUT"]
    assert sent.endpoints() == [sent.played.endpoint]
    assert sent.next() == ("SUPPRESSED", "OPTED_OUT")
    assert len(sent.forms) == 1


def test_a_report_settles_an_sms_of_which_nothing_was_known(
    suite: Suite, twilio: FakeTwilio
) -> None:
    lost = Cell("sms", "lost", (Answer(cut=True),), tries=("UNKNOWN",), state="UNKNOWN")
    sent = Sent(suite, twilio, 24, lost)
    assert sent.report(MessageStatus="delivered") == 204
    assert sent.story()["state"] == "NOTIFIED"
    assert delivery_of(sent.story()) == ("delivered", ["DELIVERED"])
    assert len(sent.forms) == 1


def test_a_report_that_overtakes_twilios_answer_is_kept(suite: Suite, twilio: FakeTwilio) -> None:
    sent = Sent(suite, twilio, 25)
    twilio.scripts.say(sent.played.key, Answer(201, b"{}", before_s=1.5))
    publish(suite, sent.played, 2)
    wait_for(lambda: len(sent.forms) == 2, 20, "the request")
    assert sent.report(MessageStatus="delivered") == 204
    [story] = watch(suite, [sent.played], 2, has_ended)
    assert delivery_of(dict(story)) == ("delivered", ["DELIVERED"])
    assert tries_of(story) == ["ACCEPTED"]


def test_a_report_of_what_was_refused_at_once_changes_nothing(
    suite: Suite, twilio: FakeTwilio
) -> None:
    refused = Cell("sms", "refused", (error(400, 21617),), state="FAILED")
    sent = Sent(suite, twilio, 26, refused)
    before = sent.story()
    assert sent.report(MessageStatus="failed", ErrorCode="30003") == 204
    assert sent.story() == before


def test_a_report_for_a_plugin_that_is_not_there_is_not_found(
    suite: Suite, twilio: FakeTwilio
) -> None:
    sent = Sent(suite, twilio, 27)
    headers, body = callback(sent.url, To=sent.played.key, MessageStatus="delivered")
    assert sent.post(sent.url.replace("/notifier?", "/nobody?"), body, headers) == 404
    assert delivery_of(sent.story()) == ("accepted", [])
