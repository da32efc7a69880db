"""What stands in for a provider that is spoken to by HTTP: Hypercorn, in a thread of its own.

A double is driven the same from tests with an event loop, from those without, and from tests that
run whole services:

    with FakeApns(folder) as apns:      # or start() … stop()
        apns.answer(…)                  # what to say next
        … apns.url …
        assert apns.requests[0].headers["…"] == …
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hypercorn.asyncio import serve
from hypercorn.config import Config

from tests.certificates import Authority
from tests.notifier.scripts import Scripts
from tests.path.stack import free_port


@dataclass(frozen=True)
class Request:
    """What came. Header names in lower case."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    http_version: str


@dataclass(frozen=True)
class Answer:
    """What to say. `before_s`: wait so long first. `cut`: read the request, then hang up on whoever
    asked, with all that is under way on that connection."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    before_s: float = 0.0
    cut: bool = False


class _Loop(asyncio.SelectorEventLoop):
    """Knows the connections that its servers accepted, so that they can be cut."""

    def __init__(self) -> None:
        super().__init__()
        self.accepted: list[asyncio.Transport] = []

    async def create_server(self, protocol_factory: Any, *rest: Any, **options: Any) -> Any:
        def recording() -> Any:
            protocol = protocol_factory()
            made = protocol.connection_made

            def connection_made(transport: asyncio.Transport) -> None:
                self.accepted.append(transport)
                made(transport)

            protocol.connection_made = connection_made
            return protocol

        return await super().create_server(recording, *rest, **options)


class HttpDouble:
    """A server on a drawn port of 127.0.0.1. With a folder for its certificates it speaks TLS."""

    def __init__(self, folder: Path | None = None, alpn: tuple[str, ...] = ("http/1.1",)) -> None:
        self.requests: list[Request] = []
        self.scripts: Scripts[Answer] = Scripts()
        self._answers: list[Answer] = []
        self._alpn = list(alpn)
        self._port = free_port()
        # Named by its folder: of two authorities of one name, only one is looked at.
        self._authority = Authority(folder, folder.name) if folder else None
        self.certificate = None
        if self._authority:
            self.certificate = self._authority.sign("double", hosts=("127.0.0.1", "localhost"))
        self._loop = _Loop()
        self._stop: asyncio.Event
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def url(self) -> str:
        return f"{'https' if self.certificate else 'http'}://127.0.0.1:{self._port}"

    @property
    def ca_file(self) -> str:
        """Who vouches for it, as a file for SSL_CERT_FILE."""
        assert self._authority, "it speaks TLS"
        return str(self._authority.file)

    @property
    def connections(self) -> int:
        """How many it has accepted."""
        return len(self._loop.accepted)

    def answer(self, *answers: Answer) -> None:
        """Say these next, each once; then what `respond` says."""
        self._answers += answers

    def respond(self, request: Request) -> Answer:
        """What is said when nothing else was told. For doubles to override."""
        return Answer()

    def addressee(self, request: Request) -> str:
        """For whom a request is, as `scripts` name them; empty: nobody. For doubles to override."""
        return ""

    def start(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10), "the double listens"
        return self

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(10)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        config = Config()
        config.bind = [f"127.0.0.1:{self._port}"]
        config.alpn_protocols = self._alpn
        config.accesslog = config.errorlog = None
        config.graceful_timeout = 0.2
        config.keep_alive_timeout = 600  # Providers are patient.
        if self.certificate:
            config.certfile, config.keyfile = str(self.certificate.cert), str(self.certificate.key)
        serving = asyncio.create_task(serve(self._app, config, shutdown_trigger=self._stop.wait))
        while not self._ready.is_set():
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", self._port)
                writer.close()
                self._ready.set()
            await asyncio.sleep(0.01)
        await serving

    async def _app(
        self, scope: Any, receive: Callable[[], Any], send: Callable[[Any], Any]
    ) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while True:
            event = await receive()
            body += event.get("body", b"")
            if not event.get("more_body"):
                break
        request = Request(
            scope["method"],
            scope["raw_path"].decode() if scope.get("raw_path") else scope["path"],
            scope["query_string"].decode(),
            {name.decode(): value.decode() for name, value in scope["headers"]},
            body,
            scope["http_version"],
        )
        self.requests.append(request)
        answer = self._answers.pop(0) if self._answers else self._usual(request)
        await asyncio.sleep(answer.before_s)
        if answer.cut:
            self._hang_up(scope["client"])
            return
        headers = [(name.encode(), value.encode()) for name, value in answer.headers.items()]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    def _usual(self, request: Request) -> Answer:
        """What the script of its addressee says, of a request with which nothing is wrong."""
        answer = self.respond(request)
        if answer.status >= 400:
            return answer
        return self.scripts.next(self.addressee(request)) or answer

    def _hang_up(self, client: tuple[str, int]) -> None:
        for transport in self._loop.accepted:
            if transport.get_extra_info("peername") == tuple(client):
                transport.abort()
