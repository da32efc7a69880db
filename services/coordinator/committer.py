"""Group commit: everything that queued while the last commit was in flight goes in the next one.

Knows the order of things: a request is decided inside a commit, and its effects are carried out
when the commit is durable and this process is still an owner, never before. Must not know SQL or
gRPC. One commit is in flight at a time, over all partitions; each partition of it is judged by
itself by the store.

Drive it: `submit(number, requests)` for what comes by a stream; `run()` commits until cancelled;
`await call(partition, body)` for what others than streams ask of the owner; `settled()` returns
once everything submitted before has its effects, `committed()` once that of it has which a commit
has begun with. Around a claim stand `expect` and `admit`.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from onward.coordinator.v1 import coordinator_pb2
from onward.types.v1 import entry_pb2

from services.chassis import logs
from services.chassis.errors import Fault, StoreFull, Unavailable
from services.chassis.etcd import boottime
from services.chassis.refusals import Code, Refusal, code_name, refuse
from services.coordinator import partition as core
from services.coordinator.early_requests import EarlyRequests
from services.coordinator.effects import (
    Accept,
    Answer,
    Append,
    AwaitProcessed,
    Body,
    Conclude,
    Deliver,
    Effect,
    End,
    EndWatch,
    Forget,
    Outcome,
    Relay,
    Replace,
    Request,
    StartWatch,
    TellClient,
    Unwatch,
)
from services.coordinator.holdings import Holdings
from services.coordinator.metrics import Metrics
from services.coordinator.registers import Limits
from services.coordinator.store import Facts, LogStore, Lookup, Stamp, Writes
from services.coordinator.uplinks import Uplinks

log = logs.get(__name__)

_OVERLOADED_RETRY_MS = 200
_QUEUE_FULL = "The coordinator's queue is full."
_OWN = 0  # instead of a stream's number: asked for by this process, which waits for no answer


@dataclass(frozen=True, slots=True)
class _Work:
    """What one stream asked of one partition at a time."""

    number: int
    partition: int
    epoch: int
    requests: Sequence[Request]
    put_at: float


class Committer:
    """The one writer of everything that streams ask for."""

    def __init__(
        self,
        *,
        store: LogStore,
        holdings: Holdings,
        uplinks: Uplinks,
        offer: Callable[[entry_pb2.Entry, int], None],
        note_length: Callable[[int, str, int], None],
        metrics: Metrics,
        limits: Limits,
        partitions: int,
        stamp: Callable[[], Stamp],
        queue_max: int,
        batch_max: int,
        log_full: Callable[[], bool] = lambda: False,
    ) -> None:
        """`offer` is told of every entry committed, with its bytes; `note_length` how many messages
        a subject that was appended to now keeps, by partition and subject.

        `log_full`: whether the log has more bytes than may be; nothing is appended then."""
        self._store = store
        self._holdings = holdings
        self._uplinks = uplinks
        self._offer = offer
        self._note_length = note_length
        self._metrics = metrics
        self._limits = limits
        self._partitions = partitions
        self._stamp = stamp
        self._log_full = log_full
        self.queue_max = queue_max
        self.queued = 0  # requests
        self.disk_full = False
        self._batch_max = batch_max
        self._queue: deque[_Work] = deque()
        self._early = EarlyRequests(queue_max)
        self._submitted = 0  # works, since the start
        self._begun = 0
        self._settled = 0
        self._barriers: list[tuple[int, asyncio.Future[None]]] = []
        self._wake = asyncio.Event()
        # By what stands instead of a stream's number; None: another is the owner.
        self._calls: dict[int, asyncio.Future[Outcome | Refusal | None]] = {}
        self._called = 0

    def submit(self, number: int, asked: coordinator_pb2.PartitionRequests) -> None:
        """Take what a stream asks of a partition, or refuse it at once."""
        uplink = self._uplinks.get(number)
        if uplink is None:
            return
        requests = _requests(number, asked)
        if self._early.keep(number, asked, len(requests)):
            return
        owned = self._holdings.accepts(asked.partition, asked.epoch)
        if not owned or uplink.overtakes(asked):
            uplink.turn_away(asked)
            return
        if self.queued >= self.queue_max:
            refusal = refuse(Code.OVERLOADED, _QUEUE_FULL, _OVERLOADED_RETRY_MS)
            for append in asked.appends:
                uplink.add_refusal(append.request, refusal)
            self._metrics.refused.labels("OVERLOADED").inc(len(asked.appends))
            if len(requests) > len(asked.appends):
                # Watches and look-ups have no refusal; the edge repeats them on a new stream.
                uplink.close()
            return
        if requests:
            self._put(number, asked.partition, asked.epoch, requests)

    def expect(self, partitions: Iterable[int]) -> None:
        """Their claim is under way: keep what is asked of them until `admit`."""
        self._early.expect(partitions)

    def admit(self, partitions: Iterable[int]) -> None:
        """Their claim is decided: take what was asked meanwhile, or turn it away."""
        for number, asked in self._early.end(partitions):
            self.submit(number, asked)

    def forget(self, partition: int, epoch: int, clients: Sequence[Forget]) -> None:
        """Forget clients of a partition, unless there is more urgent work."""
        if self.queued <= self.queue_max // 2 and self._holdings.accepts(partition, epoch):
            requests = [Request(_OWN, client) for client in clients]
            self._put(_OWN, partition, epoch, requests)

    async def call(self, partition: int, body: Body) -> Outcome | Refusal | None:
        """Have a thing decided, and return what came of it once that is durable; None: this process
        is not the owner, or was deposed, and the outcome is unknown."""
        epoch = self._holdings.epoch(partition)
        if epoch is None or not self._holdings.accepts(partition, epoch):
            return None
        if self.queued >= self.queue_max:
            return refuse(Code.OVERLOADED, _QUEUE_FULL, _OVERLOADED_RETRY_MS)
        self._called += 1
        number = -self._called
        done: asyncio.Future[Outcome | Refusal | None]
        done = self._calls[number] = asyncio.get_running_loop().create_future()
        self._put(number, partition, epoch, [Request(number, body)])
        try:
            return await done
        finally:
            del self._calls[number]

    def _put(self, number: int, partition: int, epoch: int, requests: Sequence[Request]) -> None:
        self._queue.append(_Work(number, partition, epoch, requests, time.perf_counter()))
        self.queued += len(requests)
        self._submitted += 1
        self._metrics.queue.set(self.queued)
        self._wake.set()

    async def settled(self) -> None:
        """Returns once whatever was submitted before has had its effects."""
        await self._reached(self._submitted)

    async def committed(self) -> None:
        """Returns once the commit under way, if there is one, has had its effects."""
        await self._reached(self._begun)

    async def _reached(self, works: int) -> None:
        if self._settled < works:
            barrier = asyncio.get_running_loop().create_future()
            self._barriers.append((works, barrier))
            await barrier

    async def probe(self) -> None:
        """Look whether a full disk takes something again. What is asked for is tried all the same,
        but one small message that found room is no end of the alarm."""
        try:
            await self._store.probe()
            self._note_full(False)
        except Fault:
            pass

    async def run(self) -> None:
        """Commit what is submitted, until cancelled."""
        while True:
            await self._wake.wait()
            works = self._take()
            await self._commit(works)
            self._settled += len(works)
            for at, barrier in self._barriers:
                if at <= self._settled and not barrier.done():
                    barrier.set_result(None)
            self._barriers = [it for it in self._barriers if not it[1].done()]
            if not self._queue:
                self._wake.clear()

    def _take(self) -> list[_Work]:
        works, count = [], 0
        while self._queue and count < self._batch_max:
            work = self._queue.popleft()
            count += len(work.requests)
            works.append(work)
        self._begun += len(works)
        self.queued -= count
        self._metrics.queue.set(self.queued)
        self._metrics.batch.observe(count)
        if works:
            self._metrics.queue_s.observe(time.perf_counter() - works[0].put_at)
        return works

    async def _commit(self, works: list[_Work]) -> None:
        groups: dict[int, list[Request]] = {}
        terms: dict[int, int] = {}
        taken = []
        valid = self._holdings.valid
        for work in works:
            if not valid or self._holdings.epoch(work.partition) != work.epoch:
                self._turn_away(work)
                continue
            taken.append(work)
            terms[work.partition] = work.epoch
            groups.setdefault(work.partition, []).extend(work.requests)
        if not taken:
            return
        began = boottime()
        try:
            deposed, decisions = await self._append(terms, groups, self._log_full())
            self._holdings.note_answer()
        except StoreFull:
            self._note_full(True)
            deposed, decisions = await self._append_to_full(terms, groups)
        except Unavailable as fault:
            log.error("commit_unknown", fault=str(fault), partitions=len(terms))
            self._holdings.note_no_answer(began)
            deposed, decisions = frozenset(terms), {}
        if not self._holdings.valid:
            # Durable perhaps, but somebody else may be the owner by now: tell nothing. The edges
            # send it again to the next owner, which knows the ids.
            deposed = frozenset(terms)
        self._settle(taken, deposed, decisions)

    async def _append(
        self, terms: dict[int, int], groups: dict[int, list[Request]], full: bool
    ) -> tuple[frozenset[int], dict[int, core.Decision]]:
        stamp = self._stamp()
        decisions: dict[int, core.Decision] = {}
        lengths: list[tuple[int, str, int]] = []
        size: list[int] = []

        def decide(partition: int, facts: Facts) -> Writes:
            term = core.Term(
                partition, self._partitions, terms[partition], stamp.wall_ms, self._limits, full
            )
            decision = core.decide(term, groups[partition], facts)
            decisions[partition] = decision
            size.append(sum(len(row.entry) for row in decision.writes.rows))
            for subject, seq in decision.writes.heads.items():
                lengths.append((partition, subject, seq - facts.heads[subject].low))
            return decision.writes

        lookups: dict[int, Lookup] = {p: core.lookup(group) for p, group in groups.items()}
        began = time.perf_counter()
        deposed = await self._store.append(stamp, terms, lookups, decide)
        self._metrics.commit_s.observe(time.perf_counter() - began)
        self._metrics.batch_bytes.observe(sum(size))
        for length in lengths:
            self._note_length(*length)
        return deposed, decisions

    async def _append_to_full(
        self, terms: dict[int, int], groups: dict[int, list[Request]]
    ) -> tuple[frozenset[int], dict[int, core.Decision]]:
        """Nothing can be written: answer what needs no write, refuse the rest."""
        try:
            return await self._append(terms, groups, full=True)
        except (StoreFull, Unavailable):
            return frozenset(terms), {}

    def _note_full(self, full: bool) -> None:
        """Alarm once, not with every commit."""
        if full and not self.disk_full:
            log.error("store_full")
        elif self.disk_full and not full:
            log.info("store_takes_again")
        self.disk_full = full
        self._metrics.store_full.set(full)

    def _settle(
        self,
        works: list[_Work],
        deposed: frozenset[int],
        decisions: dict[int, core.Decision],
    ) -> None:
        if deposed:
            self._metrics.deposed.inc(len(deposed))
            for work in works:
                if work.partition in deposed:
                    self._turn_away(work)
            for partition in deposed:
                log.warning("partition_lost", partition=partition)
                self._holdings.drop(partition)
        epochs = {work.partition: work.epoch for work in works}
        for partition, decision in decisions.items():
            if partition in deposed:
                continue
            if decision.writes.rows:
                tail = decision.writes.rows[-1].pos
                self._holdings.advance(partition, epochs[partition], tail)
            for effect in decision.effects:
                self._carry_out(partition, effect)
            self._count_accepted(decision)

    def _carry_out(self, partition: int, effect: Effect) -> None:
        match effect:
            case Append(entry, size):
                self._offer(entry, size)
            case Accept():
                uplink = self._uplinks.get(effect.origin)
                if uplink is not None:
                    uplink.add_accepted(effect.request, effect.seq, effect.epoch, effect.duplicate)
            case Answer(origin, appended):
                self._count(appended)
                uplink = self._uplinks.get(origin)
                if uplink is not None:
                    uplink.add_answer(appended)
            case Deliver(entry, size):
                self._uplinks.deliver(entry, size)
            case Relay(message):
                self._uplinks.relay(partition, message)
            case StartWatch(origin, watched):
                self._uplinks.watch(origin, partition, watched)
            case EndWatch(origin, subject):
                self._uplinks.unwatch(origin, subject)
            case TellClient(origin, state):
                uplink = self._uplinks.get(origin)
                if uplink is not None:
                    uplink.add_client(state)
            case Replace(edge_id, session_id):
                self._uplinks.replace(edge_id, session_id)
            case End(ending, edges):
                self._uplinks.end(ending, edges)
            case Conclude(origin, outcome):
                self._conclude(origin, outcome)
            case AwaitProcessed(origin, pos):
                self._uplinks.await_processed(origin, partition, pos)

    def _conclude(self, number: int, outcome: Outcome | Refusal | None) -> None:
        done = self._calls.get(number)
        if done is not None and not done.done():
            done.set_result(outcome)

    def _count_accepted(self, decision: core.Decision) -> None:
        accepts = [effect for effect in decision.effects if type(effect) is Accept]
        if accepts:
            relayed = sum(not accept.seq for accept in accepts)
            self._metrics.accepted.inc(len(accepts) - relayed)
            self._metrics.relayed.inc(relayed)

    def _count(self, appended: coordinator_pb2.Appended) -> None:
        if appended.HasField("refusal"):
            self._metrics.refused.labels(code_name(appended.refusal)).inc()
        else:
            self._metrics.recorded.inc()

    def _turn_away(self, work: _Work) -> None:
        self._conclude(work.number, None)
        uplink = self._uplinks.get(work.number)
        if uplink is not None:
            uplink.add_not_owner(work.partition, work.epoch)


def _requests(number: int, asked: coordinator_pb2.PartitionRequests) -> list[Request]:
    """What is asked, in the order in which it must be decided."""
    return [
        *(Request(number, append) for append in asked.appends),
        *(Request(number, watch) for watch in asked.watches),
        *(Request(number, Unwatch(subject)) for subject in asked.unwatches),
        *(Request(number, client) for client in asked.read_clients),
    ]
