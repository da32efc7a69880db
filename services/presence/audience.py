"""Tells who is there: on a subject, or of one user; once, or whenever it may have changed.

Followers of a subject are read in pages, so that other work comes in between, and up to a bound. A
watch is woken by commits of this process that touch its user, or for a subject by any that touch
users, and looks by itself now and then, since other replicas commit too; how often depends on what
a look costs. To drive it: `presence(question)`, or `async for … in watch(question)`; `end()` ends
all watches.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from functools import partial

from onward.presence.v1 import presence_pb2 as pb

from services.chassis.errors import Unavailable
from services.presence import metrics
from services.presence.state import BACKEND, Register, Standing
from services.presence.store import Store, Touched, Transaction
from services.presence.stories import TooManyWatches
from services.presence.user_data import Follower
from services.presence.wishes import timestamp

_LIMIT_DEFAULT, _LIMIT_MAX = 100, 1_000
COUNTED_MAX = 100_000
_PAGE = 5_000
# Above every client id.
_LAST_CLIENT = chr(0x10FFFF)
# What changes sooner after what was told last is told with it.
_TOGETHER_S = 0.5
# Looked at again after this long even if nothing woke it.
_LOOK_EVERY_S = 2.0
# A watch of a large subject takes this part of the store's time at most.
_SHARE = 0.05


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
        self._ended = False
        store.on_commit(self._touched)

    async def presence(self, question: pb.GetPresenceRequest) -> pb.GetPresenceResponse:
        """How it is now. Raises Unavailable."""
        if question.WhichOneof("of") == "user":
            return await self._of_user(question.user)
        limit = min(question.limit or _LIMIT_DEFAULT, _LIMIT_MAX)
        return await self._of_subject(question.subject, question.after_user, limit)

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
                began = clock.time()
                try:
                    now = await self.presence(question)
                except Unavailable:
                    # The store does not answer now: whoever began to watch goes on watching.
                    if told is None:
                        raise
                    now = told
                took = clock.time() - began
                if now != told:
                    told = now
                    yield now
                await _changed(watch, max(_TOGETHER_S, took / _SHARE))
        finally:
            self._watches.discard(watch)
            metrics.presence_watches.set(len(self._watches))

    def end(self) -> None:
        """No more watches; those there are end soon."""
        self._ended = True
        for watch in self._watches:
            watch.changed.set()

    def _touched(self, touched: Touched) -> None:
        for watch in self._watches:
            if watch.user in touched.users if watch.user else touched.users:
                watch.changed.set()

    # -- what is read -------------------------------------------------------------------------

    async def _of_user(self, user: str) -> pb.GetPresenceResponse:
        # Of no subject: registers are what matters.
        state = await self._store.read(lambda tx: tx.load_user(user, ""))
        registers = [state.registers[client_id] for client_id in sorted(state.registers)]
        gone = [one.since for one in registers if one.standing is Standing.OFFLINE]
        away = bool(registers) and len(gone) == len(registers)
        return pb.GetPresenceResponse(
            clients=[_client(user, one) for one in registers],
            last_seen=timestamp(max(gone)) if away else None,
        )

    async def _of_subject(
        self, subject: str, after_user: str, limit: int
    ) -> pb.GetPresenceResponse:
        response = pb.GetPresenceResponse()
        async for rows in self._followers(subject, ("", "")):
            there = sum(_is_there(one) for one in rows)
            response.present += there
            response.absent += sum(one.client_id != BACKEND for one in rows) - there
        clients: list[Follower] = []
        scanned: Sequence[Follower] = ()
        after = (after_user, _LAST_CLIENT if after_user else "")
        async for scanned in self._followers(subject, after):
            for one in filter(_is_there, scanned):
                if len(clients) >= limit and one.user != clients[-1].user:
                    response.next_after_user = clients[-1].user
                    response.clients.extend(map(_follower, clients))
                    return response
                clients.append(one)
        if len(scanned) == _PAGE:
            # There are more than one call reads. The last user may have been cut.
            cut = scanned[-1].user
            clients = [one for one in clients if one.user != cut]
            response.next_after_user = max(one.user for one in scanned if one.user != cut)
        response.clients.extend(map(_follower, clients))
        return response

    async def _followers(
        self, subject: str, after: tuple[str, str]
    ) -> AsyncIterator[Sequence[Follower]]:
        """Follows of the subject, page by page, up to the bound."""
        for _ in range(COUNTED_MAX // _PAGE):
            rows = await self._store.read(partial(_read_page, subject=subject, after=after))
            yield rows
            if len(rows) < _PAGE:
                return
            after = (rows[-1].user, rows[-1].client_id)


def _read_page(tx: Transaction, subject: str, after: tuple[str, str]) -> Sequence[Follower]:
    return tx.followers(subject, after, _PAGE)


def _is_there(one: Follower) -> bool:
    return one.client_id != BACKEND and one.standing != Standing.OFFLINE.value


def _client(user: str, register: Register) -> pb.PresentClient:
    return pb.PresentClient(
        user=user,
        client_id=register.client_id,
        state=register.standing.value,
        active=register.active,
        since=timestamp(register.since),
    )


def _follower(one: Follower) -> pb.PresentClient:
    return pb.PresentClient(
        user=one.user,
        client_id=one.client_id,
        state=one.standing,
        active=one.active,
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
