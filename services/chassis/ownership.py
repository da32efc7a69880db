"""Makes this process a member of its service, and the owner of its share of the partitions.

Knows the order of joining, claiming, taking effect and giving up, and etcd's part in it; must not
know which keys those are, nor what is done with a partition: that is the holder's. The rules of who
takes what stand in `services.chassis.rendezvous`. A claim is a key on this member's lease; it means
nothing before the holder's store has taken its epoch. What the store turns down is told in the log
and waits for an operator: the key is removed and the claim tried again later.

A process whose name was taken by another ends with a StartError. One whose holder would rather
leave everything to others, if there are any, ceases to be a member until it is able again.

Drive it: `run(address)` until cancelled; at the end `stop()`, let the holder finish what it has
taken, then `leave()`. `on_ready` hears whether this member holds everything that it should.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.chassis import logs, rendezvous
from services.chassis.cluster import Directory, DirectoryChange, take_name
from services.chassis.errors import StartError, StoreFull, Unavailable
from services.chassis.etcd import Etcd, Lease, boottime
from services.chassis.owner_keys import OwnerKeys
from services.chassis.rendezvous import Claim, Drop, Release, Scene, Step, TakeUp

log = logs.get(__name__)

_TICK_S = 1.0
_REFUSED_PAUSE_S = 10.0
_FAULT_PAUSE_S = 1.0
_REJOIN_PAUSE_S = 0.2
# Partitions that are given up at a time, when others should have them. Each stands still from then
# until another has taken it, so: few enough for that to take no longer than it does for one.
GIVEN_UP_MAX = 16
# Nothing is given up to a member before it has been there for so long: by then whoever sends to it
# has a connection, which takes longer than a hand-over does.
FRESH_S = 0.5
# What was given up is waited for so long at most: one that cannot take its share must not keep the
# others from theirs.
_TAKEN_S = 2.0


@dataclass(frozen=True, slots=True)
class Member:
    """Who this process is."""

    name: str
    era: int
    lease_ttl_s: int


@dataclass(frozen=True, slots=True)
class Placement:
    """Between which members the partitions are divided, and under which keys."""

    service: str  # as in the names of its settings, in lower case: "coordinator"
    member_key: Callable[[str], str]  # of a name
    owner_key: Callable[[int], str]  # of a partition
    live: Callable[[], Collection[str]]  # names of the members that the directory shows
    claims: Callable[[], Mapping[int, tuple[int, str]]]  # partition: epoch and name, as it shows


class Holder(Protocol):
    """What a service does as an owner. Only one of its coroutines runs at a time."""

    async def begin(self, lease: Lease) -> None:
        """A membership is about to begin: whatever is taken up from now on is held under this
        lease, and nothing is held. Called before others see this member, and again with another
        lease if that fails. Raises Unavailable or StoreFull as long as nothing could be taken up.
        """

    def held(self) -> Mapping[int, int]:
        """The partitions whose epoch has taken effect, and stands as far as is known."""

    async def take_up(self, claims: Mapping[int, int]) -> Mapping[int, str]:
        """Make these epochs (by partition) take effect in the store, and hold the partitions, if
        the lease is then still valid. Returns those that were refused, each with the reason.
        Raises Unavailable or StoreFull: none is held, whatever the store has done.
        """

    def drop(self, partitions: Collection[int]) -> None:
        """They are lost: accept nothing more for them. The store need not be told."""

    async def release(self, partitions: Collection[int]) -> None:
        """Accept nothing more for them, and finish what is under way. Their keys are removed when
        this returns, and another takes them. If it raises Unavailable it is tried again."""

    async def ended(self) -> None:
        """The membership has ended: nothing is held any more."""

    def gives_way(self) -> bool:
        """Whether others, if there are any, should rather have everything."""


class Ownership:
    """Keeps what the holder holds as etcd and the store say."""

    def __init__(
        self,
        *,
        member: Member,
        placement: Placement,
        etcd: Etcd,
        directory: Directory,
        holder: Holder,
        on_ready: Callable[[bool], Awaitable[None]],
    ) -> None:
        self._member = member
        self._keys = OwnerKeys(etcd, placement.owner_key, member.name, member.era)
        self._placement = placement
        self._etcd = etcd
        self._directory = directory
        self._holder = holder
        self._on_ready = on_ready
        self._stopping = False
        self._lease: Lease | None = None
        # Leases that may hold our name: the one we joined with, and those granted since, whose
        # joining may have happened though its answer was lost.
        self._leases: set[int] = set()
        self._joined_at = 0  # revision of our member key
        self._tried: dict[int, int] = {}  # partition: newest epoch that the holder was given
        self._not_before: dict[int, float] = {}  # partition: boottime of the next claim
        self._appeared: dict[str, float] = {}  # member: boottime
        # Partition: epoch of the key that we removed, and when (boottime).
        self._given: dict[int, tuple[int, float]] = {}
        self.refused: dict[int, str] = {}  # partition: why the store would not have us own it
        self.store_full = False  # the last claim found the disk full
        self._wake = asyncio.Event()
        directory.on_change(self._changed)

    def _changed(self, change: DirectoryChange) -> None:
        now, live = boottime(), self._placement.live()
        self._appeared = {name: self._appeared.get(name, now) for name in live}
        self._wake.set()

    def wake(self) -> None:
        """Look again what is to be done: the holder holds less than it did."""
        self._wake.set()

    async def run(self, address: str) -> None:
        """Be a member and an owner, again and again, until stopped or cancelled."""
        while not self._stopping:
            try:
                lease = await self._join(address)
            except (StoreFull, Unavailable) as fault:
                log.warning("join_failed", fault=str(fault))
                await asyncio.sleep(_REJOIN_PAUSE_S)
                continue
            log.info("joined", name=self._member.name, lease=lease.id)
            async with asyncio.TaskGroup() as tasks:
                keeper = tasks.create_task(lease.keep())
                keeper.add_done_callback(lambda _: self._wake.set())
                await self._own(lease)
            await self._holder.ended()
            await self._on_ready(False)
            log.info("lease_ended", lease=lease.id, draining=self._stopping)

    def stop(self) -> None:
        """Claim nothing and give nothing up from now on; `run` ends when the lease does."""
        self._stopping = True

    async def leave(self) -> None:
        """Give the lease back: the member and all that it owns vanish from etcd together."""
        if self._lease is not None and self._lease.valid():
            await _give_back(self._lease)

    async def _join(self, address: str) -> Lease:
        service, key = self._placement.service, self._placement.member_key(self._member.name)
        present = await self._etcd.get(key)
        if self._lease is not None and present and present.lease not in self._leases:
            # Not our own corpse: two under one name would end each other for ever.
            raise StartError(
                f"another {service} has started under the name {self._member.name}; "
                f"set ONWARD_{service.upper()}_NAME to a name of its own"
            )
        lease = await Lease.grant(self._etcd, self._member.lease_ttl_s)
        try:
            await self._holder.begin(lease)
        except (StoreFull, Unavailable):
            await _give_back(lease)
            raise
        self._leases.add(lease.id)
        await take_name(self._etcd, key, address, lease)
        found = await self._etcd.get(key)
        if found is None or found.lease != lease.id:
            raise Unavailable("another process has joined under this name")
        self._joined_at = found.mod_revision
        self._lease, self._leases = lease, {lease.id}
        return lease

    async def _own(self, lease: Lease) -> None:
        ready = False
        while lease.valid():
            self._wake.clear()
            if self._holder.gives_way() and set(self._placement.live()) - {self._member.name}:
                log.error("partitions_left_to_others", name=self._member.name)
                await _give_back(lease)
                return
            # Before the directory shows our own name, it may show what another life of ours held.
            if self._directory.revision >= self._joined_at and not self._stopping:
                scene = self._scene()
                steps = rendezvous.decide(scene, GIVEN_UP_MAX)
                for step in steps:
                    await self._carry_out(step, lease)
                if not ready and not steps and scene.held and rendezvous.has_its_share(scene):
                    ready = True
                    await self._on_ready(True)
            await self._pause()

    def _scene(self) -> Scene:
        now = boottime()
        return Scene(
            me=self._member.name,
            live=list(self._placement.live()),
            partitions=self._directory.partitions,
            claims=self._placement.claims(),
            held=self._holder.held(),
            spent=self._tried,
            waiting=[p for p, at in self._not_before.items() if at > now],
            fresh=[name for name, at in self._appeared.items() if now - at < FRESH_S],
            given={p: epoch for p, (epoch, at) in self._given.items() if now - at < _TAKEN_S},
            revision=self._directory.revision,
        )

    async def _carry_out(self, step: Step, lease: Lease) -> None:
        try:
            match step:
                case Drop(partitions):
                    for partition in partitions:
                        log.warning("partition_lost", partition=partition)
                    self._holder.drop(partitions)
                case TakeUp(claims):
                    await self._take_up(dict(claims), lease)
                case Claim(partitions):
                    await self._claim(partitions, lease)
                case Release(partitions):
                    await self._release(partitions)
        except Unavailable as fault:
            log.warning("ownership_delayed", fault=str(fault))

    async def _claim(self, partitions: Sequence[int], lease: Lease) -> None:
        if claims := await self._keys.create(partitions, lease):
            await self._take_up(claims, lease)

    async def _take_up(self, claims: Mapping[int, int], lease: Lease) -> None:
        self._tried.update(claims)
        try:
            refused = await self._holder.take_up(claims)
        except (StoreFull, Unavailable) as fault:
            self.store_full = isinstance(fault, StoreFull)
            log.error("claim_failed", fault=str(fault), partitions=len(claims))
            self._put_off(claims, _FAULT_PAUSE_S)
            return
        self.store_full = False
        if not lease.valid():
            return
        for partition in claims:
            self.refused.pop(partition, None)
        for partition, reason in refused.items():
            log.error("claim_refused", partition=partition, reason=reason)
            self.refused[partition] = reason
        self._put_off(refused, _REFUSED_PAUSE_S)
        log.info("partitions_taken", held=len(self._holder.held()))

    def _put_off(self, partitions: Collection[int], pause_s: float) -> None:
        for partition in partitions:
            self._not_before[partition] = boottime() + pause_s
        if partitions:
            self._wake.set()  # The keys of the spent epochs must go.

    async def _release(self, partitions: Sequence[int]) -> None:
        await self._holder.release(partitions)
        mine: dict[int, int] = {}
        for partition in partitions:
            epoch, name = self._placement.claims().get(partition, (0, ""))
            if name == self._member.name:
                mine[partition] = epoch
        removed = await self._keys.remove(mine)
        now = boottime()
        self._given.update({p: (mine[p], now) for p in removed})
        log.info("partitions_released", partitions=len(removed), held=len(self._holder.held()))

    async def _pause(self) -> None:
        """Until something has changed, or may have, or is to be done by time."""
        now = boottime()
        fresh = [at + FRESH_S - now for at in self._appeared.values() if at + FRESH_S > now]
        try:
            async with asyncio.timeout(min(fresh, default=_TICK_S)):
                await self._wake.wait()
        except TimeoutError:
            pass


async def _give_back(lease: Lease) -> None:
    try:
        await lease.revoke()
    except Unavailable as fault:
        log.warning("leaving_unsaid", fault=str(fault))
