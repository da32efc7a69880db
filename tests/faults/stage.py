"""Where a run takes place: the whole suite, people who use it, faults, and the end of it.

A plot decides who does what when, and what breaks. Around it the stage has everybody live, notes
what is told, and, when the plot is over, lets everybody who stays return and come to rest, and asks
what became of everything. Every wait has a deadline; one that is missed is written down as `stuck`.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from tests.faults.client import Client
from tests.faults.history import History
from tests.faults.post import Post
from tests.faults.publisher import Publisher
from tests.faults.teller import GIVEN_UP_S, Teller
from tests.path.mailbox import SOON_AGAIN
from tests.path.stack import QUICK, Suite, ended

SERVICES = ("etcd", "coordinator", "edge", "presence", "notifier")
# Times short enough that much happens in a run; every one is a setting that an operator has too.
SETTINGS = QUICK | {
    "ONWARD_LEASE_TTL_S": "3",
    "ONWARD_PRESENCE_GRACE_DEAD_EDGE_S": "2.5",
    "ONWARD_PRESENCE_COLLAPSE_S": "1",
    "ONWARD_PRESENCE_HOLD_CHECK_S": "0.3",
    "ONWARD_PRESENCE_RETRY_FIRST_S": "0.5",
    "ONWARD_PRESENCE_BREAKER_FIRST_S": "0.3",
    "ONWARD_PRESENCE_BREAKER_LONGEST_S": "1",
    "ONWARD_PRESENCE_SWEEP_EVERY_S": "2",
    "ONWARD_EDGE_ROUND_S": "0.5",
    "ONWARD_EDGE_PONG_S": "2",
    "ONWARD_EDGE_CLOSE_S": "1",
    "ONWARD_EDGE_UNACKNOWLEDGED_S": "4",
}
_BACK_S = 40.0  # for a killed process to be there again, and to work


class Stage:
    """The suite and its people.

    `told_limit`: messages that explain is asked about in between; `patience_s`: how long people may
    take to come to rest, and what is due to be decided.
    """

    def __init__(
        self,
        suite: Suite,
        post: Post,
        history: History,
        clients: Sequence[Client],
        publishers: Sequence[Publisher],
        told_limit: int = 1_000,
        patience_s: float = GIVEN_UP_S,
    ) -> None:
        self.suite, self.history = suite, history
        self.clients, self.publishers = list(clients), list(publishers)
        subjects = {s: None for client in clients for s in client.following}
        self.subjects = list(subjects | {s: None for one in publishers for s in one.subjects})
        places = {(one.user, subject): None for one in clients for subject in one.following}
        self.teller = Teller(suite.url, history, post, list(places))
        self._told_limit, self._patience_s = told_limit, patience_s

    async def run(self, plot: Callable[[], Awaitable[None]]) -> None:
        """Play the plot, settle, tell."""
        loop = asyncio.get_running_loop()
        people = [loop.create_task(one.live()) for one in [*self.clients, *self.publishers]]
        watch = loop.create_task(self.teller.watch(self._told_limit))
        try:
            await plot()
            self.history.write("settled_down", what="the plot is over")
            await self._settle()
            watch.cancel()
            if not await self.teller.everything(self.subjects, self._patience_s):
                self.history.write("stuck", what="nothing is pending")
            for task in people:
                assert not task.done() or task.cancelled(), task
        finally:
            await _ended([*people, watch])

    async def wait(
        self, condition: Callable[[], bool], what: str, deadline_s: float | None = None
    ) -> bool:
        """Wait for a condition; a missed deadline is written down. True: it came to be."""
        end = asyncio.get_running_loop().time() + (deadline_s or self._patience_s)
        while not condition():
            if asyncio.get_running_loop().time() > end:
                self.history.write("stuck", what=what)
                return False
            await asyncio.sleep(0.02)
        return True

    # -- faults -------------------------------------------------------------------------------

    def signal(self, service: str, number: signal.Signals) -> int | None:
        """Send a signal to the process that runs a service; None: it is being started again."""
        try:
            pid = self.suite.child(service)
            # Before it is done: whatever follows from it stands behind it in the history.
            self.history.write("fault", service=service, fault=number.name)
            os.kill(pid, number)
        except (AssertionError, OSError):
            return None
        return pid

    async def kill(self, service: str) -> None:
        """SIGKILL, and wait until the process has been started again."""
        before = self.signal(service, signal.SIGKILL)
        await self.wait(lambda: self._child(service) not in (None, before), f"{service} is back",
                        _BACK_S)  # fmt: skip

    async def freeze(self, service: str, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after some seconds."""
        pid = self.signal(service, signal.SIGSTOP)
        if pid is None:
            return
        await asyncio.sleep(seconds)
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            pass  # it was killed meanwhile
        self.history.write("fault", service=service, fault="SIGCONT")

    async def accepting(self) -> None:
        """Wait until something that is published now has been accepted."""
        asked = [(one, one.published) for one in self.publishers]
        await self.wait(
            lambda: any(one.answered > before for one, before in asked),
            "publishes are accepted again", _BACK_S,
        )  # fmt: skip

    def _child(self, service: str) -> int | None:
        try:
            return self.suite.child(service)
        except (AssertionError, OSError):
            return None

    # -- the end ------------------------------------------------------------------------------

    async def _settle(self) -> None:
        """Everybody who stays returns, reads and acknowledges."""
        await self.wait(lambda: all(one.done for one in self.publishers), "publishes answered")
        staying = [one for one in self.clients if not one.gone]
        for client in staying:
            client.thaw()
            client.mute = False
            client.come()
        heads = await self.teller.heads(self.subjects)
        await self.wait(
            lambda: all(
                one.settled() and all(one.positions[s] == heads[s] for s in one.following)
                for one in staying
            ),
            "who stays has everything",
        )
        for client in staying:
            for subject in client.following:
                self.history.write(
                    "settled", user=client.user, client=client.client, subject=subject,
                    seq=client.positions[subject],
                )  # fmt: skip


async def _ended(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel tasks until they have ended: `wait_for` of Python 3.11 may swallow a cancellation."""
    while left := [task for task in tasks if not task.done()]:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=1.0)
    await asyncio.gather(*tasks, return_exceptions=True)


class Theatre:
    """Starts the suite for a run, and again after the whole of it was killed."""

    def __init__(
        self, folder: Path, post: Post, settings: dict[str, str], tree: Path | None = None
    ) -> None:
        self._data = folder / "data"
        self._settings = SETTINGS | settings | post.settings | SOON_AGAIN
        self._tree = tree
        self.suite = Suite(self._data, self._settings, tree=tree)

    def again(self) -> Suite:
        """The same suite on the same data and port, as after the power was lost."""
        self.suite.kill_everything()
        self.suite = Suite(self._data, self._settings, self.suite.port, self._tree)
        return self.suite

    def close(self) -> None:
        """End what runs."""
        with ended(self.suite):
            pass
