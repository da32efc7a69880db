"""A mail server that refuses everybody, for whatever reason, loses and doubles nothing.

One suite whose mail server is made to refuse the login, to be down, to close at once, and to offer
no TLS. Each time: the channel is left alone and says why, what is pending stays so, though it is
tried more often than a delivery may be, and goes out once when the server is well again.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from tests.notifier.mail_server import server_context
from tests.path.mailbox import Mailbox
from tests.path.stack import QUICK, Subscriber, Suite, ended, free_port
from tests.waiting import wait_for

USERS = ("ann", "eve")
PATIENT = {
    # A delivery may be tried twice, for its own faults; those of the server do not count.
    "ONWARD_PRESENCE_RETRY_TRIES_MAX": "2",
    "ONWARD_PRESENCE_DEAD_LETTER_AFTER_S": "0",
    "ONWARD_PRESENCE_RETRY_FIRST_S": "0.1",
    "ONWARD_PRESENCE_BREAKER_FIRST_S": "0.2",
    "ONWARD_PRESENCE_BREAKER_LONGEST_S": "0.5",
    "ONWARD_PRESENCE_COLLAPSE_S": "0",
}


class Gate(Mailbox):
    """A mail server with STARTTLS and a login, started anew in one way or another on its port."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.port = free_port()
        self.logins = 0
        self.greeting = ""
        self._tls = server_context(folder)
        self._running: Controller | None = None

    async def handle_EHLO(  # noqa: N802, RUF100 - the name that aiosmtpd looks for
        self, server: Any, session: Any, envelope: Any, hostname: str, responses: list[str]
    ) -> list[str]:
        if self.greeting:
            return [self.greeting]
        session.host_name = hostname
        return responses

    async def handle_HELO(self, server: Any, session: Any, envelope: Any, hostname: str) -> str:  # noqa: N802, RUF100
        return self.greeting or "250 mail"

    def open(self, password: str = "right", tls: bool = True, greeting: str = "") -> None:
        """Serve; `password` is the one that is let in."""
        self.close()
        self.greeting = greeting

        def check(server: Any, session: Any, envelope: Any, mechanism: str, login: Any) -> Any:
            self.logins += 1
            return AuthResult(success=login.password == password.encode(), handled=False)

        self._running = Controller(
            self,
            hostname="127.0.0.1",
            port=self.port,
            tls_context=self._tls if tls else None,
            authenticator=check,
            auth_required=True,
            auth_require_tls=tls,
        )
        self._running.start()

    def close(self) -> None:
        """Be down: whoever asks is refused a connection."""
        if self._running is not None:
            self._running.stop()
            self._running = None

    @property
    def settings(self) -> dict[str, str]:
        """What turns e-mail on, with this server as the relay and the password that is right."""
        return {
            "ONWARD_SMTP_URL": f"smtp://onward:right@127.0.0.1:{self.port}?starttls=required",
            "ONWARD_SMTP_FROM": "chat@onward.example",
        }

    def mails_to(self, user: str, subject: str) -> int:
        """How many mails a user has of a subject."""
        return sum(
            f"{user}@example.org" in mail["X-Rcpt-To"] and subject in mail.as_string()
            for mail in self.mails
        )


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    gate = Gate(tmp_path_factory.mktemp("mail"))
    gate.open()
    yield gate
    gate.close()


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory, gate: Gate) -> Iterator[Suite]:
    """The suite, with two users away from every subject of this module."""
    up = Suite(tmp_path_factory.mktemp("data"), QUICK | PATIENT | gate.settings)
    with ended(up):
        up.wait_ready()
        readers = [
            Subscriber(
                up, tmp_path_factory.mktemp(user), *SUBJECTS, "--user", user, "--client-id", user,
                "--external-token", f"mailto:{user}@example.org",
            )
            for user in USERS
        ]  # fmt: skip
        with ended(*readers):
            for reader in readers:
                reader.wait_event("connected")
        yield up


REFUSALS = {
    "/refused/login": (lambda gate: gate.open(password="changed"), "MISCONFIGURED", "535"),
    "/refused/down": (lambda gate: gate.close(), "PROVIDER_UNAVAILABLE", "reached"),
    "/refused/closing": (
        lambda gate: gate.open(greeting="421 4.3.2 closing"), "PROVIDER_UNAVAILABLE", "421",
    ),
    "/refused/plain": (lambda gate: gate.open(tls=False), "MISCONFIGURED", "STARTTLS"),
}  # fmt: skip
SUBJECTS = tuple(REFUSALS)


def plugin(suite: Suite) -> dict[str, Any]:
    """The one plugin, as the status tells of it."""
    (one,) = suite.get("/v1/status")["plugins"]
    return dict(one)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_what_a_refusing_server_leaves_pending_goes_out_once_when_it_is_well_again(
    suite: Suite, gate: Gate, subject: str
) -> None:
    refuse, outcome, detail = REFUSALS[subject]
    refuse(gate)
    suite.publish(subject, f"in {subject}")

    def tried_in_vain() -> bool:
        stories = [suite.explain(user, subject, 1) for user in USERS]
        attempts = [one["attempts"] for story in stories for one in story.get("deliveries", [])]
        assert all(try_["outcome"] in ("", outcome) for tries in attempts for try_ in tries)
        return sum(len(tries) for tries in attempts) > 2 * 2 + 1

    wait_for(tried_in_vain, 20, "more tries than a delivery may have")
    for user in USERS:
        story = suite.explain(user, subject, 1)
        assert story["state"] == "PENDING", story
    wait_for(lambda: plugin(suite)["breaker"] != "closed", 10, "the breaker is open")
    wait_for(lambda: detail in plugin(suite).get("fault", ""), 10, "the reason is told")
    assert any(
        alarm["name"] == "PLUGIN_BREAKER_OPEN" for alarm in suite.get("/v1/status")["alarms"]
    )

    gate.open()
    for user in USERS:
        wait_for(lambda u=user: gate.mails_to(u, subject), 20, f"the mail to {user}")
        wait_for(lambda u=user: suite.explain(u, subject, 1)["state"] == "NOTIFIED", 10, "notified")
    wait_for(lambda: plugin(suite)["breaker"] == "closed", 10, "the breaker is closed")
    # Were anything to be sent twice, it would be due at once.
    suite.publish(subject, "the next one")
    for user in USERS:
        wait_for(lambda u=user: gate.mails_to(u, subject) == 2, 20, "the next mail, and no other")
