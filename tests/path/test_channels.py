"""What a provider answers, through the real presence service: what is tried, removed and told.

One suite whose notifier sends to doubles of Apple, Twilio and a webhook receiver. Per channel, the
cells that end differently: accepted, retried, gone, misconfigured, refused, unknown.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.notifier.fake_apns import KEY_ID, TEAM_ID, TOPIC, FakeApns, refusal
from tests.notifier.fake_twilio import SENDER, SID, TOKEN, FakeTwilio, error
from tests.notifier.http_double import Answer, HttpDouble
from tests.notifier.receiver import Receiver
from tests.path.mailbox import Mailbox
from tests.path.stack import QUICK, Subscriber, Suite, ended
from tests.waiting import wait_for

SECRET = "whsec_" + "bmV3" * 8
PATIENT = {
    "ONWARD_PRESENCE_GRACE_S": "0.3",
    "ONWARD_PRESENCE_GRACE_CLEAN_S": "0.3",
    "ONWARD_PRESENCE_RETRY_FIRST_S": "0.1",
    "ONWARD_PRESENCE_BREAKER_FIRST_S": "0.2",
    "ONWARD_PRESENCE_BREAKER_LONGEST_S": "0.5",
    "ONWARD_PRESENCE_COLLAPSE_S": "0",
    "ONWARD_NOTIFIER_APNS_BACK_OFF_S": "0.1",
    "ONWARD_NOTIFIER_ALLOW_PRIVATE_ADDRESSES": "true",
}


@dataclass(frozen=True)
class Channel:
    """A channel's double, its endpoints, and what it says for each cell."""

    double: HttpDouble
    endpoint: Callable[[int], str]  # by a number of one's own
    taken: str  # the outcome when all is well
    busy: Answer
    gone: Answer
    wrong: Answer
    refused: Answer


@pytest.fixture(scope="module")
def channels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Channel]]:
    folder = tmp_path_factory.mktemp("doubles")
    with (
        FakeApns(folder / "apns") as apns,
        FakeTwilio() as twilio,
        Receiver(folder / "webhook", SECRET) as receiver,
    ):
        yield {
            "apns": Channel(
                apns, lambda n: f"apns:{n:064x}", "ACCEPTED",
                busy=refusal(503, "ServiceUnavailable"),
                gone=refusal(410, "Unregistered"),
                wrong=refusal(400, "BadTopic"),
                refused=refusal(413, "PayloadTooLarge"),
            ),
            "sms": Channel(
                twilio, lambda n: f"tel:+1555{n:07}", "ACCEPTED",
                busy=error(429, 20429, {"retry-after": "0"}),
                gone=error(400, 21614),
                wrong=error(400, 21606),
                refused=error(400, 21617),
            ),
            "webhook": Channel(
                receiver, lambda n: f"{receiver.endpoint}?who={n}", "DELIVERED",
                busy=Answer(503), gone=Answer(410), wrong=Answer(404), refused=Answer(413),
            ),
        }  # fmt: skip


@pytest.fixture(scope="module")
def suite(
    tmp_path_factory: pytest.TempPathFactory, channels: dict[str, Channel], mailbox: Mailbox
) -> Iterator[Suite]:
    folder = tmp_path_factory.mktemp("keys")
    apns, receiver = channels["apns"].double, channels["webhook"].double
    assert isinstance(apns, FakeApns)
    key, authorities = folder / "key.p8", folder / "ca.pem"
    key.write_text(apns.key)
    authorities.write_text(Path(apns.ca_file).read_text() + Path(receiver.ca_file).read_text())
    providers = {
        "SSL_CERT_FILE": str(authorities),
        "ONWARD_APNS_KEY_FILE": str(key),
        "ONWARD_APNS_KEY_ID": KEY_ID,
        "ONWARD_APNS_TEAM_ID": TEAM_ID,
        "ONWARD_APNS_TOPIC": TOPIC,
        "ONWARD_APNS_URL": apns.url,
        "ONWARD_TWILIO_ACCOUNT_SID": SID,
        "ONWARD_TWILIO_AUTH_TOKEN": TOKEN,
        "ONWARD_TWILIO_FROM": SENDER,
        "ONWARD_TWILIO_URL": channels["sms"].double.url,
        "ONWARD_WEBHOOK_SECRETS": SECRET,
    }
    up = Suite(tmp_path_factory.mktemp("data"), QUICK | PATIENT | providers | mailbox.settings)
    with ended(up):
        up.wait_ready()
        yield up


_numbers = count(1)


class Away:
    """A user of their own who has left, and whom only one endpoint reaches."""

    def __init__(self, suite: Suite, channel: Channel, state: Path) -> None:
        number = next(_numbers)
        self.user, self.subject = f"user-{number}", f"/cells/{number}"
        self.endpoint = channel.endpoint(number)
        self._suite, self._double, self._state = suite, channel.double, state
        self._seq = 0
        with ended(self._reader("--external-token", self.endpoint)):
            pass  # It leaves without a word.

    def _reader(self, *more: str) -> Subscriber:
        reader = Subscriber(
            self._suite, self._state, self.subject,
            "--user", self.user, "--client-id", self.user, *more,
        )  # fmt: skip
        reader.wait_event("connected")
        return reader

    def told_gone(self) -> bool:
        """Whether the user is told, when back, that the endpoint is gone. Leaves again."""
        reader = self._reader()
        with ended(reader):
            return any(event["event"] == "endpoint_gone" for event in reader.events)

    def publish(self) -> None:
        self._seq += 1
        self._suite.publish(self.subject, f"message {self._seq}")

    def story(self) -> dict[str, Any]:
        """What is recorded of the last message."""
        return self._suite.explain(self.user, self.subject, self._seq)

    def tries(self) -> list[str]:
        """The outcomes of the tries so far, of the last message."""
        return [
            attempt["outcome"]
            for delivery in self.story()["deliveries"]
            for attempt in delivery["attempts"]
            if attempt.get("outcome")
        ]

    def wait(self, state: str) -> list[str]:
        """Wait for the last message's state; returns the outcomes of its tries."""
        try:
            wait_for(lambda: self.story()["state"] == state, 30, state)
        except AssertionError as late:
            raise AssertionError(f"{late}, but {self.story()}") from None
        return self.tries()


@pytest.fixture(params=["apns", "sms", "webhook"])
def channel(request: pytest.FixtureRequest, channels: dict[str, Channel]) -> Channel:
    return channels[request.param]


def test_what_is_taken_is_sent_once(suite: Suite, channel: Channel, tmp_path: Path) -> None:
    away = Away(suite, channel, tmp_path)
    before = len(channel.double.requests)
    away.publish()
    assert away.wait("NOTIFIED") == [channel.taken]
    assert len(channel.double.requests) == before + 1


def test_a_busy_provider_gets_it_at_the_third_try(
    suite: Suite, channel: Channel, tmp_path: Path
) -> None:
    away = Away(suite, channel, tmp_path)
    channel.double.answer(channel.busy, channel.busy)
    away.publish()
    assert away.wait("NOTIFIED") == ["RETRY", "RETRY", channel.taken]


def test_an_endpoint_that_is_gone_is_removed_and_its_owner_told(
    suite: Suite, channel: Channel, tmp_path: Path
) -> None:
    away = Away(suite, channel, tmp_path)
    channel.double.answer(channel.gone)
    away.publish()
    assert away.wait("FAILED") == ["ENDPOINT_GONE"]
    before = len(channel.double.requests)
    assert away.told_gone()
    away.publish()
    assert away.wait("SUPPRESSED") == []
    assert away.story()["reason"] == "NO_ENDPOINT"
    assert len(channel.double.requests) == before


def test_a_wrong_set_up_removes_nothing_and_is_sent_once_it_is_right(
    suite: Suite, channel: Channel, tmp_path: Path
) -> None:
    away = Away(suite, channel, tmp_path)
    channel.double.answer(*[channel.wrong] * 4)
    away.publish()
    tries = away.wait("NOTIFIED")
    assert tries == ["MISCONFIGURED"] * 4 + [channel.taken]
    assert not away.told_gone()


def test_a_refused_message_is_given_up_and_the_endpoint_stays(
    suite: Suite, channel: Channel, tmp_path: Path
) -> None:
    away = Away(suite, channel, tmp_path)
    channel.double.answer(channel.refused)
    away.publish()
    assert away.wait("FAILED") == ["REJECTED_MESSAGE"]
    assert not away.told_gone()
    away.publish()
    assert away.wait("NOTIFIED") == [channel.taken]


@pytest.mark.parametrize("name", ["apns", "webhook"])
def test_what_may_have_been_sent_is_repeated_with_the_same_id(
    suite: Suite, channels: dict[str, Channel], tmp_path: Path, name: str
) -> None:
    channel = channels[name]
    away = Away(suite, channel, tmp_path)
    before = len(channel.double.requests)
    channel.double.answer(Answer(cut=True))
    away.publish()
    assert away.wait("NOTIFIED") == ["UNKNOWN", channel.taken]
    first, second = channel.double.requests[before:]
    header = {"apns": "apns-id", "webhook": "webhook-id"}[name]
    assert first.headers[header] == second.headers[header]


def test_an_sms_that_may_have_been_sent_is_never_repeated(
    suite: Suite, channels: dict[str, Channel], tmp_path: Path
) -> None:
    away = Away(suite, channels["sms"], tmp_path)
    double = channels["sms"].double
    before = len(double.requests)
    double.answer(Answer(cut=True))
    away.publish()
    wait_for(lambda: away.tries() == ["UNKNOWN"], 30, "the try")
    other = Away(suite, channels["sms"], tmp_path / "other")
    other.publish()
    other.wait("NOTIFIED")
    assert len(double.requests) == before + 2, "the first, and the other's"
    assert away.tries() == ["UNKNOWN"]


def test_who_answered_stop_gets_no_sms_any_more(
    suite: Suite, channels: dict[str, Channel], tmp_path: Path
) -> None:
    channel = channels["sms"]
    away = Away(suite, channel, tmp_path)
    channel.double.answer(error(400, 21610))
    away.publish()
    assert away.wait("FAILED") == ["OPTED_OUT"]
    before = len(channel.double.requests)
    away.publish()
    assert away.wait("SUPPRESSED") == []
    assert len(channel.double.requests) == before
