"""Reads who follows a subject and is there, for all who ask, and leaves the store to others.

Whoever may subscribe to a subject may ask, as often as they like, and a subject may have very many
followers. So:
- The store is read in slices, one at a time for all askers together, and after each is left alone
  for as long as that took. What else there is to do comes in between.
- A question that is being answered is answered once, for all who ask it meanwhile.
- Followers are counted up to a bound. Counts that took more than one slice are kept for a moment.
- A page is read as far as it goes, and up to a bound; the next one goes on there.
- So many different questions at a time, and no more.

Knows the store. Must not know the contract, nor who asks. To drive it: `counted` and `page`, which
raise TooManyReads and Unavailable, and tell what they cost; `end()` when the process ends.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar, cast

import grpc

from services.chassis.errors import Fault, Unavailable
from services.presence import metrics
from services.presence.store import Store, Transaction
from services.presence.user_data import Follower

T = TypeVar("T")

# Followers of a subject that are counted; there may be more.
COUNTED_MAX = 10_000
# Followers that one call for a page looks at, if few of them are there.
LOOKED_AT_MAX = 10_000
# How long counts are told again that took more than one slice.
COUNTS_KEPT_S = 3.0
# Of so many subjects.
_COUNTS_KEPT_MAX = 1_000
# Rows in one slice: each takes some milliseconds of the store's only thread. Counting is cheaper,
# as no row leaves the store.
_COUNT_SLICE, _PAGE_SLICE = 2_000, 500
# Different questions under way; more are refused.
READS_MAX = 16
# Above every client id.
_LAST_CLIENT = chr(0x10FFFF)


class TooManyReads(Fault):
    """As many subjects are being read as may be."""

    status = grpc.StatusCode.RESOURCE_EXHAUSTED


@dataclass(frozen=True, slots=True)
class Counts:
    """Clients that follow a subject: those that are there, and those that are not."""

    present: int
    absent: int
    # There are more followers, which were not counted.
    more: bool


@dataclass(frozen=True, slots=True)
class Page:
    """Clients that follow a subject and are there, of whole users, and the user to go on behind;
    empty: that was all."""

    clients: Sequence[Follower]
    next_after_user: str


class Followers:
    """Reads followers. All within one event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._turn = asyncio.Lock()
        self._rests_until = 0.0
        # By question: its answer, and for how long it has held the store's thread.
        self._under_way: dict[Hashable, asyncio.Task[tuple[Any, float]]] = {}
        # By subject, oldest first: until when, and what.
        self._kept: dict[str, tuple[float, Counts]] = {}
        self._ended = False

    async def counted(self, subject: str) -> tuple[Counts, float]:
        """How many follow it, and the seconds that this has cost the store for this caller."""
        until, counts = self._kept.get(subject, (0.0, None))
        if counts is not None and asyncio.get_running_loop().time() < until:
            return counts, 0.0
        return await self._once(subject, partial(self._count, subject))

    async def page(self, subject: str, after_user: str, limit: int) -> tuple[Page, float]:
        """The next page, of at least `limit` clients if there are so many, and likewise."""
        read = partial(self._page, subject, after_user, limit)
        return await self._once((subject, after_user, limit), read)

    def end(self) -> None:
        """Nothing more is read."""
        self._ended = True

    async def _once(
        self, question: Hashable, read: Callable[[], Coroutine[Any, Any, tuple[T, float]]]
    ) -> tuple[T, float]:
        """The answer that is under way, for nothing, or a new one."""
        task = self._under_way.get(question)
        if task is not None:
            answer, _ = await asyncio.shield(task)
            return cast(T, answer), 0.0
        if len(self._under_way) >= READS_MAX:
            metrics.follower_reads_refused.inc()
            raise TooManyReads("as many subjects are looked at as may be; try again later")
        task = asyncio.create_task(read())
        self._under_way[question] = task
        task.add_done_callback(partial(self._done, question))
        # Others may have come to wait for it when this caller goes away.
        return await asyncio.shield(task)

    def _done(self, question: Hashable, task: asyncio.Task[tuple[Any, float]]) -> None:
        del self._under_way[question]
        if not task.cancelled():
            task.exception()  # Nobody may be there any more to ask for it.

    async def _count(self, subject: str) -> tuple[Counts, float]:
        present = absent = looked_at = 0
        cost_s = 0.0
        last: tuple[str, str] | None = ("", "")
        while last is not None and looked_at < COUNTED_MAX:
            limit = min(_COUNT_SLICE, COUNTED_MAX - looked_at)
            found, took = await self._slice(
                partial(_count_slice, subject=subject, after=last, limit=limit)
            )
            there, gone, last = found
            present, absent, cost_s = present + there, absent + gone, cost_s + took
            looked_at += limit
        if last is not None:
            found, took = await self._slice(
                partial(_count_slice, subject=subject, after=last, limit=1)
            )
            last, cost_s = found[2], cost_s + took
        counts = Counts(present, absent, more=last is not None)
        if looked_at > _COUNT_SLICE:
            self._keep(subject, counts)
        return counts, cost_s

    def _keep(self, subject: str, counts: Counts) -> None:
        self._kept.pop(subject, None)
        while len(self._kept) >= _COUNTS_KEPT_MAX:
            del self._kept[next(iter(self._kept))]
        self._kept[subject] = (asyncio.get_running_loop().time() + COUNTS_KEPT_S, counts)

    async def _page(self, subject: str, after_user: str, limit: int) -> tuple[Page, float]:
        clients: list[Follower] = []
        cost_s, looked_at = 0.0, 0
        after = (after_user, _LAST_CLIENT if after_user else "")
        # One more than is wanted says whether its user goes on.
        size = min(limit + 1, _PAGE_SLICE)
        while True:
            found, took = await self._slice(
                partial(_page_slice, subject=subject, after=after, limit=size)
            )
            there, last = found
            cost_s += took
            for one in there:
                if len(clients) >= limit and one.user != clients[-1].user:
                    return Page(clients, clients[-1].user), cost_s
                if looked_at >= LOOKED_AT_MAX and one.user != after[0]:
                    return Page(clients, after[0]), cost_s
                clients.append(one)
            if last is None:
                return Page(clients, ""), cost_s
            if looked_at >= LOOKED_AT_MAX and last[0] != after[0]:
                # Looked at far enough, and then to the end of the user that it had come to.
                return Page(clients, after[0]), cost_s
            looked_at, after, size = looked_at + size, last, _PAGE_SLICE

    async def _slice(self, work: Callable[[Transaction], T]) -> tuple[T, float]:
        """What the work finds in the store, and how long it has held the store's thread."""
        clock = asyncio.get_running_loop()
        held_s = 0.0

        def timed(tx: Transaction) -> T:
            nonlocal held_s
            began = time.perf_counter()
            try:
                return work(tx)
            finally:
                held_s = time.perf_counter() - began

        async with self._turn:
            await asyncio.sleep(max(0.0, self._rests_until - clock.time()))
            if self._ended:
                raise Unavailable("presence is ending")
            try:
                return await self._store.read(timed), held_s
            finally:
                self._rests_until = clock.time() + held_s


def _count_slice(
    tx: Transaction, subject: str, after: tuple[str, str], limit: int
) -> tuple[int, int, tuple[str, str] | None]:
    return tx.count_followers(subject, after, limit)


def _page_slice(
    tx: Transaction, subject: str, after: tuple[str, str], limit: int
) -> tuple[Sequence[Follower], tuple[str, str] | None]:
    return tx.followers_there(subject, after, limit)
