"""What a provider may answer, channel by channel, and what must come of it: the table as data.

A `Cell` is one case. What its channel's double says stands beside what is to be seen of it: how
often it is tried, how it ends, whether the endpoint is kept, what becomes of the next message.
`tests/path/playing.py` plays cells through a whole suite; `test_channels.py` looks at what came.
"""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from tests.log_scan import CANARY
from tests.notifier.fake_apns import refusal
from tests.notifier.fake_fcm import error, fcm_error, violation
from tests.notifier.fake_twilio import error as twilio_error
from tests.notifier.http_double import Answer
from tests.notifier.provider import LOST, Reply
from tests.path.mail_double import LOST as MAIL_LOST
from tests.path.mail_double import Reply as MailReply

# Of this, notifications of the route would hold all that a channel has room for.
WHOLE = {"text": f"{CANARY} " + "wörter " * 4_000, "headers": {"told": "whole"}}
ROUTING = """
templates:
  whole: {title: "{{ newest.publisher }}", body: "{{ newest.text }}"}
routes:
  - {subject: /cells/*, headers: {told: whole}, template: whole}
"""
TRIES_MAX = 5  # as the suite is set up
_PAGE = b"<html><body>Bad gateway</body></html>"
_HTML = {"content-type": "text/html"}
_PAST_MS, _FUTURE_MS = 1_000_000_000_000, 4_102_444_800_000


class Phase(IntEnum):
    """When a cell is played, within its channel."""

    FIRST = 0  # before anything was accepted there
    TOGETHER = 1  # with others
    ALONE = 2  # after them, one by one: it touches what is under way


@dataclass(frozen=True)
class Cell:
    """One case. `said`: by the double, then it is as usual; `stands`: until it is mended."""

    channel: str
    name: str
    said: tuple[Any, ...] = ()
    stands: bool = False
    tries: tuple[str, ...] = ()  # outcomes; of one that stands: how each try before fails
    state: str = "NOTIFIED"
    reason: str = ""
    kept: bool = True  # the endpoint
    next_state: str = "NOTIFIED"
    next_reason: str = ""
    apart_s: float = 0.0  # at least, between two tries
    due_in_s: tuple[float, float] | None = None  # it ends waiting for so long
    requests_each: int = 1  # of a try that failed
    phase: Phase = Phase.TOGETHER
    fields: dict[str, Any] = field(default_factory=dict)  # of the publish
    taken: str = "ACCEPTED"

    def __str__(self) -> str:
        return f"{self.channel}: {self.name}"


def taken(channel: str, name: str, said: Any = None, **more: Any) -> Cell:
    """Sent at the first try."""
    outcome = more.get("taken", "ACCEPTED")
    return Cell(channel, name, (said,) if said else (), tries=(outcome,), **more)


def retried(channel: str, name: str, said: Any, **more: Any) -> Cell:
    """Refused twice for now, then sent."""
    outcome = more.get("taken", "ACCEPTED")
    return Cell(channel, name, (said, said), tries=("RETRY", "RETRY", outcome), **more)


def given_up(channel: str, name: str, said: Any, **more: Any) -> Cell:
    """Refused for now at every try there is: a dead letter; the endpoint stays."""
    return Cell(
        channel, name, (said,) * TRIES_MAX, tries=("RETRY",) * TRIES_MAX, state="FAILED",
        reason="TRIES_EXHAUSTED", **more,
    )  # fmt: skip


def waits(channel: str, name: str, said: Any, due_in_s: tuple[float, float], **more: Any) -> Cell:
    """To be tried again, but not before a time that no test waits for."""
    return Cell(
        channel, name, (said,), tries=("RETRY",), state="PENDING", reason="RETRY",
        due_in_s=due_in_s, **more,
    )  # fmt: skip


def gone(channel: str, name: str, said: Any, **more: Any) -> Cell:
    """The endpoint is removed, its owner told, and nothing more is sent there."""
    return Cell(
        channel, name, (said,), tries=("ENDPOINT_GONE",), state="FAILED", reason="ENDPOINT_GONE",
        kept=False, next_state="SUPPRESSED", next_reason="NO_ENDPOINT", **more,
    )  # fmt: skip


def wrong(channel: str, name: str, said: Any, **more: Any) -> Cell:
    """The set-up is wrong: nothing is deleted, and it goes out once that is mended."""
    return Cell(channel, name, (said,), stands=True, tries=("MISCONFIGURED",), **more)


def refused(channel: str, name: str, said: Any, **more: Any) -> Cell:
    """The message is at fault: given up at once; the endpoint stays and gets the next one."""
    return Cell(
        channel, name, (said,), tries=("REJECTED_MESSAGE",), state="FAILED",
        reason="REJECTED_MESSAGE", **more,
    )  # fmt: skip


def repeated(channel: str, name: str, said: Any, **more: Any) -> Cell:
    """It may have been sent, and is sent again with the same id."""
    outcome = more.get("taken", "ACCEPTED")
    return Cell(channel, name, (said,), tries=("UNKNOWN", outcome), **more)


def never_repeated(channel: str, name: str, said: Any, **more: Any) -> Cell:
    """It may have been sent, and is not sent again."""
    return Cell(channel, name, (said,), tries=("UNKNOWN",), state="UNKNOWN", **more)


def _page(status: int) -> Reply:
    return Reply(status, _PAGE, _HTML)


def _waiting(said: Reply, wait_s: int) -> Reply:
    return Reply(said.status, said.body, {**said.headers, "retry-after": str(wait_s)})


def _later(answer: Answer, wait_s: int) -> Answer:
    return Answer(answer.status, answer.body, {**answer.headers, "retry-after": str(wait_s)})


_QUOTA = error(429, "RESOURCE_EXHAUSTED", fcm_error("QUOTA_EXCEEDED"))

FCM = [
    taken("fcm", "accepted"),
    taken("fcm", "a long message within 4,096 bytes", fields=WHOLE),
    gone("fcm", "404 UNREGISTERED", error(404, "NOT_FOUND", fcm_error("UNREGISTERED"))),
    gone("fcm", "400 that names the token",
         error(400, "INVALID_ARGUMENT", violation("message.token"))),
    retried("fcm", "429 with Retry-After", _waiting(_QUOTA, 1), apart_s=1),
    waits("fcm", "429 without Retry-After", _QUOTA, (59, 90)),
    retried("fcm", "500 with Retry-After",
            _waiting(error(500, "INTERNAL", fcm_error("INTERNAL")), 1), apart_s=1),
    retried("fcm", "503 with Retry-After",
            _waiting(error(503, "UNAVAILABLE", fcm_error("UNAVAILABLE")), 1), apart_s=1),
    retried("fcm", "502 with HTML", _waiting(_page(502), 0)),
    wrong("fcm", "404 without the detail", error(404, "NOT_FOUND")),
    wrong("fcm", "404 with HTML", _page(404)),
    wrong("fcm", "403 SENDER_ID_MISMATCH, and nothing was ever accepted",
          error(403, "PERMISSION_DENIED", fcm_error("SENDER_ID_MISMATCH")), phase=Phase.FIRST),
    refused("fcm", "403 SENDER_ID_MISMATCH of one token alone",
            error(403, "PERMISSION_DENIED", fcm_error("SENDER_ID_MISMATCH")), phase=Phase.ALONE),
    wrong("fcm", "401 for Apple's credentials",
          error(401, "UNAUTHENTICATED", fcm_error("THIRD_PARTY_AUTH_ERROR"))),
    # Each time with a new access token, in vain: not without others' noticing.
    wrong("fcm", "401", error(401, "UNAUTHENTICATED"), requests_each=2, phase=Phase.ALONE),
    refused("fcm", "400 that names another field",
            error(400, "INVALID_ARGUMENT", violation("message.data"))),
    refused("fcm", "400 without details", error(400, "INVALID_ARGUMENT")),
    refused("fcm", "400 with HTML", _page(400)),
    repeated("fcm", "no answer", Reply(LOST)),
    given_up("fcm", "500 for good", _waiting(error(500, "INTERNAL"), 0)),
    # The last of all: when it is tried again, no token of the others' is looked at any more.
    waits("fcm", "503 without Retry-After",
          error(503, "UNAVAILABLE", fcm_error("UNAVAILABLE")), (9.5, 40), phase=Phase.ALONE),
]  # fmt: skip

APNS = [
    wrong("apns", "BadDeviceToken, and nothing was ever accepted",
          refusal(400, "BadDeviceToken"), phase=Phase.FIRST),
    wrong("apns", "DeviceTokenNotForTopic, and nothing was ever accepted",
          refusal(400, "DeviceTokenNotForTopic"), phase=Phase.FIRST),
    taken("apns", "accepted"),
    taken("apns", "a long message within 4,096 bytes", fields=WHOLE),
    gone("apns", "410 Unregistered", refusal(410, "Unregistered")),
    gone("apns", "410 Unregistered after it was registered",
         refusal(410, "Unregistered", timestamp=_FUTURE_MS)),
    gone("apns", "410 ExpiredToken", refusal(410, "ExpiredToken", timestamp=_FUTURE_MS)),
    Cell("apns", "410 Unregistered before it was registered",
         (refusal(410, "Unregistered", timestamp=_PAST_MS),), tries=("ENDPOINT_GONE",),
         state="FAILED", reason="ENDPOINT_GONE"),
    waits("apns", "429 without Retry-After", refusal(429, "TooManyRequests"), (59, 90)),
    waits("apns", "503 without Retry-After", refusal(503, "ServiceUnavailable"), (59, 90)),
    waits("apns", "410 with HTML, which is not Apple's word", Answer(410, _PAGE, _HTML), (59, 90)),
    retried("apns", "429 with Retry-After", _later(refusal(429, "TooManyRequests"), 1), apart_s=1),
    retried("apns", "500 with Retry-After", _later(refusal(500, "InternalServerError"), 1),
            apart_s=1),
    retried("apns", "503 with Retry-After", _later(refusal(503, "ServiceUnavailable"), 1),
            apart_s=1),
    retried("apns", "502 with HTML", _later(Answer(502, _PAGE, _HTML), 0)),
    wrong("apns", "403 InvalidProviderToken", refusal(403, "InvalidProviderToken")),
    wrong("apns", "400 BadTopic", refusal(400, "BadTopic")),
    refused("apns", "BadDeviceToken, after others were accepted", refusal(400, "BadDeviceToken"),
            phase=Phase.ALONE),
    refused("apns", "DeviceTokenNotForTopic, after others were accepted",
            refusal(400, "DeviceTokenNotForTopic"), phase=Phase.ALONE),
    refused("apns", "413", refusal(413, "PayloadTooLarge")),
    # Signed again at once, in the same try; soon after that it would be the clock.
    taken("apns", "403 ExpiredProviderToken", refusal(403, "ExpiredProviderToken"),
          requests_each=2, phase=Phase.ALONE),
    wrong("apns", "403 ExpiredProviderToken again", refusal(403, "ExpiredProviderToken"),
          phase=Phase.ALONE),
    repeated("apns", "no answer", Answer(cut=True), phase=Phase.ALONE),
    given_up("apns", "503 for good", _later(refusal(503, "ServiceUnavailable"), 0)),
]  # fmt: skip

WEB_PUSH = [
    taken("webpush", "accepted"),
    taken("webpush", "a long message within 2,700 bytes", fields=WHOLE),
    gone("webpush", "404", Reply(404)),
    gone("webpush", "410", Reply(410)),
    waits("webpush", "429 without Retry-After", Reply(429), (9.5, 40)),
    waits("webpush", "503 without Retry-After", Reply(503), (9.5, 40)),
    retried("webpush", "429 with Retry-After", _waiting(Reply(429), 1), apart_s=1),
    retried("webpush", "500 with Retry-After", _waiting(Reply(500), 1), apart_s=1),
    retried("webpush", "502 with HTML", _waiting(_page(502), 0)),
    retried("webpush", "503 with Retry-After", _waiting(Reply(503), 1), apart_s=1),
    wrong("webpush", "400, and nothing was ever accepted", Reply(400), phase=Phase.FIRST),
    wrong("webpush", "401, and nothing was ever accepted", Reply(401), phase=Phase.FIRST),
    wrong("webpush", "403, and nothing was ever accepted", Reply(403), phase=Phase.FIRST),
    refused("webpush", "400 of one subscription alone", Reply(400), phase=Phase.ALONE),
    given_up("webpush", "401 of one subscription alone", _waiting(Reply(401), 0),
             phase=Phase.ALONE),
    waits("webpush", "403 of one subscription alone", Reply(403), (599, 660), phase=Phase.ALONE),
    refused("webpush", "413", Reply(413)),
    refused("webpush", "a redirect, which is not followed",
            Reply(307, headers={"location": "/wpush/v2/browser-1"})),
    repeated("webpush", "no answer", Reply(LOST)),
    given_up("webpush", "503 for good", _waiting(Reply(503), 0)),
    taken("webpush, not listed", "accepted"),
    gone("webpush, not listed", "410", Reply(410)),
    retried("webpush, not listed", "503 with Retry-After", _waiting(Reply(503), 1), apart_s=1),
    retried("webpush, not listed", "403, which stops nobody else", _waiting(Reply(403), 1)),
    given_up("webpush, not listed", "401 for good", _waiting(Reply(401), 0)),
    retried("webpush, not listed", "a redirect, which is not followed",
            Reply(307, headers={"location": "/wpush/v2/browser-1", "retry-after": "1"})),
    refused("webpush, not listed", "400", Reply(400)),
    refused("webpush, not listed", "422", Reply(422)),
]  # fmt: skip

E_MAIL = [
    taken("e-mail", "accepted"),
    taken("e-mail", "a long message", fields=WHOLE),
    gone("e-mail", "5.1.1 at RCPT", MailReply("550 5.1.1 no such user")),
    gone("e-mail", "5.1.1 after DATA", MailReply("550 5.1.1 no such user", "DATA")),
    gone("e-mail", "5.1.10", MailReply("556 5.1.10 the domain takes no mail")),
    retried("e-mail", "450 at RCPT", MailReply("450 4.2.1 greylisted"), apart_s=0.7),
    retried("e-mail", "451 after DATA", MailReply("451 4.3.0 try again later", "DATA"),
            apart_s=0.7),
    retried("e-mail", "452 after DATA", MailReply("452 4.2.2 mailbox full", "DATA"), apart_s=0.7),
    Cell("e-mail", "421", (MailReply("421 4.3.2 shutting down"),),
         tries=("PROVIDER_UNAVAILABLE", "ACCEPTED")),
    wrong("e-mail", "5.7.1 at RCPT", MailReply("554 5.7.1 relay access denied")),
    wrong("e-mail", "5.7.26 after DATA", MailReply("550 5.7.26 not authenticated", "DATA")),
    wrong("e-mail", "530", MailReply("530 5.7.0 authentication required")),
    refused("e-mail", "550 without a code of its own", MailReply("550 no")),
    refused("e-mail", "552 too large", MailReply("552 5.3.4 too big", "DATA")),
    repeated("e-mail", "connection lost after DATA", MAIL_LOST),
    given_up("e-mail", "451 for good", MailReply("451 4.3.0 try again later")),
]  # fmt: skip

_QUEUE = twilio_error(429, 20429)

SMS = [
    taken("sms", "accepted"),
    taken("sms", "a long message within 1,600 characters", fields=WHOLE),
    gone("sms", "21211", twilio_error(400, 21211)),
    gone("sms", "21614", twilio_error(400, 21614)),
    gone("sms", "30006", twilio_error(400, 30006)),
    retried("sms", "20429 with Retry-After", _later(_QUEUE, 1), apart_s=1),
    waits("sms", "20429 without Retry-After", _QUEUE, (9.5, 40)),
    retried("sms", "503 of Twilio's own", _later(twilio_error(503, 20503), 1), apart_s=1),
    wrong("sms", "20003", twilio_error(401, 20003)),
    wrong("sms", "21606", twilio_error(400, 21606)),
    wrong("sms", "21408", twilio_error(400, 21408)),
    refused("sms", "21617 too long", twilio_error(400, 21617)),
    Cell("sms", "21610 STOP", (twilio_error(400, 21610),), tries=("OPTED_OUT",), state="FAILED",
         reason="OPTED_OUT", next_state="SUPPRESSED", next_reason="OPTED_OUT"),
    given_up("sms", "20429 for good", _later(_QUEUE, 0)),
    # The library would post each of these again.
    never_repeated("sms", "20500, which may come after it was taken", twilio_error(500, 20500)),
    never_repeated("sms", "500 of something in between", Answer(500, _PAGE, _HTML)),
    never_repeated("sms", "503 of something in between", Answer(503, _PAGE, _HTML)),
    never_repeated("sms", "502 with HTML", Answer(502, _PAGE, _HTML)),
    never_repeated("sms", "no answer", Answer(cut=True)),
    # The library's own timeout would be none at all.
    never_repeated("sms", "an answer after 11 s", Answer(201, before_s=11), phase=Phase.ALONE),
]  # fmt: skip

_ARRIVED = {"taken": "DELIVERED"}

WEBHOOK = [
    taken("webhook", "accepted", **_ARRIVED),
    taken("webhook", "a long message within 20,000 bytes", fields=WHOLE, **_ARRIVED),
    gone("webhook", "410", Answer(410), **_ARRIVED),
    retried("webhook", "429 with Retry-After", _later(Answer(429), 1), apart_s=1, **_ARRIVED),
    retried("webhook", "502 with HTML", Answer(502, _PAGE, _HTML), **_ARRIVED),
    retried("webhook", "503", Answer(503), **_ARRIVED),
    retried("webhook", "504", Answer(504), **_ARRIVED),
    # It may have been read: as a try again with the same id, which is what a timeout asks for.
    repeated("webhook", "no answer", Answer(cut=True), **_ARRIVED),
    repeated("webhook", "an answer after 11 s", Answer(before_s=11), phase=Phase.ALONE, **_ARRIVED),
    wrong("webhook", "302, which is not followed",
          Answer(302, headers={"location": "/hook?who=1"}), **_ARRIVED),
    wrong("webhook", "400", Answer(400), **_ARRIVED),
    wrong("webhook", "401", Answer(401), **_ARRIVED),
    wrong("webhook", "404", Answer(404), **_ARRIVED),
    given_up("webhook", "503 for good", Answer(503), **_ARRIVED),
    refused("webhook", "413", Answer(413), **_ARRIVED),
    taken("webhook, former secret", "accepted", **_ARRIVED),
    gone("webhook, not listed", "410", Answer(410), **_ARRIVED),
    retried("webhook, not listed", "302, which is not followed",
            Answer(302, headers={"location": "/hook?who=1"}), **_ARRIVED),
    retried("webhook, not listed", "401, which stops nobody else", Answer(401), **_ARRIVED),
    retried("webhook, not listed", "404", Answer(404), **_ARRIVED),
    given_up("webhook, not listed", "403 for good", Answer(403), **_ARRIVED),
    refused("webhook, not listed", "400", Answer(400), **_ARRIVED),
    refused("webhook, not listed", "413", Answer(413), **_ARRIVED),
    refused("webhook, not listed", "422", Answer(422), **_ARRIVED),
]  # fmt: skip

APPRISE = [
    taken("apprise", "accepted"),
    # Somebody behind the URL may have got it.
    never_repeated("apprise", "500", Answer(500)),
    never_repeated("apprise", "404, which is no word of an endpoint", Answer(404)),
    never_repeated("apprise", "410, which is no word of an endpoint", Answer(410)),
    never_repeated("apprise", "no answer", Answer(cut=True)),
]

CELLS = [*FCM, *APNS, *WEB_PUSH, *E_MAIL, *SMS, *WEBHOOK, *APPRISE]
