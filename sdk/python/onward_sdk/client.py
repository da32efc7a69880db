"""The client on asyncio: carries out what the core (`state`) decides, over a WebSocket of aiohttp.

Knows sockets, time and chance; must not decide anything about order, positions or retries. Three
things run: one task that connects, reads and reconnects; while connected one that writes; and one
that hands events to the application's callbacks (none, if it iterates over `events` instead).
Effects are carried out at once and without waiting: a frame goes to the outbox, an event to the
inbox. When the inbox is full the client stops reading, and the edge sees a slow reader.
"""

import asyncio
import inspect
import random
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from onward_sdk import effects as do
from onward_sdk.connection import ANSWER_WAIT_S, Connection, Lost
from onward_sdk.edges import Edge, Edges
from onward_sdk.errors import Closed, Unreachable
from onward_sdk.events import Connected, Event, Message, Status
from onward_sdk.inbox import Inbox
from onward_sdk.protocol import (
    Published,
    Subscription,
    expiry_of,
    publish_body,
    read_published,
)
from onward_sdk.state import Identity, Options, Phase, State

Handler = Callable[[Any], object]  # a coroutine function is awaited
TokenSource = Callable[[], Awaitable[str]]

HANDLER_WAIT_S = 5.0  # how long `disconnect` waits for a handler that is under way
DISCONNECT_WAIT_S = 3.0  # and then for the close handshake, before it hangs up
HANDLED_WITHIN_S = 0.2  # events are reported as handled at least that often


class Client:
    """One client of a user: an installation, a process or a tab.

    `edges`: where to connect (`http://host:port`). `user`: who, where anonymous access is on;
    otherwise the `token` says so, or what `token()` returns before each connect. `identity`: what
    `keep` was given last, to go on from there; without it a client id is drawn. `keep` is called
    whenever the identity changes, before the change is acknowledged; it should make it durable,
    and return soon. A message counts as received once `on_message` has returned.
    """

    def __init__(
        self,
        edges: Iterable[str | Edge],
        *,
        user: str = "",
        token: str | TokenSource = "",
        identity: Identity | None = None,
        options: Options | None = None,
        on_message: Handler | None = None,
        on_status: Handler | None = None,
        keep: Callable[[Identity], None] | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._edges = Edges(edges)
        self._user = user
        self._token = token
        self._state = State(identity or Identity(_draw_id()), options or Options())
        self._on_message, self._on_status, self._keep = on_message, on_status, keep
        self._chance = chance
        self._inbox = Inbox()
        self._outbox: deque[do.Send | do.Close] = deque()
        self._out = asyncio.Event()  # set when the outbox is not empty
        self._hurry = asyncio.Event()  # set to end a pause between attempts
        self._waiting: dict[str, asyncio.Future[Mapping[str, Any]]] = {}
        self._run_task: asyncio.Task[None] | None = None
        self._hand_over_task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._next = do.Reconnect(0.0, other_edge=False)
        self._first: asyncio.Future[None] | None = None  # the first `connected`
        self._over: asyncio.Future[None] | None = None
        self._patient = False

    @property
    def identity(self) -> Identity:
        """Who the client is and how far it has come."""
        return self._state.identity

    # What an application calls.

    async def connect(self, patient: bool = False) -> None:
        """Connects, and stays connected until `disconnect`; returns when first connected.

        Raises Refused if the server does not want this client, and Unreachable if every edge was
        tried and none answered, unless `patient`: then it goes on trying.
        """
        if self._run_task is None:
            loop = asyncio.get_running_loop()
            self._patient = patient
            self._first, self._over = loop.create_future(), loop.create_future()
            self._run_task = asyncio.create_task(self._guard(self._run()))
            if self._on_message is not None or self._on_status is not None:
                self._hand_over_task = asyncio.create_task(self._guard(self._hand_over()))
        assert self._first is not None
        await asyncio.shield(self._first)

    async def disconnect(self) -> None:
        """Acknowledges what was handled and closes; the follows stay, so the user is notified."""
        self._inbox.close()
        task = self._hand_over_task
        if task is not None and task is not asyncio.current_task():
            await asyncio.wait({task}, timeout=HANDLER_WAIT_S)
        opening = self._state.phase is Phase.OFFLINE
        self._act(self._state.disconnect())
        self._hurry.set()
        if self._run_task is not None:
            if not opening:
                await asyncio.wait({self._run_task}, timeout=DISCONNECT_WAIT_S)
            self._run_task.cancel()
            await asyncio.wait({self._run_task})
            self._end(None)

    async def wait_closed(self) -> None:
        """Returns when the client is over: after `disconnect`. Raises what ended it otherwise."""
        assert self._over is not None, "connect first"
        await asyncio.shield(self._over)

    async def subscribe(self, *subscriptions: str | Subscription) -> None:
        """Subscribes; returns when that is durable. Before `connect` it returns at once."""
        wanted = [Subscription(one) if isinstance(one, str) else one for one in subscriptions]
        await self._ask(*self._state.subscribe(wanted, time.monotonic()))

    async def unsubscribe(self, *subjects: str) -> None:
        """Ends subscriptions, and that the user is notified of these subjects."""
        await self._ask(*self._state.unsubscribe(subjects, time.monotonic()))

    async def publish(
        self,
        subject: str,
        text: str | None = None,
        data: bytes | None = None,
        *,
        content_type: str = "",
        publication_id: str = "",
        headers: Mapping[str, str] | None = None,
        retain: bool = False,
        transient: bool = False,
    ) -> Published:
        """Publishes; returns when that is durable, also if a reconnect is needed for it.

        Raises Refused; OutcomeUnknown if it was sent and no answer came in time; QueueFull.
        """
        body = publish_body(
            subject,
            text,
            data,
            content_type=content_type,
            publication_id=publication_id or uuid.uuid4().hex,
            headers=headers,
            retain=retain,
            transient=transient,
        )
        return read_published(await self._wait_for("publish", body))

    async def set_external_token(self, uri: str, replaces: str = "") -> None:
        """Registers where to reach the user when offline. Before `connect` it returns at once."""
        await self._ask(*self._state.set_external_token(uri, replaces, time.monotonic()))

    async def remove_external_token(self, uri: str) -> None:
        """Takes this client off an external token."""
        await self._ask(*self._state.remove_external_token(uri, time.monotonic()))

    async def set_activity(self, active: bool) -> None:
        """Says whether a person looks at this client."""
        await self._wait_for("setActivity", {"active": active})

    async def refresh(self, token: str) -> None:
        """Gives the session a newer token of the same user."""
        await self._wait_for("refresh", {"token": token})
        if isinstance(self._token, str):
            self._token = token
        self._state.token_changed(_expiry(token))
        self._arm()

    async def logout(self) -> None:
        """Forgets this client's external tokens and follows at the server, then closes."""
        await self._ask(*self._state.logout(time.monotonic()))
        await self.disconnect()

    async def events(self) -> AsyncIterator[Event]:
        """Messages and status, in order; each is handled when the next one is asked for.

        Ends when the client is closed. Not together with callbacks.
        """
        assert self._hand_over_task is None, "the callbacks get the events"
        while (event := await self._inbox.get()) is not None:
            yield event
            self._act(self._state.handled([event], time.monotonic()))

    async def messages(self) -> AsyncIterator[Message]:
        """As `events`, messages only."""
        async for event in self.events():
            if isinstance(event, Message):
                yield event

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.disconnect()

    # Requests.

    async def _wait_for(self, kind: str, body: dict[str, Any]) -> Mapping[str, Any]:
        return await self._answer(*self._state.request(kind, body, time.monotonic()))

    async def _ask(self, request_id: str, effects: list[do.Effect]) -> None:
        """Waits for an answer; before `connect` there is nothing to wait for yet."""
        if self._run_task is None:
            self._act(effects)
        else:
            await self._answer(request_id, effects)

    async def _answer(self, request_id: str, effects: list[do.Effect]) -> Mapping[str, Any]:
        future: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = future
        try:
            self._act(effects)
            return await future
        finally:
            self._waiting.pop(request_id, None)

    # Effects.

    def _act(self, effects: list[do.Effect]) -> None:
        for effect in effects:
            match effect:
                case do.Send() | do.Close():
                    self._outbox.append(effect)
                    self._out.set()
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
                case do.Stop(error):
                    self._end(error)
        self._arm()

    def _tell(self, event: Event) -> None:
        self._inbox.put(event)
        if isinstance(event, Connected) and self._first and not self._first.done():
            self._first.set_result(None)

    def _end(self, error: BaseException | None) -> None:
        self._inbox.finish()
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
        if at is not None and self._run_task is not None and not self._run_task.done():
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(0.0, at - time.monotonic()), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._act(self._state.tick(time.monotonic()))

    # Tasks.

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        """The top of a task: what the application's functions raise ends the client.

        An event whose handler failed stays unhandled: it will be recovered, or notified.
        """
        try:
            await work
        except Exception as error:  # noqa: BLE001 - whatever the application raises
            self._act(self._state.disconnect())
            self._hurry.set()
            self._end(error)

    async def _run(self) -> None:
        """Connects, reads, and connects again, until the core says that it is over."""
        assert self._over is not None
        while not self._over.done():
            await self._pause(self._next.delay_s)
            url = self._edges.choose(self._chance())
            code, reason = 0, ""
            try:
                code, reason = await self._converse(url)
            except Lost as lost:
                reason = lost.reason
            self._act(
                self._state.closed(code, reason, time.monotonic(), self._chance(), _draw_id())
            )
            if self._next.other_edge:
                self._edges.failed(url)
            self._give_up_if_never_reached(code, reason)
        if self._timer is not None:
            self._timer.cancel()

    def _give_up_if_never_reached(self, code: int, reason: str) -> None:
        assert self._first is not None
        if code == 0 and not self._first.done() and self._edges.exhausted and not self._patient:
            self._act(self._state.disconnect())
            self._end(Unreachable(reason))

    async def _pause(self, delay_s: float) -> None:
        try:
            async with asyncio.timeout(delay_s):
                await self._hurry.wait()
        except TimeoutError:
            pass

    async def _converse(self, url: str) -> tuple[int, str]:
        """One connection from its opening to its end; returns its close code and reason."""
        token = self._token if isinstance(self._token, str) else await self._token()
        if self._hurry.is_set():
            return 0, "the client was closed"
        async with Connection(url, self._user) as connection:
            self._outbox.clear()
            if self._hurry.is_set():
                return 0, "the client was closed"
            self._act(self._state.opened(token, time.monotonic(), _expiry(token)))
            writer = asyncio.create_task(self._write(connection))
            try:
                wait_s: float | None = ANSWER_WAIT_S
                while (frame := await connection.receive(wait_s)) is not None:
                    self._act(self._state.received(frame, time.monotonic()))
                    if "connected" in frame:
                        wait_s = None  # from now on silence alone is no failure
                        self._edges.worked(url)
                    await self._inbox.has_room()
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

    async def _hand_over(self) -> None:
        """Gives events to the callbacks, and reports them as handled, many at a time."""
        while (events := await self._inbox.get_many()) is not None:
            done: list[Event] = []
            since = time.monotonic()
            try:
                for event in events:
                    await self._call(event)
                    done.append(event)
                    if time.monotonic() - since > HANDLED_WITHIN_S:
                        self._act(self._state.handled(done, time.monotonic()))
                        done, since = [], time.monotonic()
                    if self._inbox.closed:
                        break
            finally:
                self._act(self._state.handled(done, time.monotonic()))

    async def _call(self, event: Message | Status) -> None:
        handler = self._on_message if isinstance(event, Message) else self._on_status
        result = handler(event) if handler is not None else None
        if inspect.isawaitable(result):
            await result


def _draw_id() -> str:
    return f"client-{uuid.uuid4().hex[:16]}"


def _expiry(token: str) -> float | None:
    """When a token expires, on the monotonic clock."""
    at = expiry_of(token)
    return None if at is None else time.monotonic() + at - time.time()
