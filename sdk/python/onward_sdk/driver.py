"""Carries out what the core decides: connects, reads, writes, waits, and connects again.

Knows sockets, time and chance; must not decide anything about order, positions or retries. Drive
it with `start`, then `ask` for what the application wants, `handled` for what it is done with,
and `stop`. Effects are carried out at once and without waiting: a frame goes to the outbox, an
event to the inbox. When the inbox is full nothing more is read, and the edge sees a slow reader.
"""

import asyncio
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeGuard

from onward_sdk import effects as do
from onward_sdk.connection import ANSWER_WAIT_S, Connection, Lost
from onward_sdk.edges import Edges
from onward_sdk.effects import Identity
from onward_sdk.errors import Closed, OnwardError, Refused, Unreachable, words_of
from onward_sdk.events import Connected, Event, TokenExpiring
from onward_sdk.inbox import Inbox
from onward_sdk.protocol import expiry_of, merge_acks
from onward_sdk.state import Phase, State

TokenSource = Callable[[], Awaitable[str]]

STOP_WAIT_S = 3.0  # how long `stop` waits for the close handshake, before it hangs up


class Driver:
    """Runs one client. `inbox` holds what the application is to be told."""

    def __init__(
        self,
        state: State,
        edges: Edges,
        user: str,
        token: str | TokenSource,
        keep: Callable[[Identity], None] | None,
        chance: Callable[[], float],
    ) -> None:
        self.inbox = Inbox()
        self._token = token
        self._state = state
        self._edges = edges
        self._user = user
        self._keep = keep
        self._chance = chance
        self._outbox: deque[do.Send | do.Close] = deque()
        self._out = asyncio.Event()  # set when the outbox is not empty
        self._hurry = asyncio.Event()  # set to end a pause between attempts
        self._waiting: dict[str, asyncio.Future[Mapping[str, Any]]] = {}
        self._task: asyncio.Task[None] | None = None
        self._renewal: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._next = do.Reconnect(0.0, other_edge=False)
        self._first: asyncio.Future[None] | None = None  # the first `connected`
        self._over: asyncio.Future[None] | None = None
        self._patient = False

    @property
    def started(self) -> bool:
        """True after `start`."""
        return self._task is not None

    def start(self, patient: bool) -> None:
        """Begins to connect. `patient`: also if no edge can be reached at first."""
        assert self._task is None
        loop = asyncio.get_running_loop()
        self._patient = patient
        self._first, self._over = loop.create_future(), loop.create_future()
        self._task = asyncio.create_task(self.guard(self._run()))

    async def connected(self) -> None:
        """Returns when first connected; raises why that cannot be."""
        assert self._first is not None
        await asyncio.shield(self._first)

    async def over(self) -> None:
        """Returns when stopped; raises what ended the client otherwise."""
        assert self._over is not None, "connect first"
        await asyncio.shield(self._over)

    async def stop(self) -> None:
        """Acknowledges what was handled, closes, and ends the tasks."""
        opening = self._state.phase is Phase.OFFLINE
        self.act(self._state.disconnect())
        self._hurry.set()
        if self._task is not None:
            if not opening:
                await asyncio.wait({self._task}, timeout=STOP_WAIT_S)
            self._task.cancel()
            await asyncio.wait({self._task})
            if self._renewal is not None:
                self._renewal.cancel()
            self._end(None)

    async def ask(self, request_id: str, effects: list[do.Effect]) -> Mapping[str, Any]:
        """Carries out a request's effects and waits for its answer."""
        future: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = future
        try:
            self.act(effects)
            return await future
        finally:
            self._waiting.pop(request_id, None)

    def handled(self, events: Sequence[Event]) -> None:
        """The application is done with these events."""
        self.act(self._state.handled(events, time.monotonic()))

    async def refresh(self, token: str) -> None:
        """Gives the session, or the next connect, a newer token; returns when it is taken."""
        before = self._token
        if isinstance(before, str):
            self._token = token
        try:
            await self.ask(*self._state.refresh(token, time.monotonic(), _expiry(token)))
        except Refused:
            if self._token == token:
                self._token = before
            raise

    async def guard(self, work: Coroutine[Any, Any, None]) -> None:
        """The top of a task: what the application's functions raise ends the client.

        An event whose handler failed stays unhandled: it will be recovered, or notified.
        """
        try:
            await work
        except Exception as error:  # noqa: BLE001 - whatever the application raises
            self.act(self._state.disconnect())
            self._hurry.set()
            self._end(error)

    def act(self, effects: list[do.Effect]) -> None:
        """Carries out effects, in order, without waiting."""
        for effect in effects:
            match effect:
                case do.Send() | do.Close():
                    self._queue(effect)
                case do.Emit(event):
                    self._tell(event)
                case do.Keep(identity):
                    if self._keep is not None:
                        self._keep(identity)
                case do.Settle(request_id, answer):
                    if (future := self._waiting.get(request_id)) and not future.done():
                        future.set_result(answer)
                case do.Fail(request_id, error):
                    if (future := self._waiting.get(request_id)) and not future.done():
                        future.set_exception(error)
                case do.Reconnect():
                    self._next = effect
                case do.RenewToken(expires_in_s):
                    if self._renewal is not None:
                        self._renewal.cancel()
                    renewing = self.guard(self._renew(expires_in_s))
                    self._renewal = asyncio.create_task(renewing)
                case do.Stop(error):
                    self._end(error)
        self._arm()

    def _queue(self, effect: do.Send | do.Close) -> None:
        """To the writer. Acknowledgements join, so that an edge that reads slowly, or not at all,
        has no more of them waiting for it than one behind each request."""
        last = self._outbox[-1] if self._outbox else None
        if _only_acknowledges(effect) and _only_acknowledges(last):
            self._outbox.pop()
            effect = do.Send(merge_acks(last.frame, effect.frame))
        self._outbox.append(effect)
        self._out.set()

    async def _renew(self, expires_in_s: float) -> None:
        """Asks the application for a newer token, and refreshes the session with it."""
        try:
            await self.refresh(await self._current_token())
        except (OnwardError, Lost):
            # The session goes on until the server ends it.
            self.inbox.put(TokenExpiring(expires_in_s))

    async def _current_token(self) -> str:
        """The token to come with. A source that fails later than before the first session may be
        out of order for a while, like an edge: Lost, and it is asked again."""
        if isinstance(self._token, str):
            return self._token
        try:
            return await self._token()
        except Exception as error:  # whatever the application raises
            assert self._first is not None
            if not self._first.done():
                raise
            raise Lost(f"no token could be had: {words_of(error)}") from error

    def _tell(self, event: Event) -> None:
        self.inbox.put(event)
        if isinstance(event, Connected) and self._first and not self._first.done():
            self._first.set_result(None)

    def _end(self, error: BaseException | None) -> None:
        self.inbox.finish()
        for future in (self._first, self._over):
            if future is None or future.done():
                continue
            if error is not None:
                future.set_exception(error)
                future.exception()  # whoever does not wait for it need not hear of it
            elif future is self._first:
                future.set_exception(Closed("the client was closed"))
                future.exception()
            else:
                future.set_result(None)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        at = self._state.next_deadline()
        if at is not None and self._task is not None and not self._task.done():
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(0.0, at - time.monotonic()), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.act(self._state.tick(time.monotonic()))

    async def _run(self) -> None:
        """Connects, reads, and connects again, until the core says that it is over."""
        assert self._over is not None
        while not self._over.done():
            await self._pause(self._next.delay_s)
            url = self._edges.choose(self._chance())
            code, reason, advice_ms = 0, "", None
            try:
                code, reason = await self._converse(url)
            except Lost as lost:
                reason, advice_ms = lost.reason, lost.retry_after_ms
            now, fresh_id = time.monotonic(), draw_client_id()
            self.act(
                self._state.closed(code, reason, now, self._chance(), fresh_id, advice_ms or 0)
            )
            if self._next.other_edge:
                self._edges.failed(url)
            if advice_ms is None:
                self._give_up_if_never_reached(code, reason)
        if self._timer is not None:
            self._timer.cancel()

    def _give_up_if_never_reached(self, code: int, reason: str) -> None:
        assert self._first is not None
        if code == 0 and not self._first.done() and self._edges.exhausted and not self._patient:
            self.act(self._state.disconnect())
            self._end(Unreachable(reason))

    async def _pause(self, delay_s: float) -> None:
        try:
            async with asyncio.timeout(delay_s):
                await self._hurry.wait()
        except TimeoutError:
            pass

    async def _converse(self, url: str) -> tuple[int, str]:
        """One connection from its opening to its end; returns its close code and reason."""
        renews = not isinstance(self._token, str)
        token = await self._current_token()
        if self._hurry.is_set():
            return 0, "the client was closed"
        async with Connection(url, self._user) as connection:
            self._outbox.clear()
            if self._hurry.is_set():
                return 0, "the client was closed"
            self.act(self._state.opened(token, time.monotonic(), _expiry(token), renews))
            writer = asyncio.create_task(self._write(connection))
            try:
                wait_s: float | None = ANSWER_WAIT_S
                while (frame := await connection.receive(wait_s)) is not None:
                    self.act(self._state.received(frame, time.monotonic()))
                    if "connected" in frame:
                        wait_s = None  # from now on silence alone is no failure
                        self._edges.worked(url)
                    await self.inbox.has_room()
                return connection.close_code, connection.close_reason
            finally:
                writer.cancel()
                await asyncio.wait({writer})

    async def _write(self, connection: Connection) -> None:
        while True:
            await self._out.wait()
            self._out.clear()
            while self._outbox:
                effect = self._outbox.popleft()
                if isinstance(effect, do.Close):
                    return await connection.close(effect.code, effect.reason)
                if not await connection.send(effect.frame):
                    return None  # the reader notices too, and says why


def draw_client_id() -> str:
    """A client id that nobody has."""
    return f"client-{uuid.uuid4().hex[:16]}"


def _only_acknowledges(effect: do.Send | do.Close | None) -> TypeGuard[do.Send]:
    return isinstance(effect, do.Send) and effect.frame.keys() == {"ack"}


def _expiry(token: str) -> float | None:
    """When a token expires, on the monotonic clock."""
    at = expiry_of(token)
    return None if at is None else time.monotonic() + at - time.time()
