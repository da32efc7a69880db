"""Streams stories, and who is there, over HTTP as server-sent events, for who wants to see changes.

Knows the format `text/event-stream` and when a stream ends; must not know who may read what, nor
where it comes from. Events of a stream, each with a JSON object as data:

    story        what `GET /v1/explain` answers, now and whenever it has changed
    presence     what `GET /v1/presence` answers, likewise
    unavailable  a refusal: it cannot be had for now; the next of the above says that it can
    refused      a refusal; the stream ends
    goingAway    {"reconnectAfterMs"}: this edge stops; the stream ends

Only the newest event waits for a slow reader, in place of those before it. Comment lines in
between show that the stream lives. Drive it: `await serve(…)` is a handler's whole work;
`end_all()` when the edge drains.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any, Final, cast

import orjson
from aiohttp import web
from google.protobuf.message import Message

from services.chassis import logs
from services.chassis.refusals import Code, Refusal, refuse
from services.edge.http_metrics import STORIES, STORIES_ENDED
from services.edge.http_refusal import Refused, refusal_object
from services.edge.http_request import shown
from services.edge.tokens import Caller

# What is told, each time anew; it ends with the refusal that ended it.
Watch = Callable[[], AsyncIterator[Message | Refusal]]

MEDIA_TYPE: Final = "text/event-stream"
OUTCOMES_MAX: Final = 100  # of one stream's story; plain explain tells more
_HEARTBEAT: Final = b": \n\n"
_LOOK_S: Final = 1.0  # how soon it is noticed that a reader has gone
log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class StoryLimits:
    """Bounds of streams."""

    streams_max: int = 200  # of this process; more: OVERLOADED
    user_streams_max: int = 10  # of one user who is no administrator; more: OVERLOADED
    heartbeat_s: float = 10.0  # silence between two lines
    write_s: float = 10.0  # a reader that takes nothing for so long is cut
    retry_s: float = 2.0  # longest wait before presence is asked again
    away_s: float = 2.0  # reconnects of a draining edge are spread over it


class StoryStreams:
    """All streams of this edge."""

    def __init__(self, limits: StoryLimits) -> None:
        self._limits = limits
        self._streams: set[_Stream] = set()
        self._draining = False

    async def serve(
        self,
        request: web.Request,
        name: str,
        watch: Watch,
        reader: Caller,
    ) -> web.StreamResponse:
        """Answers with a stream, until its reader goes, or may read no longer.

        `name` is that of its events, which `watch()` tells until it is closed. Raises Refused if
        there is no room.
        """
        if self._draining:
            raise Refused(refuse(Code.UNAVAILABLE, "This server is stopping.", 1_000))
        if len(self._streams) >= self._limits.streams_max:
            message = "This server has as many streams as it may."
            raise Refused(refuse(Code.OVERLOADED, message, 5_000))
        user = "" if reader.grants.admin else reader.user
        if user and sum(one.user == user for one in self._streams) >= self._limits.user_streams_max:
            message = "This user has as many streams as one may."
            raise Refused(refuse(Code.OVERLOADED, message, 5_000))
        stream = _Stream(user)
        self._streams.add(stream)
        STORIES.set(len(self._streams))
        following = asyncio.create_task(self._follow(name, watch, stream))
        try:
            response = web.StreamResponse(headers=_HEADERS)
            await response.prepare(request)
            why = await self._write(request, response, stream, reader.expires_at)
            STORIES_ENDED.labels(why).inc()
            return response
        finally:
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following
            self._streams.discard(stream)
            STORIES.set(len(self._streams))

    def end_all(self) -> None:
        """Tells every reader to come back elsewhere, and takes no more."""
        self._draining = True
        for stream in self._streams:
            wait_ms = random.randint(0, int(self._limits.away_s * 1000))
            stream.end("drained", "goingAway", {"reconnectAfterMs": wait_ms})

    async def _follow(self, name: str, watch: Watch, stream: "_Stream") -> None:
        """Keeps the newest event in `stream`, also when presence goes and comes back."""
        away = False
        try:
            while True:
                # The cast: what yields is an async generator, and must be closed as one.
                async with aclosing(cast(Any, watch())) as stories:
                    async for told in stories:
                        if not isinstance(told, Refusal):
                            away = False
                            stream.tell(name, shown(told))
                        elif told.code == Code.ARGUMENT_INVALID:
                            stream.end("refused", "refused", refusal_object(told))
                            return
                        elif not away:
                            away = True
                            stream.tell("unavailable", refusal_object(told))
                await asyncio.sleep(random.uniform(0.2, 1.0) * self._limits.retry_s)
        except Exception as error:  # noqa: BLE001  # a bug costs one stream; its words may quote it
            log.error("story_failed", error=type(error).__name__)
            fault = refuse(Code.UNAVAILABLE, "This server had a fault.")
            stream.end("failed", "refused", refusal_object(fault))

    async def _write(
        self,
        request: web.Request,
        response: web.StreamResponse,
        stream: "_Stream",
        expires_at: float | None,
    ) -> str:
        """Writes what comes until the stream ends; returns why it did."""
        limits = self._limits
        try:
            await response.write(_greeting())
            silent_since = time.monotonic()
            while True:
                event, why = await stream.next(_LOOK_S)
                if not why and expires_at is not None and time.time() >= expires_at:
                    expired = refuse(Code.TOKEN_EXPIRED, "The token has expired.")
                    event, why = _event("refused", refusal_object(expired)), "expired"
                if request.transport is None or request.transport.is_closing():
                    return "gone"
                if not event and time.monotonic() - silent_since >= limits.heartbeat_s:
                    event = _HEARTBEAT
                if event:
                    async with asyncio.timeout(limits.write_s):
                        await response.write(event)
                    silent_since = time.monotonic()
                if why:
                    await response.write_eof()
                    return why
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
            return "slow"
        except ConnectionError:
            return "gone"


class _Stream:
    """The newest event that a reader has not been written, and whether it is the last. `user`:
    whose it is, if that counts."""

    __slots__ = ("_changed", "_event", "_why", "user")

    def __init__(self, user: str) -> None:
        self.user = user
        self._changed = asyncio.Event()
        self._event = b""
        self._why = ""

    def tell(self, name: str, data: dict[str, Any]) -> None:
        if not self._why:
            self._event = _event(name, data)
            self._changed.set()

    def end(self, why: str, name: str, data: dict[str, Any]) -> None:
        self.tell(name, data)
        self._why = self._why or why

    async def next(self, wait_s: float) -> tuple[bytes, str]:
        """The event (empty: none within `wait_s`), and why the stream ends after it, if it does."""
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._changed.wait()
        self._changed.clear()
        event, self._event = self._event, b""
        return event, self._why


_HEADERS: Final = {
    "Content-Type": MEDIA_TYPE,
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Accel-Buffering": "no",  # proxies that collect answers must not
}


def _event(name: str, data: dict[str, Any]) -> bytes:
    """JSON has no line breaks of its own, so the data is one line."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), orjson.dumps(data))


def _greeting() -> bytes:
    """When an EventSource that loses the stream is to come back; not all at once."""
    return b"retry: %d\n\n" % random.randint(500, 3000)
