"""Claims partitions in etcd, makes each claim take effect in the store, gives up what is lost.

Knows etcd's keys and the order of the two writes; must not know what partitions are for. The rules
of who takes what stand in `services.coordinator.rendezvous`. A claim is a key on this member's
lease; it means nothing before the store has taken its epoch. What the store turns down is told in
the log and waits for an operator: the key is removed and the claim tried again later.

A process whose name was taken by another ends with a StartError. One that cannot reach the store
ceases to be a member, as long as others are there, until the store answers it again: they would
leave to it what only they can serve.

Drive it: `run(address)` until cancelled; at the end `settle()`, then `leave()`. `on_ready` hears
whether this member holds everything that it should.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from services.chassis import logs
from services.chassis.cluster import Directory, DirectoryChange, Keys, epoch_of, take_name
from services.chassis.errors import StartError, StoreFull, Unavailable
from services.chassis.etcd import Delete, Etcd, Lease, Put, absent, boottime, created_at
from services.coordinator import rendezvous
from services.coordinator.holdings import Holdings
from services.coordinator.rendezvous import Claim, Drop, Release, Step, TakeUp
from services.coordinator.store import ClaimRefused, LogStore

log = logs.get(__name__)

KEYS_PER_TXN = 64
_TICK_S = 1.0
_REFUSED_PAUSE_S = 10.0
_FAULT_PAUSE_S = 1.0
_TAILS_PERIOD_S = 10.0
_REJOIN_PAUSE_S = 0.2
_STORE_SILENT_S = 2.9  # nothing was answered for so long: others may do better
_REVISION_BITS = (1 << 48) - 1


@dataclass(frozen=True, slots=True)
class Member:
    """Who this process is."""

    name: str
    era: int
    lease_ttl_s: int


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
        settled: Callable[[], Awaitable[None]],
        on_ready: Callable[[bool], Awaitable[None]],
    ) -> None:
        self._member = member
        self._etcd = etcd
        self._keys = keys
        self._directory = directory
        self._store = store
        self._holdings = holdings
        self._settled = settled
        self._on_ready = on_ready
        self._lease: Lease | None = None
        # Leases that may hold our name: the one we joined with, and those granted since, whose
        # joining may have happened though its answer was lost.
        self._leases: set[int] = set()
        self._joined_at = 0  # revision of our member key
        self.refused: dict[int, str] = {}  # partition: why the store would not have us own it
        self.store_full = False  # the last claim found the disk full
        self._not_before: dict[int, float] = {}  # partition: boottime of the next claim
        self._copied: dict[int, int] = {}  # partition: tail last copied to etcd
        self._wake = asyncio.Event()
        directory.on_change(self._changed)
        holdings.subscribe(lambda partition, tail: None, lambda partition: self._wake.set())

    def _changed(self, change: DirectoryChange) -> None:
        self._wake.set()

    async def run(self, address: str) -> None:
        """Be a member and an owner, again and again, until drained or cancelled."""
        while not self._holdings.draining:
            try:
                if self._holdings.unanswered_since is not None:
                    await self._store.read_tails([0])
                    self._holdings.note_answer()
                lease = await self._join(address)
            except Unavailable as fault:
                log.warning("join_failed", fault=str(fault))
                await asyncio.sleep(_REJOIN_PAUSE_S)
                continue
            log.info("joined", name=self._member.name, lease=lease.id)
            async with asyncio.TaskGroup() as tasks:
                keeper = tasks.create_task(lease.keep())
                copier = tasks.create_task(self._copy_tails_for_ever(lease))
                keeper.add_done_callback(lambda _: self._wake.set())
                await self._own(lease)
                copier.cancel()
            self._holdings.drop_all()
            await self._on_ready(False)
            log.info("lease_ended", lease=lease.id, draining=self._holdings.draining)

    async def settle(self) -> None:
        """Take nothing new from now on; returns when what was taken has had its effects."""
        self._holdings.draining = True
        await self._settled()

    async def leave(self) -> None:
        """Give the lease back: the member and all that it owns vanish from etcd together."""
        lease = self._lease
        if lease is None or not lease.valid():
            return
        try:
            await self._copy_tails(lease)
            await lease.revoke()
        except Unavailable as fault:
            log.warning("leaving_unsaid", fault=str(fault))

    async def _join(self, address: str) -> Lease:
        key = self._keys.coordinator(self._member.name)
        present = await self._etcd.get(key)
        if self._lease is not None and present and present.lease not in self._leases:
            # Not our own corpse: two under one name would end each other for ever.
            raise StartError(
                f"another coordinator has started under the name {self._member.name}; "
                "set ONWARD_COORDINATOR_NAME to a name of its own"
            )
        lease = await Lease.grant(self._etcd, self._member.lease_ttl_s)
        self._leases.add(lease.id)
        await take_name(self._etcd, key, address, lease)
        found = await self._etcd.get(key)
        if found is None or found.lease != lease.id:
            raise Unavailable("another process has joined under this name")
        self._joined_at = found.mod_revision
        self._lease, self._leases = lease, {lease.id}
        self._copied.clear()
        self._holdings.begin(lease)
        return lease

    async def _own(self, lease: Lease) -> None:
        ready = False
        while self._holdings.valid and lease is self._lease:
            self._wake.clear()
            if await self._gave_way(lease):
                return
            steps: list[Step] = []
            known = self._directory.revision >= self._joined_at
            if known and not self._holdings.draining:
                steps = self._decide()
                for step in steps:
                    await self._carry_out(step, lease)
            settled = known and not steps and not self._holdings.draining
            if settled and not ready and len(self._holdings):
                ready = True
                await self._on_ready(True)
            await self._pause()

    def _decide(self) -> list[Step]:
        now = boottime()
        directory = self._directory
        return rendezvous.decide(
            rendezvous.Scene(
                me=self._member.name,
                live=list(directory.coordinators),
                partitions=directory.partitions,
                claims=directory.claims,
                held=self._holdings.epochs(),
                spent=self._holdings.spent,
                waiting=[p for p, at in self._not_before.items() if at > now],
                revision=directory.revision,
            ),
            claim_max=KEYS_PER_TXN,
        )

    async def _carry_out(self, step: Step, lease: Lease) -> None:
        try:
            match step:
                case Drop(partitions):
                    for partition in partitions:
                        log.warning("partition_lost", partition=partition)
                        self._holdings.drop(partition)
                case TakeUp(claims):
                    await self._take_up(dict(claims), lease)
                case Claim(partitions):
                    await self._claim(partitions, lease)
                case Release(partitions):
                    await self._release(partitions)
        except Unavailable as fault:
            log.warning("ownership_delayed", fault=str(fault))

    async def _claim(self, partitions: tuple[int, ...], lease: Lease) -> None:
        value = json.dumps({"name": self._member.name, "era": self._member.era})
        keys = [self._keys.owner(partition) for partition in partitions]
        outcome = await self._etcd.txn(
            [absent(key) for key in keys], [Put(key, value) for key in keys], lease.id
        )
        if outcome.succeeded:
            epoch = epoch_of(self._member.era, outcome.revision)
            await self._take_up(dict.fromkeys(partitions, epoch), lease)
        # Otherwise somebody was faster, and the directory will show who.

    async def _take_up(self, claims: Mapping[int, int], lease: Lease) -> None:
        tails = await self._copied_tails(claims)
        asked_at = boottime()
        try:
            outcomes = await self._store.claim(claims, self._member.name, tails)
        except (StoreFull, Unavailable) as fault:
            self.store_full = isinstance(fault, StoreFull)
            log.error("claim_failed", fault=str(fault), partitions=len(claims))
            for partition, epoch in claims.items():
                self._put_off(partition, epoch, _FAULT_PAUSE_S)
            if not self.store_full:
                self._holdings.note_no_answer(asked_at)
            return
        self.store_full = False
        self._holdings.note_answer()
        if not lease.valid():
            return
        for partition, outcome in outcomes.items():
            self.refused.pop(partition, None)
            if isinstance(outcome, ClaimRefused):
                log.error("claim_refused", partition=partition, reason=outcome.reason)
                self.refused[partition] = outcome.reason
                self._put_off(partition, claims[partition], _REFUSED_PAUSE_S)
            else:
                self._holdings.take(partition, claims[partition], outcome.tail)
        log.info("partitions_taken", held=len(self._holdings))

    async def _gave_way(self, lease: Lease) -> bool:
        """Leave everything to others, if the store has left us without an answer for long."""
        since = self._holdings.unanswered_since
        others = any(name != self._member.name for name in self._directory.coordinators)
        if since is None or not others or boottime() - since < _STORE_SILENT_S:
            return False
        log.error("left_for_want_of_the_store", name=self._member.name)
        try:
            await lease.revoke()
        except Unavailable as fault:
            log.warning("leaving_unsaid", fault=str(fault))
        return True

    def _put_off(self, partition: int, epoch: int, pause_s: float) -> None:
        self._holdings.spend(partition, epoch)
        self._not_before[partition] = boottime() + pause_s
        self._wake.set()  # The key of the spent epoch must go.

    async def _release(self, partitions: tuple[int, ...]) -> None:
        for partition in partitions:
            self._holdings.drop(partition)
        await self._settled()
        for partition in partitions:
            standing = self._directory.claims.get(partition)
            if standing is not None and standing[1] == self._member.name:
                key = self._keys.owner(partition)
                revision = standing[0] & _REVISION_BITS
                await self._etcd.txn([created_at(key, revision)], [Delete(key)])
        log.info("partitions_released", partitions=len(partitions), held=len(self._holdings))

    async def _copied_tails(self, claims: Mapping[int, int]) -> dict[int, int]:
        """How far each log is known to have come, by the copies in etcd."""
        prefix = self._keys.tail(0).removesuffix("0")
        tails = {}
        for kv in (await self._etcd.range(prefix)).keys:
            partition = int(kv.key.removeprefix(prefix))
            copy = json.loads(kv.value)
            if partition in claims and copy.get("log_id") == self._store.log_id:
                tails[partition] = int(copy["tail"])
        return tails

    async def _copy_tails_for_ever(self, lease: Lease) -> None:
        while True:
            await asyncio.sleep(_TAILS_PERIOD_S)
            try:
                await self._copy_tails(lease)
            except Unavailable as fault:
                log.warning("tails_not_copied", fault=str(fault))

    async def _copy_tails(self, lease: Lease) -> None:
        """Copy the tails that moved to etcd, where a restored store can be told by them."""
        moved = [
            (partition, held.epoch, held.tail)
            for partition, held in self._holdings
            if self._copied.get(partition, 0) < held.tail
        ]
        for start in range(0, len(moved), KEYS_PER_TXN):
            if not lease.valid():
                return
            slice_ = moved[start : start + KEYS_PER_TXN]
            outcome = await self._etcd.txn(
                [created_at(self._keys.owner(p), epoch & _REVISION_BITS) for p, epoch, _ in slice_],
                [Put(self._keys.tail(p), self._copy(epoch, tail)) for p, epoch, tail in slice_],
            )
            if outcome.succeeded:
                self._copied.update({p: tail for p, _, tail in slice_})

    def _copy(self, epoch: int, tail: int) -> str:
        return json.dumps({"log_id": self._store.log_id, "tail": tail, "epoch": epoch})

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(_TICK_S):
                await self._wake.wait()
        except TimeoutError:
            pass
