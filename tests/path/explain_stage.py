"""A user and a subject of their own on a running suite, for what `explain` tells of them."""

import json
import urllib.request
from contextlib import ExitStack
from typing import Any

from tests.path.scripted_plugin import NAME
from tests.path.socket_client import Socket, connecting
from tests.path.stack import Suite
from tests.waiting import wait_for

# What no story may tell.
CONTENT, TOKEN = "words-for-one-alone", "a-token-of-nobody"


class Stage:
    """A user and a subject of their own, and what is done with them."""

    def __init__(self, suite: Suite, name: str, subject: str, after: ExitStack) -> None:
        self.suite, self.user, self.subject = suite, f"{name}-user", subject
        self._after = after

    def ask(self, method: str, path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            self.suite.url + path, json.dumps(body).encode(),
            {"content-type": "application/json"}, method=method,
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    def reached(self, *endpoints: str) -> "Stage":
        """The user follows the subject without a client, and has these external tokens."""
        self.ask("POST", "/v1/follows", {"users": [self.user], "subjects": [self.subject]})
        for uri in endpoints:
            self.ask("POST", f"/v1/users/{self.user}/endpoints", {"uri": uri})
        return self

    def profile(self, **parts: Any) -> "Stage":
        self.ask("PATCH", f"/v1/users/{self.user}/profile", parts)
        return self

    def publish(self, times: int = 1, user: str = "bob", **headers: str) -> int:
        """Publish so many times; the last seq."""
        fields = {"headers": headers} if headers else {}
        for _ in range(times):
            seq = int(self.suite.publish(self.subject, CONTENT, user, **fields)["seq"])
        return seq

    def connect(self, after: int | None = None, **fields: Any) -> Socket:
        """A client of the user that follows the subject, until the case ends."""
        socket = self._after.enter_context(Socket(self.suite, self.user))
        wanted = {"subject": self.subject} | ({} if after is None else {"afterSeq": str(after)})
        assert "connected" in socket.ask(connect=connecting("tab", wanted, **fields))
        return socket

    def acknowledge(self, socket: Socket, seq: int) -> None:
        socket.ask(ack={"positions": [{"subject": self.subject, "seq": str(seq)}]})

    def story(self, seq: int) -> dict[str, Any]:
        return self.suite.explain(self.user, self.subject, seq)

    def wait(self, seq: int, state: str, reason: str = "") -> dict[str, Any]:
        """Wait until that is told of the message."""

        def told() -> dict[str, Any] | None:
            story = self.story(seq)
            return story if (story["state"], story.get("reason", "")) == (state, reason) else None

        try:
            return wait_for(told, 20, f"{state} {reason}") or {}
        except AssertionError as late:
            raise AssertionError(f"{late}, but {self.story(seq)}") from None

    def callback(self, seq: int, *kinds: str) -> None:
        """The provider reports of the message's delivery."""
        [delivery] = self.wait(seq, "NOTIFIED")["deliveries"]
        for kind in kinds:
            request = urllib.request.Request(
                f"{self.suite.url}/v1/callbacks/{NAME}",
                json.dumps([[delivery["deliveryId"], kind]]).encode(),
            )
            urllib.request.urlopen(request, timeout=10).close()


def fcm(words: str, stage: Stage) -> str:
    """An external token that is answered so."""
    return f"fcm:{words}/{TOKEN}-{stage.user}"
