"""Tells who is there: on a subject, or of one user; once, or whenever it may have changed.

A watch is woken by commits of this process that touch its user, or for a subject by any that touch
users, and looks by itself now and then, since other replicas commit too. All watches together take
a small part of the store's time at most: each look is paid for by a pause, one after the other. To
drive it: `presence(question)`, or `async for … in watch(question)`; `end()` ends all watches.
"""

import asyncio
import time
from collections.abc import AsyncGenerator

from onward.presence.v1 import presence_pb2 as pb

from services.chassis.errors import Unavailable
from services.presence import metrics
from services.presence.followers import Followers, TooManyReads
from services.presence.state import Register, Standing, UserState
from services.presence.store import Store, Touched, Transaction
from services.presence.stories import TooManyWatches
from services.presence.user_data import Follower
from services.presence.wishes import timestamp

_LIMIT_DEFAULT, _LIMIT_MAX = 100, 1_000
# What changes sooner after what was told last is told with it.
_TOGETHER_S = 0.5
# Looked at again after this long even if nothing woke it.
_LOOK_EVERY_S = 2.0
# All watches together take this part of the store's time at most, after the first look of each.
WATCH_SHARE = 0.1


class _Watch:
    """One watcher, and what wakes it. `user` empty: a subject is watched."""

    __slots__ = ("changed", "user")

    def __init__(self, user: str) -> None:
        self.user = user
        self.changed = asyncio.Event()


class Audience:
    """Tells presence, to `watches_max` watchers at a time."""

    def __init__(self, store: Store, watches_max: int) -> None:
        self._store = store
        self._watches_max = watches_max
        self._watches: set[_Watch] = set()
        self._followers = Followers(store)
        # Until when the looks of all watches so far are paid for.
        self._paid_at = 0.0
        self._ended = False
        store.on_commit(self._touched)

    async def presence(self, question: pb.GetPresenceRequest) -> pb.GetPresenceResponse:
        """How it is now. Raises Unavailable and TooManyReads."""
        response, _ = await self._look(question)
        return response

    async def watch(
        self, question: pb.GetPresenceRequest
    ) -> AsyncGenerator[pb.GetPresenceResponse, None]:
        """How it is now, and after each change. Raises as `presence` at first, and
        TooManyWatches."""
        if len(self._watches) >= self._watches_max:
            raise TooManyWatches(f"{self._watches_max} watch who is there; try again later")
        clock = asyncio.get_running_loop()
        watch = _Watch(question.user)
        self._watches.add(watch)
        metrics.presence_watches.set(len(self._watches))
        told: pb.GetPresenceResponse | None = None
        try:
            while not self._ended:
                watch.changed.clear()
                cost_s = 0.0
                try:
                    now, cost_s = await self._look(question)
                except (Unavailable, TooManyReads):
                    # It cannot be read now: whoever began to watch goes on watching.
                    if told is None:
                        raise
                    now = told
                # A first look is what any question is.
                pause_s = self._pause(clock.time(), cost_s if told is not None else 0.0)
                if now != told:
                    told = now
                    yield now
                await _changed(watch, pause_s)
        finally:
            self._watches.discard(watch)
            metrics.presence_watches.set(len(self._watches))

    def end(self) -> None:
        """No more watches; those there are end soon."""
        self._ended = True
        self._followers.end()
        for watch in self._watches:
            watch.changed.set()

    def _touched(self, touched: Touched) -> None:
        for watch in self._watches:
            if watch.user in touched.users if watch.user else touched.users:
                watch.changed.set()

    def _pause(self, now: float, cost_s: float) -> float:
        """How long a watch waits at least after a look of this cost."""
        self._paid_at = max(self._paid_at, now) + cost_s / WATCH_SHARE
        return max(_TOGETHER_S, self._paid_at - now if cost_s else 0.0)

    # -- what is read -------------------------------------------------------------------------

    async def _look(self, question: pb.GetPresenceRequest) -> tuple[pb.GetPresenceResponse, float]:
        """How it is now, and for how long that has held the store's thread."""
        if question.WhichOneof("of") == "user":
            return await self._of_user(question.user)
        limit = min(question.limit or _LIMIT_DEFAULT, _LIMIT_MAX)
        subject = question.subject
        page, page_s = await self._followers.page(subject, question.after_user, limit)
        counts, counts_s = await self._followers.counted(subject)
        response = pb.GetPresenceResponse(
            clients=[_follower(one) for one in page.clients],
            present=counts.present,
            absent=counts.absent,
            more=counts.more,
            next_after_user=page.next_after_user,
        )
        return response, page_s + counts_s

    async def _of_user(self, user: str) -> tuple[pb.GetPresenceResponse, float]:
        # Of no subject: registers are what matters.
        def read(tx: Transaction) -> tuple[UserState, float]:
            began = time.perf_counter()
            return tx.load_user(user, ""), time.perf_counter() - began

        state, took = await self._store.read(read)
        registers = [state.registers[client_id] for client_id in sorted(state.registers)]
        gone = [one.since for one in registers if one.standing is Standing.OFFLINE]
        away = bool(registers) and len(gone) == len(registers)
        response = pb.GetPresenceResponse(
            clients=[_client(user, one) for one in registers],
            last_seen=timestamp(max(gone)) if away else None,
        )
        return response, took


def _client(user: str, register: Register) -> pb.PresentClient:
    return pb.PresentClient(
        user=user,
        client_id=register.client_id,
        state=register.standing.value,
        active=register.active,
        away=register.away,
        since=timestamp(register.since),
    )


def _follower(one: Follower) -> pb.PresentClient:
    return pb.PresentClient(
        user=one.user,
        client_id=one.client_id,
        state=one.standing,
        active=one.active,
        away=one.away,
        since=timestamp(one.since),
    )


async def _changed(watch: _Watch, pause_s: float) -> None:
    """Wait until it may have changed, and a little for what comes with the change."""
    await asyncio.sleep(pause_s)
    try:
        async with asyncio.timeout(max(0.0, _LOOK_EVERY_S - pause_s)):
            await watch.changed.wait()
    except TimeoutError:
        pass
