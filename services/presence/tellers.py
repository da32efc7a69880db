"""Tells every registered extension what has happened: a teller for each, and no more.

Knows the registrations, as etcd holds them. To drive it: `run()` for as long as a term lasts,
`changed` when registrations or partitions have changed, `drain` at the end.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

from onward.types.v1 import entry_pb2

from services.chassis import logs
from services.chassis.tasks import lasting
from services.chassis.tls import Trust
from services.presence.extensions import Extension, Registration, registration_of
from services.presence.happening_contents import HappeningContents
from services.presence.store import Store
from services.presence.teller import Teller, TellerSettings

log = logs.get(__name__)

# When a teller that ended with a bug is tried again.
_AGAIN_S = 1.0


class Tellers:
    """A teller for each registered extension. `registered()`: what etcd holds, by name."""

    def __init__(
        self,
        store: Store,
        contents: HappeningContents,
        registered: Callable[[], Mapping[str, Mapping[str, Any]]],
        trust: Trust | str,
        settings: TellerSettings,
        dice: Callable[[], float],
    ) -> None:
        self._store = store
        self._contents = contents
        self._registered = registered
        self._trust = trust
        self._settings = settings
        self._dice = dice
        self._changed = asyncio.Event()
        self._running: dict[Registration, tuple[Teller, asyncio.Task[None]]] = {}
        self._stopping = False
        store.on_commit(lambda touched: self._wake(touched.happenings))

    @property
    def extensions(self) -> Mapping[str, Extension]:
        """Those that are told now, by name."""
        return {one.name: teller.extension for one, (teller, _) in self._running.items()}

    @property
    def registrations(self) -> list[Registration]:
        """Those that etcd names, by name."""
        found = (registration_of(name, value) for name, value in self._registered().items())
        return sorted((one for one in found if one is not None), key=lambda one: one.name)

    def remember(self, message: entry_pb2.Message) -> None:
        """A message was just accepted, and is likely to be told soon."""
        if self._running:
            self._contents.remember(message)

    def changed(self) -> None:
        """Registrations or partitions have changed."""
        self._changed.set()
        for teller, _ in self._running.values():
            teller.look()

    async def run(self) -> None:
        """Keep a teller for each registration; cancel to stop, at any point."""
        self._stopping = False
        try:
            while True:
                self._changed.clear()
                await self._follow()
                await self._changed.wait()
        finally:
            await self._end(list(self._running))

    async def drain(self, wait_s: float) -> None:
        """Begin no more calls, and wait for those under way."""
        self._stopping = True
        tellers = [teller for teller, _ in self._running.values()]
        await asyncio.gather(*(teller.drain(wait_s) for teller in tellers))

    async def _follow(self) -> None:
        wanted = self.registrations
        await self._end([one for one in self._running if one not in wanted])
        for registration in wanted:
            if registration not in self._running and not self._stopping:
                extension = Extension(registration, self._trust, self._settings.breaker)
                teller = Teller(extension, self._store, self._contents, self._settings, self._dice)
                task = asyncio.create_task(lasting(teller.run()))
                task.add_done_callback(partial(self._ended, registration))
                self._running[registration] = teller, task
                log.info("extension_registered", extension=registration.name)

    async def _end(self, registrations: Sequence[Registration]) -> None:
        tasks = [self._running.pop(one)[1] for one in registrations]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, registration: Registration, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            # A bug: it must not end the service, nor what the others are told.
            log.error("teller_failed", extension=registration.name, error=type(error).__name__)
            self._running.pop(registration, None)
            asyncio.get_running_loop().call_later(_AGAIN_S, self._changed.set)

    def _wake(self, partitions: Collection[int]) -> None:
        if partitions:
            for teller, _ in self._running.values():
                teller.wake(partitions)
