"""The doubles of all channels, set up together for one suite.

    with Doubles(folder) as doubles:
        up = Suite(data_dir, QUICK | doubles.settings)
        line = doubles.lines["apns"]        # how one channel is reached, by numbers of a test's own
        line.scripts.say(line.key(7), …)    # what is said of endpoint 7
        … line.endpoint(7) …

Each double checks by its provider's published contract what it gets, and keeps it.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.certificates import Authority
from tests.notifier.fake_apns import KEY_ID, TEAM_ID, TOPIC, FakeApns
from tests.notifier.fake_fcm import FakeFcm
from tests.notifier.fake_twilio import SENDER, SID, TOKEN, FakeTwilio
from tests.notifier.http_double import HttpDouble, Request
from tests.notifier.push_server import PushServer
from tests.notifier.receiver import Receiver
from tests.notifier.scripts import Scripts
from tests.notifier.test_vapid import SUBJECT, TRADITIONAL
from tests.path.mail_double import MailDouble

NEW, OLD = ("whsec_" + word * 8 for word in ("bmV3", "b2xk"))  # while one replaces the other
PUBLIC_URL = "https://chat.example.org"
TARGETS = range(1, 400)  # of Apprise, which are named before anybody registers one


@dataclass(frozen=True)
class Line:
    """How a channel is reached, by numbers of a test's own."""

    scheme: str
    taken: str  # the outcome when all is well
    scripts: Scripts[Any]
    key: Callable[[int], str]  # the addressee, as scripts name it
    endpoint: Callable[[int], str]


class Target(HttpDouble):
    """Where Apprise posts JSON to: the addressee is the path."""

    def addressee(self, request: Request) -> str:
        return request.path.strip("/")


class Doubles:
    """All of them. `lines` by the channel's name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.fcm = FakeFcm()
        self.apns = FakeApns(folder / "apns")
        self.push = PushServer()
        self.other_push = PushServer(host="127.0.0.2")  # not one that the operator lists
        self.mail = MailDouble(Authority(folder / "mail", "mail").sign("mail"))
        self.twilio = FakeTwilio()
        self.receiver = Receiver(folder / "receiver", NEW)
        self.late_receiver = Receiver(folder / "late-receiver", OLD)  # has the former secret only
        self.target = Target()
        self._all = [
            self.fcm, self.apns, self.push, self.other_push, self.mail, self.twilio, self.receiver,
            self.late_receiver, self.target,
        ]  # fmt: skip
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        for double in self._all:
            double.start()
            self._stack.callback(double.stop)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def lines(self) -> dict[str, Line]:
        """Of every channel."""
        taken = "ACCEPTED"
        return {
            "fcm": Line("fcm", taken, self.fcm.scripts, _device, lambda n: f"fcm:{_device(n)}"),
            "apns": Line("apns", taken, self.apns.scripts, _hex, lambda n: f"apns:{_hex(n)}"),
            "webpush": self._push_line(self.push),
            "webpush, not listed": self._push_line(self.other_push),
            "e-mail": Line(
                "mailto", taken, self.mail.scripts, _address, lambda n: f"mailto:{_address(n)}"
            ),
            "sms": Line("tel", taken, self.twilio.scripts, _number, lambda n: f"tel:{_number(n)}"),
            "webhook": _webhook_line(self.receiver),
            "webhook, former secret": _webhook_line(self.late_receiver),
            "webhook, not listed": _webhook_line(self.receiver, host="localhost"),
            "apprise": Line(
                "apprise", taken, self.target.scripts, _target, lambda n: f"apprise:{_target(n)}"
            ),
        }

    @property
    def settings(self) -> dict[str, str]:
        """What a suite needs that is to send to them, but for Apprise."""
        key, authorities = self._folder / "key.p8", self._folder / "ca.pem"
        key.write_text(self.apns.key)
        spoken = (self.apns, self.receiver, self.late_receiver)
        authorities.write_text("".join(Path(one.ca_file).read_text() for one in spoken))
        return {
            "SSL_CERT_FILE": str(authorities),
            "ONWARD_PUBLIC_URL": PUBLIC_URL,
            "ONWARD_NOTIFIER_ALLOW_PRIVATE_ADDRESSES": "true",
            "ONWARD_FCM_CREDENTIALS": str(self.fcm.credentials(self._folder)),
            "ONWARD_FCM_URL": self.fcm.url,
            "ONWARD_APNS_KEY_FILE": str(key),
            "ONWARD_APNS_KEY_ID": KEY_ID,
            "ONWARD_APNS_TEAM_ID": TEAM_ID,
            "ONWARD_APNS_TOPIC": TOPIC,
            "ONWARD_APNS_URL": self.apns.url,
            "ONWARD_WEBPUSH_VAPID_KEY": TRADITIONAL,
            "ONWARD_WEBPUSH_SUBJECT": SUBJECT,
            "ONWARD_NOTIFIER_WEBPUSH_SERVICES": f"127.0.0.1:{self.push.port}",
            "ONWARD_SMTP_URL": self.mail.url,
            "ONWARD_SMTP_FROM": "Chat <chat@onward.example>",
            "ONWARD_TWILIO_ACCOUNT_SID": SID,
            "ONWARD_TWILIO_AUTH_TOKEN": TOKEN,
            "ONWARD_TWILIO_FROM": SENDER,
            "ONWARD_TWILIO_URL": self.twilio.url,
            "ONWARD_WEBHOOK_SECRETS": f"{NEW},{OLD}",
            # The receiver is the operator's own, and believed.
            "ONWARD_NOTIFIER_WEBHOOK_HOSTS": "127.0.0.1",
            # What lingers is waited for here: it is the channels' own patience that is looked at.
            "ONWARD_NOTIFIER_LINGER_S": "15",
        }

    def targets_file(self) -> Path:
        """What Apprise's process is told."""
        path = self._folder / "targets"
        url = self.target.url.replace("http://", "json://")
        path.write_text("".join(f"{_target(n)} = {url}/{_target(n)}\n" for n in TARGETS))
        return path

    @staticmethod
    def _push_line(server: PushServer) -> Line:
        kept: dict[int, str] = {}

        def endpoint(number: int) -> str:
            if number not in kept:
                kept[number] = server.subscribe(_browser(number))
            return kept[number]

        return Line("webpush", "ACCEPTED", server.scripts, _browser, endpoint)


def _webhook_line(receiver: Receiver, host: str = "127.0.0.1") -> Line:
    """`host`: by what name it is asked; only its address is one that the operator lists."""
    root = receiver.endpoint.replace("127.0.0.1", host)
    return Line("https", "DELIVERED", receiver.scripts, _query, lambda n: f"{root}?{_query(n)}")


def _device(number: int) -> str:
    return f"device-{number}"


def _hex(number: int) -> str:
    return f"{number:064x}"


def _browser(number: int) -> str:
    return f"browser-{number}"


def _address(number: int) -> str:
    return f"user-{number}@example.org"


def _number(number: int) -> str:
    return f"+1555{number:07}"


def _query(number: int) -> str:
    return f"who={number}"


def _target(number: int) -> str:
    return f"target-{number}"
