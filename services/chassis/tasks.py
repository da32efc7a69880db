"""Tasks that must last.

A task group takes a task that ends in CancelledError for one that was cancelled, and says nothing.
But libraries raise CancelledError too (a gRPC call whose channel somebody closed), and then a timer
or a reader would be gone in silence. `lasting` tells the two apart.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any


class EndedFromInside(Exception):
    """A task that should last ended in a cancellation that nobody asked for. A bug."""


async def lasting(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` as its task's whole job. It may return, or be cancelled through the task; raises
    EndedFromInside if a cancellation comes out of it that the task was not asked for."""
    try:
        await work
    except asyncio.CancelledError:
        task = asyncio.current_task()
        assert task is not None
        if task.cancelling() == 0:
            raise EndedFromInside(f"{work} was cancelled by nobody") from None
        raise
