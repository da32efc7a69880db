"""A delivery under way in a plugin's process: begun or not, waited for or not, and its answer.

Knows time and results. Must not know channels, calls or how anything is sent. To drive it:
`run(work)`, in which `is_late()` and then `begin(…)` come before the send; the call waits for
`told`, then `give_up_waiting()`, and answers with `result()`.
"""

import asyncio
import math
from collections.abc import Coroutine
from typing import Any

from onward.notifier.v1 import notifier_pb2
from prometheus_client import Counter

from services.notifier import results

Result = notifier_pb2.Result

# No send begins with less than this left until the answer; of a short call, a part of its time.
BEGIN_MARGIN_S = 1.0
_BEGIN_MARGIN_PART = 0.1
# A send that lingers is asked about again no sooner than this; later, the longer it takes: after
# so many times its age, since asking counts as a try, and one of ten minutes has eight.
ASK_AGAIN_S = 2.0
ASK_AGAIN_AGES = 1.5
LATE = "its turn did not come within the deadline"
STOPPING = "the process is being stopped"

_lingering = Counter(
    "onward_notifier_lingering", "Sends that took longer than a call waits for one.", ["channel"]
)


class Sending:
    """One delivery id under way, and whether its plugin has been called."""

    __slots__ = ("_began_at", "_timer", "begin_by", "begun", "task", "told", "undone", "untold")

    task: asyncio.Task[Result]

    def __init__(self, begin_by: float) -> None:
        self.begun = False
        # When it is too late to begin, by the loop's clock.
        self.begin_by = begin_by
        # Why it is not begun any more; empty: it may be.
        self.undone = ""
        # Somebody was answered, or went away, before there was a result.
        self.untold = False
        # There is something to answer with: a result, or that it lingers.
        self.told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._began_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def run(self, work: Coroutine[Any, Any, Result]) -> None:
        """What is done for it; its result is this one's."""
        self.task = asyncio.create_task(work)
        self.task.add_done_callback(self.tell)

    def begin(self, linger_s: float | None, channel: str) -> None:
        """Its plugin is called now, and waited for so long; None: until there is a result."""
        self.begun = True
        loop = asyncio.get_running_loop()
        self._began_at = loop.time()
        if linger_s is not None:
            self._timer = loop.call_later(linger_s, self._linger, channel)

    def is_late(self) -> bool:
        """Whether nobody could hear in time of what a send came to that begins now."""
        return asyncio.get_running_loop().time() > self.begin_by

    def leave_undone(self) -> None:
        """The process stops: do not begin."""
        if not self.begun:
            self.undone = STOPPING
            self.task.cancel()

    def give_up_waiting(self) -> None:
        """Nobody waits any more: do not begin; but let what has begun reach its end."""
        if not self.begun:
            self.task.cancel()
        self.untold = not self.task.done()

    def result(self) -> Result:
        """What is answered for it now."""
        if self.task.done() and not self.task.cancelled():
            return self.task.result()
        if not self.begun:
            return results.not_begun(self.undone or LATE)
        result = results.unknown("still being sent")
        age_s = asyncio.get_running_loop().time() - self._began_at
        result.retry_after.FromMilliseconds(int(1_000 * max(ASK_AGAIN_S, ASK_AGAIN_AGES * age_s)))
        return result

    def _linger(self, channel: str) -> None:
        if not self.told.done():
            _lingering.labels(channel).inc()
            self.told.set_result(None)

    def tell(self, _: object = None) -> None:
        """Have whoever waits be answered with what there is."""
        if self._timer is not None:
            self._timer.cancel()
        if not self.told.done():
            self.told.set_result(None)


def begin_by_of(wait_s: float | None) -> float:
    """Until when, by the loop's clock, what is answered in `wait_s` may begin."""
    if wait_s is None:
        return math.inf
    margin_s = min(BEGIN_MARGIN_S, wait_s * _BEGIN_MARGIN_PART)
    return asyncio.get_running_loop().time() + wait_s - margin_s
