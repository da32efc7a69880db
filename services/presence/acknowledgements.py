"""Moves the positions of one extension, all that come together in one transaction.

A position moves under the term of this process, and only in a partition that is its own: what
another has taken over meanwhile stays as that one finds it. To drive it: `run()`, and
`await move(…)`.
"""

import asyncio
from collections.abc import Mapping

from services.chassis.errors import Fault
from services.presence.store import Store, Transaction


class Acknowledgements:
    """The positions of an extension, at most one of a partition on its way."""

    def __init__(self, store: Store, extension: str) -> None:
        self._store = store
        self._extension = extension
        self._waiting: dict[int, tuple[int, asyncio.Future[None]]] = {}
        self._wake = asyncio.Event()

    async def move(self, partition: int, number: int) -> None:
        """Return once the position is durable, or is another's to move. Raises Fault."""
        moved: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[partition] = number, moved
        self._wake.set()
        await moved

    async def run(self) -> None:
        """Work for ever; cancel to stop, at any point."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            taken, self._waiting = self._waiting, {}
            fault: Fault | None = None
            try:
                await self._write({partition: number for partition, (number, _) in taken.items()})
            except Fault as error:
                fault = error
            for _, moved in taken.values():
                if moved.done():  # Its caller was cancelled.
                    continue
                if fault is None:
                    moved.set_result(None)
                else:
                    moved.set_exception(fault)

    async def _write(self, numbers: Mapping[int, int]) -> None:
        def work(tx: Transaction) -> None:
            tx.move_extension(self._extension, numbers)

        await self._store.write(work)
