"""The client: what an application calls, and how it is told.

Hands wishes to the core (`state`), and events to the application's callbacks, in a task of its
own; or the application iterates over `events` instead. How connections are made, and when, is
the `driver`'s.
"""

import asyncio
import inspect
import random
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from onward_sdk.driver import Driver, TokenSource, draw_client_id
from onward_sdk.edges import Edge, Edges
from onward_sdk.effects import Effect, Identity
from onward_sdk.events import Event, Limits, Message, Status
from onward_sdk.options import Options
from onward_sdk.protocol import (
    Published,
    Subscription,
    publish_body,
    read_published,
)
from onward_sdk.state import State

Handler = Callable[[Any], object]  # a coroutine function is awaited

HANDLER_WAIT_S = 5.0  # how long `disconnect` waits for a handler that is under way
HANDLED_WITHIN_S = 0.2  # events are reported as handled at least that often


class Client:
    """One client of a user: an installation, a process or a tab.

    `edges`: where to connect (`http://host:port`). `user`: who, where anonymous access is on;
    otherwise the `token` says so, or what `token()` returns before each connect and shortly before
    the one in use expires; where that raises, it is asked again later, but before the first session
    it ends the client. `identity`: what
    `keep` was given last, to go on from there; without it a client id is drawn. `keep` is called
    whenever the identity changes, before the change is acknowledged; it should make it durable,
    and return soon. A message counts as received once `on_message` has returned.
    """

    def __init__(
        self,
        edges: str | Iterable[str | Edge],
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
        if isinstance(edges, str):
            edges = [edges]
        self._state = State(identity or Identity(draw_client_id()), options or Options())
        self._driver = Driver(self._state, Edges(edges), user, token, keep, chance)
        self._on_message, self._on_status = on_message, on_status
        self._hand_over_task: asyncio.Task[None] | None = None

    @property
    def identity(self) -> Identity:
        """Who the client is and how far it has come."""
        return self._state.identity

    @property
    def limits(self) -> Limits:
        """What the server takes, as it told last; zeros before the first connection."""
        return self._state.limits

    # What an application calls.

    async def connect(self, patient: bool = False) -> None:
        """Connects, and stays connected until `disconnect`; returns when first connected.

        Raises Refused if the server does not want this client, and Unreachable if every edge was
        tried and none answered, unless `patient`: then it goes on trying.
        """
        if not self._driver.started:
            self._driver.start(patient)
            if self._on_message is not None or self._on_status is not None:
                handing_over = self._driver.guard(self._hand_over())
                self._hand_over_task = asyncio.create_task(handing_over)
        await self._driver.connected()

    async def disconnect(self) -> None:
        """Acknowledges what was handled and closes; the follows stay, so the user is notified."""
        self._driver.inbox.close()
        task = self._hand_over_task
        if task is not None and task is not asyncio.current_task():
            await asyncio.wait({task}, timeout=HANDLER_WAIT_S)
        await self._driver.stop()

    async def wait_closed(self) -> None:
        """Returns when the client is over: after `disconnect`. Raises what ended it otherwise."""
        await self._driver.over()

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

        `retain`: besides, it becomes what a subscriber with `snapshot` gets first; with empty
        content: nothing does any more. `transient`: it is told only to who is subscribed now, has
        seq 0, and neither waits for a connection (Unreachable) nor outlives one.

        Raises Refused; OutcomeUnknown if it was sent and no answer came in time; QueueFull.
        """
        body = publish_body(
            subject,
            text,
            data,
            content_type=content_type,
            # A transient message is never sent again, so it needs no name.
            publication_id=publication_id or ("" if transient else uuid.uuid4().hex),
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
        """Says whether a person looks at this client; it is said again after each reconnect.

        Before `connect` it returns at once.
        """
        await self._ask(*self._state.set_activity(active, time.monotonic()))

    async def refresh(self, token: str) -> None:
        """Gives the session a newer token of the same user; offline, the next one."""
        await self._driver.refresh(token)

    async def logout(self) -> None:
        """Forgets this client's external tokens and follows at the server, then closes."""
        await self._ask(*self._state.logout(time.monotonic()))
        await self.disconnect()

    async def events(self) -> AsyncIterator[Event]:
        """Messages and status, in order; each is handled when the next one is asked for.

        Ends when the client is closed. Not together with callbacks.
        """
        assert self._hand_over_task is None, "the callbacks get the events"
        while (event := await self._driver.inbox.get()) is not None:
            yield event
            self._driver.handled([event])

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

    # How it is done.

    async def _wait_for(self, kind: str, body: dict[str, Any]) -> Mapping[str, Any]:
        return await self._driver.ask(*self._state.request(kind, body, time.monotonic()))

    async def _ask(self, request_id: str, effects: list[Effect]) -> None:
        """Waits for an answer; before `connect` there is nothing to wait for yet."""
        if self._driver.started:
            await self._driver.ask(request_id, effects)
        else:
            self._driver.act(effects)

    async def _hand_over(self) -> None:
        """Gives events to the callbacks, and reports them as handled, many at a time."""
        while (events := await self._driver.inbox.get_many()) is not None:
            done: list[Event] = []
            since = time.monotonic()
            try:
                for event in events:
                    await self._call(event)
                    done.append(event)
                    if time.monotonic() - since > HANDLED_WITHIN_S:
                        self._driver.handled(done)
                        done, since = [], time.monotonic()
                    if self._driver.inbox.closed:
                        break
            finally:
                self._driver.handled(done)

    async def _call(self, event: Message | Status) -> None:
        handler = self._on_message if isinstance(event, Message) else self._on_status
        result = handler(event) if handler is not None else None
        if inspect.isawaitable(result):
            await result
