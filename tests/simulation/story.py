"""One run of the simulation: `play(seed)` is a story of faults, its end, and what was found.

Three coordinators, two edges and two presence replicas start; clients publish and read; an
adversary breaks what can break. Then everything is healed, and all that was published must be
accepted, read by who reads it, and processed by presence, within `SETTLED_S`. At last a checker,
which knows only what was recorded, looks at all of it.

A seed repeats exactly. By hand, with every event: `python -m tests.simulation.story 17`.
"""

import asyncio
import gc
import itertools
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any
from unittest.mock import patch

import structlog
from onward.types.v1 import entry_pb2

from services.chassis.cluster import Keys
from services.chassis.etcd import Put
from tests.simulation.adversary import Adversary
from tests.simulation.channels import Switchboard
from tests.simulation.checker import Checker
from tests.simulation.clients import Client
from tests.simulation.etcd import EtcdServer
from tests.simulation.log_store import Database
from tests.simulation.members import PARTITIONS, Coordinator, Edge, Presence
from tests.simulation.network import Network
from tests.simulation.virtual_time import PROCESS, StalledError, VirtualLoop

COORDINATORS = ("c1", "c2", "c3")
EDGES = ("e1", "e2")
# Two of them share a partition.
SUBJECTS = ("/s/0", "/s/1", "/s/6", "/s/12")
CLIENTS = 3
QUIET_S = 0.6  # to start in
STORY_S = 6.0  # the time of faults, and of publishing
SETTLED_S = 25.0  # after it everything must be as it should within that time
BURSTS = 4  # of publishes, of each client, about
BURST_MAX = 4
_MOMENT_S = 0.05


@dataclass
class Outcome:
    """What became of a seed."""

    seed: int
    broken: list[str]
    records: list[dict[str, Any]] = field(repr=False)
    settled_s: float  # after everything was healed
    steps: int

    def __str__(self) -> str:
        last = "\n".join(tell(record) for record in self.records[-40:])
        found = "\n".join(self.broken[:10])
        return (
            f"seed {self.seed} broke {len(self.broken)} promises:\n{found}\n"
            f"the last events:\n{last}\n"
            f"all of them: python -m tests.simulation.story {self.seed}"
        )


def tell(record: dict[str, Any]) -> str:
    """A record as a line."""
    fields = " ".join(
        f"{name}={value}" for name, value in record.items() if name not in ("event", "at", "entry")
    )
    return f"{record['at']:8.4f} {record['event']:10} {fields[:200]}"


Plan = Callable[[Any, Random, float, float], Adversary]


class Story:
    """The world of one run; what its parts want of it."""

    def __init__(self, seed: int, plan: Plan = Adversary, story_s: float = STORY_S) -> None:
        self._plan = plan
        self._story_s = story_s
        self.records: list[dict[str, Any]] = []
        self.loop = VirtualLoop()
        self.random = Random(seed)
        self.network = Network(self.loop, Random(seed * 3 + 1))
        self.switchboard = Switchboard(self.network)
        self.etcd = EtcdServer(self.network, self.random)
        self.database = Database(self.record)
        self.presence = Presence(self, self.record)
        self.coordinators: dict[str, Coordinator | None] = dict.fromkeys(COORDINATORS)
        self.edges: dict[str, Edge | None] = dict.fromkeys(EDGES)
        self.clients: list[Client] = []
        self.settled_s = 0.0
        self._buried: list[Coordinator | Edge] = []

    def record(self, event: str, **fields: Any) -> None:
        self.records.append({"event": event, "at": self.loop.now, **fields})

    # Members.

    def start(self, name: str) -> None:
        members: dict[str, Any] = self.coordinators if name in self.coordinators else self.edges
        if members[name] is None:
            kind = Coordinator if name in self.coordinators else Edge
            members[name] = kind(self, name)
            self.record("start", who=name)

    def kill(self, name: str) -> None:
        members: dict[str, Any] = self.coordinators if name in self.coordinators else self.edges
        member = members[name]
        if member is not None:
            self.record("killed", who=name)
            self._bury(members, member)

    def ended(self, member: Coordinator | Edge) -> None:
        members: dict[str, Any]
        members = self.coordinators if isinstance(member, Coordinator) else self.edges
        if not member.leaving:
            self.record("broken", who=member.name, fault="it ended unasked")
        self._bury(members, member)
        self.network.later(self.random.uniform(0.1, 1.0), self.start, member.name)

    def _bury(self, members: dict[str, Any], member: Any) -> None:
        member.process.kill()
        self._buried.append(member)
        self.network.end_of(member.name)
        if members[member.name] is member:
            members[member.name] = None

    # The run.

    def play(self) -> None:
        """From the first start to rest."""
        try:
            self.loop.run_until_complete(self._run())
        except StalledError:
            self.record("broken", who="everybody", fault="nobody has anything to do")
        for fault in self.loop.faults:
            self.record("broken", who="a callback", fault=fault)
        members = (*self._buried, *self.coordinators.values(), *self.edges.values())
        self.loop.bury([it.process for it in members if it is not None])

    async def _run(self) -> None:
        random, keys = self.random, Keys()
        self.etcd.txn([], [Put(keys.config, f'{{"partitions": {PARTITIONS}}}')], 0)
        self.presence.start()
        for name in (*COORDINATORS, *EDGES):
            self.network.later(random.random() * 0.2, self.start, name)
        for number in range(CLIENTS):
            reads = random.sample(SUBJECTS, 2)
            client = Client(self, f"u{number}", reads, list(SUBJECTS[:3]), random)
            self.clients.append(client)
            for _ in range(random.randint(BURSTS - 2, BURSTS + 2)):
                at = random.uniform(0.2, QUIET_S + self._story_s)
                for _ in range(random.randint(1, BURST_MAX)):
                    self.network.later(at, client.publish)
                    at += random.random() ** 3 * 0.05
        self.etcd.on_owner = self._publish_now
        adversary = self._plan(self, random, QUIET_S, QUIET_S + self._story_s)
        await asyncio.sleep(QUIET_S + self._story_s)
        self.etcd.on_owner = lambda: None
        adversary.heal()
        healed_at = self.loop.now
        for _ in range(round(SETTLED_S / _MOMENT_S)):
            if not self._left():
                break
            await asyncio.sleep(_MOMENT_S)
        self.settled_s = self.loop.now - healed_at
        for left in self._left():
            self.record("broken", who="after all", fault=left)

    def _publish_now(self) -> None:
        """A partition is about to change hands: that is when publishing is of interest."""
        client = self.random.choice(self.clients)
        for _ in range(3):
            self.network.later(self.random.random() ** 2 * 0.05, client.publish)

    def _left(self) -> list[str]:
        """What is not yet as it should be."""
        left = []
        for client in self.clients:
            if client.unanswered:
                left.append(f"{client.name} waits for {list(client.unanswered)}")
            for subject in client.reads:
                head = self.database.head(subject)
                if not client.open or client.positions.get(subject) != head:
                    at = client.positions.get(subject)
                    left.append(f"{client.name} is at {at} of {subject}, which ends at {head}")
        for partition in range(PARTITIONS):
            tail, cursor = self.database.tail(partition), self.presence.cursors.get(partition, 0)
            if cursor != tail:
                left.append(f"presence is at {cursor} of {partition}, which ends at {tail}")
        return left


@contextmanager
def _in_its_own_time(story: Story, loud: bool) -> Iterator[None]:
    """Clocks, chance and channels are the story's; what services log is told, or not at all."""
    real = time.clock_gettime

    def clock_gettime(clock: int) -> float:
        return 1_000.0 + story.loop.now if clock == time.CLOCK_BOOTTIME else real(clock)

    draw = Random(7)

    def drawn() -> uuid.UUID:
        return uuid.UUID(int=draw.getrandbits(128), version=4)

    def note(_: Any, method: str, event: dict[str, Any]) -> dict[str, Any]:
        process = PROCESS.get()
        what = event.pop("event")
        event.pop("module", None)
        story.record("log", who=process.name if process else "?", what=what, **event)
        raise structlog.DropEvent

    former = structlog.get_config()
    level = 10 if loud else 50
    open_channel = story.switchboard.open_channel
    with ExitStack() as stack:
        for module in (
            "services.edge.uplink", "services.edge.readers", "services.edge.members",
            "services.coordinator.reporter",
        ):  # fmt: skip
            stack.enter_context(patch(f"{module}.open_channel", open_channel))
        stack.enter_context(patch("time.clock_gettime", clock_gettime))
        stack.enter_context(patch("uuid.uuid4", drawn))
        structlog.configure(
            processors=[note], wrapper_class=structlog.make_filtering_bound_logger(level)
        )
        collects = gc.isenabled()
        gc.disable()  # what a collection finds would end whenever it ran
        try:
            yield
        finally:
            structlog.configure(**former)
            if collects:
                gc.enable()
                _collect_in_turn()


_played = itertools.count(1)


def _collect_in_turn() -> None:
    """Each story leaves cycles behind; what was there before the first is not looked at again."""
    number = next(_played)
    if number == 1:
        gc.freeze()
    elif number % 10 == 0:
        gc.collect()


def text_of(entry: bytes) -> str:
    """The text of a serialised entry."""
    return entry_pb2.Entry.FromString(entry).message.content.text


def play(
    seed: int, loud: bool = False, plan: Plan = Adversary, story_s: float = STORY_S
) -> Outcome:
    """Play one seed. `loud`: with what services log. `plan`: what goes wrong, other than by chance
    alone, in the `story_s` seconds of faults."""
    story = Story(seed, plan, story_s)
    with _in_its_own_time(story, loud):
        story.play()
    broken = Checker(text_of).check(story.records)
    return Outcome(seed, broken, story.records, story.settled_s, story.loop.steps)


def main() -> None:
    """Tell the whole story of the seeds given."""
    for seed in map(int, sys.argv[1:]):
        outcome = play(seed, loud=True)
        for record in outcome.records:
            print(tell(record))
        print(f"seed {seed}: settled after {outcome.settled_s:.2f} s, {outcome.steps} steps")
        for line in outcome.broken:
            print(line)


if __name__ == "__main__":
    main()
