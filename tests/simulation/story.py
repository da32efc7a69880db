"""One run of the simulation: `play(seed)` is a story of faults, its end, and what was found.

Three coordinators, two edges and two presence replicas start; clients publish and read, some go
away and have external tokens, which a plugin is handed; an adversary breaks what can break. Then
everything is healed, and all that was published must be accepted, read by who is there to read it,
and told to who is not, within `SETTLED_S`. At last a checker, which knows only what was recorded,
looks at all of it.

A seed repeats exactly. By hand, with every event: `python -m tests.simulation.story 17`.
"""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from onward.types.v1 import entry_pb2

from services.chassis.cluster import Keys
from services.chassis.etcd import Put
from tests.simulation.adversary import Adversary
from tests.simulation.channels import Switchboard
from tests.simulation.checker import Checker
from tests.simulation.clients import Client
from tests.simulation.etcd import EtcdServer
from tests.simulation.log_store import Database
from tests.simulation.members import PARTITIONS, Coordinator, Edge
from tests.simulation.network import Network
from tests.simulation.notifier import Notifier
from tests.simulation.own_time import in_its_own_time
from tests.simulation.people import CLIENTS, people_of
from tests.simulation.presence_store import PresenceDatabase
from tests.simulation.replicas import REPLICAS, Replica
from tests.simulation.virtual_time import StalledError, VirtualLoop

COORDINATORS = ("c1", "c2", "c3")
EDGES = ("e1", "e2")
QUIET_S = 0.6  # to start in
STORY_S = 6.0  # the time of faults, and of publishing
SETTLED_S = 25.0  # after it everything must be as it should within that time
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


Member = Coordinator | Edge | Replica


class Story:
    """The world of one run; what its parts want of it."""

    def __init__(self, seed: int, plan: Plan = Adversary, story_s: float = STORY_S) -> None:
        self.seed = seed
        self._plan = plan
        self._story_s = story_s
        self.records: list[dict[str, Any]] = []
        self.loop = VirtualLoop()
        self.random = Random(seed)
        self.network = Network(self.loop, Random(seed * 3 + 1))
        self.switchboard = Switchboard(self.network, self._refused)
        self.etcd = EtcdServer(self.network, self.random)
        self.database = Database(self.record)
        self.presence_database = PresenceDatabase(self.record)
        self.notifier = Notifier(self, Random(seed * 5 + 2))
        self.coordinators: dict[str, Coordinator | None] = dict.fromkeys(COORDINATORS)
        self.edges: dict[str, Edge | None] = dict.fromkeys(EDGES)
        self.replicas: dict[str, Replica | None] = dict.fromkeys(REPLICAS)
        self.clients: list[Client] = []
        self.settled_s = 0.0
        self._buried: list[Member] = []

    def record(self, event: str, **fields: Any) -> None:
        self.records.append({"event": event, "at": self.loop.now, **fields})

    def _refused(self, publication_id: str) -> None:
        # Also where its client has gone, and will not hear of it: what it sends again stands behind
        # what was accepted after the refusal.
        who, _, number = publication_id.rpartition("#")
        self.record("refused", who=who, numbers=[int(number)])

    # Members.

    def _kind(self, name: str) -> tuple[dict[str, Any], type[Member]]:
        if name in self.coordinators:
            return self.coordinators, Coordinator
        return (self.edges, Edge) if name in self.edges else (self.replicas, Replica)

    def start(self, name: str) -> None:
        members, kind = self._kind(name)
        if members[name] is None:
            members[name] = kind(self, name)
            self.record("start", who=name)

    def kill(self, name: str) -> None:
        members, _ = self._kind(name)
        member = members[name]
        if member is not None:
            self.record("killed", who=name)
            self._bury(members, member)

    def ended(self, member: Member) -> None:
        members, _ = self._kind(member.name)
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
        members: list[Any] = list(self._buried)
        for standing in (self.coordinators, self.edges, self.replicas):
            members += standing.values()
        processes = [it.process for it in members if it is not None]
        self.loop.bury([*processes, *self.notifier.lives])
        self.presence_database.close()

    async def _run(self) -> None:
        random, keys = self.random, Keys()
        self.etcd.txn([], [Put(keys.config, f'{{"partitions": {PARTITIONS}}}')], 0)
        for name in (*COORDINATORS, *EDGES, *REPLICAS):
            self.network.later(random.random() * 0.2, self.start, name)
        self.clients = people_of(self, random, QUIET_S + self._story_s)
        self.etcd.on_owner = self._publish_now
        self.presence_database.on_grace = self._publish_then
        adversary = self._plan(self, random, QUIET_S, QUIET_S + self._story_s)
        await asyncio.sleep(QUIET_S + self._story_s)
        self.etcd.on_owner = lambda: None
        self.presence_database.on_grace = lambda until_s: None
        adversary.heal()
        self.notifier.healthy = True
        healed_at = self.loop.now
        for _ in range(round(SETTLED_S / _MOMENT_S)):
            if not self._left():
                break
            await asyncio.sleep(_MOMENT_S)
        self.settled_s = self.loop.now - healed_at
        for left in self._left():
            self.record("broken", who="after all", fault=left)
        for client in self.clients:
            if client.open and not client.away:
                self.record("there", who=client.name)
        self.presence_database.tell_all()

    def _publish_then(self, at_s: float) -> None:
        """A grace ends then: what is accepted about that time must be told all the same."""
        client = self.clients[self.random.randrange(CLIENTS)]
        for _ in range(3):
            self.network.later(
                max(0.0, at_s - self.loop.now) + self.random.random() * 0.04, client.publish
            )

    def _publish_now(self) -> None:
        """A partition is about to change hands: that is when publishing is of interest."""
        client = self.clients[self.random.randrange(CLIENTS)]
        for _ in range(3):
            self.network.later(self.random.random() ** 2 * 0.05, client.publish)

    def _left(self) -> list[str]:
        """What is not yet as it should be."""
        left = []
        for client in self.clients:
            if client.unanswered:
                left.append(f"{client.name} waits for {list(client.unanswered)}")
            for subject in client.reads if not client.away else ():
                head = self.database.head(subject)
                if not client.open or client.positions.get(subject) != head:
                    at = client.positions.get(subject)
                    left.append(f"{client.name} is at {at} of {subject}, which ends at {head}")
        for partition in range(PARTITIONS):
            tail, cursor = self.database.tail(partition), self.presence_database.cursor(partition)
            if cursor != tail:
                left.append(f"presence is at {cursor} of {partition}, which ends at {tail}")
        if not left:
            left += self.presence_database.left()
            online = self.presence_database.online()
            for client in self.clients:
                if client.away == (f"{client.name}-1" in online):
                    left.append(f"{client.name}: away {client.away}; presence thinks otherwise")
        return left


def text_of(entry: bytes) -> str:
    """The text of a serialised entry."""
    return entry_pb2.Entry.FromString(entry).message.content.text


def play(
    seed: int, loud: bool = False, plan: Plan = Adversary, story_s: float = STORY_S
) -> Outcome:
    """Play one seed. `loud`: with what services log. `plan`: what goes wrong, other than by chance
    alone, in the `story_s` seconds of faults."""
    story = Story(seed, plan, story_s)
    with in_its_own_time(story, loud):
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
