"""An HTTP server that stands in for a provider: what it answers is scripted, what it got is kept.

It runs in threads of its own, so that tests with and without an event loop can use it, and
processes too. To drive it:

    with FakeFcm() as fcm:                 # or start() and stop()
        fcm.answer(429, headers={"retry-after": "7"})   # once; then as without a script
        …
        assert fcm.requests[0].path == …

A subclass says in `respond` what an unscripted request gets, and what is wrong with a request; a
wrong one is kept in `faults`, and leaving the block fails with them, whatever was answered.
"""

import ssl
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

LOST = -1  # as a status: read the request, and close
SILENT = -2  # read the request, and say nothing
SILENT_S = 20.0  # then it closes


@dataclass(frozen=True)
class Got:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes


@dataclass(frozen=True)
class Reply:
    """What is answered."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


class Provider:
    """The server. `requests` are those that `respond` is asked about."""

    def __init__(self, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.requests: list[Got] = []
        self.faults: list[str] = []
        self._script: list[Reply] = []
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._tls = tls
        self._host = host
        self._server: ThreadingHTTPServer | None = None

    def respond(self, got: Got) -> Reply:
        """What an unscripted request gets. Puts what is wrong with it into `faults`."""
        return Reply(204)

    def is_counted(self, got: Got) -> bool:
        """Whether a request is kept, and answered by the script."""
        return True

    def answer(
        self, status: int, body: bytes | str = b"", headers: dict[str, str] | None = None
    ) -> None:
        """The next request gets this; more calls, the ones after it."""
        encoded = body.encode() if isinstance(body, str) else body
        with self._lock:
            self._script.append(Reply(status, encoded, headers or {}))

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server, "it is started"
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """Its root, without a slash."""
        return f"{'https' if self._tls else 'http'}://{self._host}:{self.port}"

    def start(self) -> Self:
        """Listen on a free port."""
        self._server = ThreadingHTTPServer((self._host, 0), self._handler())
        self._server.daemon_threads = True
        if self._tls:
            self._server.socket = self._tls.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Stop listening."""
        assert self._server, "it is started"
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: object, *_: Any) -> None:
        self.stop()
        assert kind is not None or not self.faults, self.faults

    def take(self, got: Got) -> Reply:
        """Keep a request, and find its answer."""
        if not self.is_counted(got):
            return self.respond(got)
        usual = self.respond(got)
        with self._lock:
            self.requests.append(got)
            return self._script.pop(0) if self._script else usual

    def wait_closing(self, deadline_s: float) -> None:
        """Wait until the server stops, at most so long."""
        self._closing.wait(deadline_s)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                names = {name.lower(): value for name, value in self.headers.items()}
                reply = provider.take(Got(self.command, self.path, names, body))
                if reply.status in (LOST, SILENT):
                    if reply.status == SILENT:
                        provider.wait_closing(SILENT_S)
                    self.close_connection = True
                    return
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                if reply.status not in (204, 304):
                    self.send_header("content-length", str(len(reply.body)))
                self.end_headers()
                if reply.status not in (204, 304):
                    self.wfile.write(reply.body)

            do_GET = do_POST = do_DELETE = do_OPTIONS = _serve

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler
