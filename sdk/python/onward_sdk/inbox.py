"""Events on their way to the application: a bounded queue with one reader and one writer.

Putting never waits, since effects are carried out at once; instead the client asks `has_room`
before it reads the next frame, so the queue grows beyond `COUNT_MAX` by one frame's events only.
That connections begin and end does not come in frames: of these events the oldest go beyond it.
"""

import asyncio
from collections import deque

from onward_sdk.events import Connected, Disconnected, Event, Subscribed

COUNT_MAX = 1_000  # from here on the socket is not read, and the edge sees a slow client
BATCH_MAX = 256  # events handed over before they are reported as handled
# Events that move no position, and that an application which reads nothing does not miss.
_OF_CONNECTIONS = (Connected, Disconnected, Subscribed)


class Inbox:
    """The queue. `close`: hand over nothing more. `finish`: nothing more will come."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._filled = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._finished = False
        self.closed = False

    def put(self, event: Event) -> None:
        """Queues an event."""
        if len(self._events) >= COUNT_MAX and isinstance(event, _OF_CONNECTIONS):
            self._forget_one()
        self._events.append(event)
        self._filled.set()
        if len(self._events) >= COUNT_MAX:
            self._room.clear()

    def _forget_one(self) -> None:
        for index, event in enumerate(self._events):
            if isinstance(event, _OF_CONNECTIONS):
                del self._events[index]
                return

    async def has_room(self) -> None:
        """Returns when the application has caught up."""
        if not self._room.is_set():
            await self._room.wait()

    async def get(self) -> Event | None:
        """The next event; None at the end."""
        events = await self.get_many(1)
        return events[0] if events else None

    async def get_many(self, count_max: int = BATCH_MAX) -> list[Event] | None:
        """The next events, at least one; None at the end."""
        while not self._events and not self._finished and not self.closed:
            self._filled.clear()
            await self._filled.wait()
        if self.closed or not self._events:
            return None
        count = min(count_max, len(self._events))
        events = [self._events.popleft() for _ in range(count)]
        if len(self._events) < COUNT_MAX:
            self._room.set()
        return events

    def close(self) -> None:
        """The application wants no more; what is queued stays unhandled."""
        self.closed = True
        self._filled.set()
        self._room.set()

    def finish(self) -> None:
        """No more will come; what is queued is still handed over."""
        self._finished = True
        self._filled.set()
