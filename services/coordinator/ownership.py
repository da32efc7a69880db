"""A coordinator as the owner of partitions: each claim takes effect in the log store.

Knows the log store's claims and what a coordinator holds; must not know how partitions are divided
nor claimed in etcd: that is `services.chassis.ownership`. A coordinator that cannot reach the store
gives way, as long as there are others, until the store answers it again: they would leave to it
what only they can serve.

Drive it: `run(address)` until cancelled; at the end `settle()`, then `leave()`. `on_ready` hears
whether this member holds everything that it should.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping

from services.chassis import ownership
from services.chassis.cluster import Directory, Keys
from services.chassis.errors import Unavailable
from services.chassis.etcd import Etcd, Lease, boottime
from services.chassis.ownership import Member, Placement
from services.coordinator.committer import Committer
from services.coordinator.holdings import Holdings
from services.coordinator.store import ClaimRefused, LogStore
from services.coordinator.tail_copies import TailCopies

_STORE_SILENT_S = 2.9  # nothing was answered for so long: others may do better


class Ownership:
    """Keeps `holdings` as etcd and the store say."""

    def __init__(
        self,
        *,
        member: Member,
        etcd: Etcd,
        keys: Keys,
        directory: Directory,
        store: LogStore,
        holdings: Holdings,
        committer: Committer,
        on_ready: Callable[[bool], Awaitable[None]],
    ) -> None:
        self._holdings = holdings
        self._committer = committer
        self._tails = TailCopies(etcd, keys, store.log_id, holdings)
        self._among = ownership.Ownership(
            member=member,
            placement=Placement(
                service="coordinator",
                member_key=keys.coordinator,
                owner_key=keys.owner,
                live=lambda: directory.coordinators,
                claims=lambda: directory.claims,
            ),
            etcd=etcd,
            directory=directory,
            holder=_LogOwner(member.name, store, holdings, committer, self._tails),
            on_ready=on_ready,
        )
        holdings.subscribe(lambda partition, tail: None, lambda partition: self._among.wake())

    @property
    def refused(self) -> Mapping[int, str]:
        """Partitions that the store would not have us own, and why."""
        return self._among.refused

    @property
    def store_full(self) -> bool:
        """Whether the last claim found the disk full."""
        return self._among.store_full

    async def run(self, address: str) -> None:
        """Be a member and an owner, again and again, until drained or cancelled."""
        async with asyncio.TaskGroup() as tasks:
            copying = tasks.create_task(self._tails.run())
            await self._among.run(address)
            copying.cancel()

    async def settle(self) -> None:
        """Take nothing new from now on; returns when what was taken has had its effects."""
        self._holdings.draining = True
        self._among.stop()
        await self._committer.settled()

    async def leave(self) -> None:
        """Give the lease back: the member and all that it owns vanish from etcd together."""
        await self._tails.copy()
        await self._among.leave()


class _LogOwner:
    """What owning a partition of the log is: a `services.chassis.ownership.Holder`."""

    def __init__(
        self,
        name: str,
        store: LogStore,
        holdings: Holdings,
        committer: Committer,
        tails: TailCopies,
    ) -> None:
        self._name = name
        self._store = store
        self._holdings = holdings
        self._committer = committer
        self._tails = tails

    async def begin(self, lease: Lease) -> None:
        if self._holdings.unanswered_since is not None:
            await self._store.read_tails([0])
            self._holdings.note_answer()
        self._holdings.begin(lease)
        self._tails.forget()

    def held(self) -> Mapping[int, int]:
        return self._holdings.epochs()

    async def take_up(self, claims: Mapping[int, int]) -> Mapping[int, str]:
        self._committer.expect(claims)
        try:
            return await self._claim(claims)
        finally:
            self._committer.admit(claims)

    async def _claim(self, claims: Mapping[int, int]) -> Mapping[int, str]:
        tails = await self._tails.read(claims)
        asked_at = boottime()
        try:
            outcomes = await self._store.claim(claims, self._name, tails)
        except Unavailable:
            self._holdings.note_no_answer(asked_at)
            raise
        self._holdings.note_answer()
        refused: dict[int, str] = {}
        if not self._holdings.valid:
            return refused
        for partition, outcome in outcomes.items():
            if isinstance(outcome, ClaimRefused):
                refused[partition] = outcome.reason
            else:
                self._holdings.take(partition, claims[partition], outcome.tail)
        return refused

    def drop(self, partitions: Collection[int]) -> None:
        for partition in partitions:
            self._holdings.drop(partition)

    async def release(self, partitions: Collection[int]) -> None:
        self.drop(partitions)
        # What still waits for a commit will be turned away.
        await self._committer.committed()

    async def ended(self) -> None:
        self._holdings.drop_all()

    def gives_way(self) -> bool:
        since = self._holdings.unanswered_since
        return since is not None and boottime() - since >= _STORE_SILENT_S
