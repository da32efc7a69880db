"""A push service for a real Firefox, and the site whose page and service worker it runs.

The site is at `url`; what page and worker report by `POST /report` is in `reports`. The browser
holds a WebSocket at `socket_url`, with the protocol `push-notification` of Mozilla's push service:
JSON with a `messageType`. What is pushed to a subscription goes to the browser as it came, since
the browser alone can read it.
"""

import json
import threading
from base64 import urlsafe_b64encode
from typing import Any, Self
from uuid import uuid4

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve

from tests.notifier.provider import Got, Reply
from tests.notifier.push_server import PATH, PushServer


class FirefoxPush(PushServer):
    """Site and push service. `files` are the site's, by path, with their media type."""

    def __init__(self, files: dict[str, tuple[str, str]]) -> None:
        super().__init__(host="localhost")
        self.files = files
        self.reports: list[dict[str, Any]] = []
        self.greeted = threading.Event()
        self._channels: dict[str, str] = {}  # token → the browser's name for the subscription
        self._browser: ServerConnection | None = None
        self._sockets: Server | None = None

    @property
    def socket_url(self) -> str:
        """Where the browser connects to."""
        assert self._sockets, "it is started"
        return f"ws://localhost:{self._sockets.socket.getsockname()[1]}/"

    def start(self) -> Self:
        super().start()
        self._sockets = serve(
            self._talk, "localhost", 0, subprotocols=["push-notification"], compression=None  # type: ignore[list-item]
        )  # fmt: skip
        threading.Thread(target=self._sockets.serve_forever, daemon=True).start()
        return self

    def stop(self) -> None:
        if self._sockets:
            self._sockets.shutdown()
        super().stop()

    def reported(self, kind: str) -> dict[str, Any] | None:
        """The newest report of a kind."""
        return next((r for r in reversed(self.reports) if r["kind"] == kind), None)

    def is_counted(self, got: Got) -> bool:
        return got.path.startswith(PATH)

    def respond(self, got: Got) -> Reply:
        if got.path == "/report":
            self.reports.append(json.loads(got.body))
            return Reply(204)
        if got.path == "/greeted":
            return Reply(200 if self.greeted.is_set() else 503)
        if not got.path.startswith(PATH):
            kind, text = self.files.get(got.path, ("text/plain", ""))
            status = 200 if got.path in self.files else 404
            return Reply(status, text.encode(), {"content-type": kind})
        token = got.path.removeprefix(PATH)
        if token in self.gone:
            return Reply(410)
        if token not in self._channels or self._browser is None:
            return Reply(404)
        faults = self.faults_of(got)
        if faults:
            self.faults += faults
            return Reply(400)
        version = uuid4().hex
        self._say(
            self._browser,
            messageType="notification",
            channelID=self._channels[token],
            version=version,
            ttl=int(got.headers["ttl"]),
            data=urlsafe_b64encode(got.body).decode().rstrip("="),
            headers={"encoding": got.headers["content-encoding"]},
        )
        return Reply(201, headers={"location": f"{self.url}/m/{version}"})

    def _talk(self, browser: ServerConnection) -> None:
        try:
            for text in browser:
                self._hear(browser, json.loads(text))
        except ConnectionClosed:
            pass

    def _hear(self, browser: ServerConnection, said: dict[str, Any]) -> None:
        kind = said.get("messageType")
        if kind == "hello":
            self._browser = browser
            self._say(
                browser,
                messageType="hello",
                uaid=said.get("uaid") or uuid4().hex,
                status=200,
                use_webpush=True,
                broadcasts={},
            )
            self.greeted.set()
        elif kind == "register":
            token = uuid4().hex
            self._channels[token] = said["channelID"]
            self._say(
                browser,
                messageType="register",
                channelID=said["channelID"],
                status=200,
                pushEndpoint=f"{self.url}{PATH}{token}",
            )
        elif kind == "unregister":
            self._say(browser, messageType="unregister", channelID=said["channelID"], status=200)
        elif not said:  # a ping
            browser.send("{}")

    def _say(self, browser: ServerConnection, **message: Any) -> None:
        browser.send(json.dumps(message))
