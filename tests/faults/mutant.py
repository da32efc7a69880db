"""Plays a mutation: its scenario with the mistake, and without it, at the same time.

python -m tests.faults.mutant [NAME …]      all, if none is named
"""

import asyncio
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.cluster import Cluster, Shape
from tests.faults.history import History
from tests.faults.mutations import MUTATIONS, Mutation
from tests.faults.post import Post
from tests.faults.proxy import Links
from tests.faults.row_run import postgres_of, store_events
from tests.faults.run import Verdict, judge
from tests.faults.scene import Scenario
from tests.faults.stage import SETTINGS, Theatre
from tests.faults.tree import copy_tree, not_imported
from tests.path.mailbox import SOON_AGAIN
from tests.path.stack import ended


@dataclass(frozen=True, slots=True)
class Outcome:
    """What both runs came to."""

    mutation: Mutation
    sound: Verdict
    mistaken: Verdict
    seconds: float

    @property
    def found(self) -> bool:
        """The mistake was found for what it is, and nothing was found without it."""
        return self.sound.good and bool(set(self.mistaken.broken.counts) & self.mutation.rules)

    def record(self, name: str) -> dict[str, Any]:
        """What `report` makes a table of."""
        broken = dict(self.mistaken.broken.counts)
        return {"mistake": name, "broken": broken, "seconds": self.seconds}

    def __str__(self) -> str:
        rules = ", ".join(f"{rule} ×{n}" for rule, n in self.mistaken.broken.counts.items())
        found = f"found ({rules})" if self.found else f"NOT FOUND\n{self.sound}\n{self.mistaken}"
        return f"{found}, {self.seconds:.0f} s"


def play(name: str, folder: Path) -> Outcome:
    """Run both, and judge their histories."""
    mutation = MUTATIONS[name]
    began = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        sound = pool.submit(_play, mutation, False, folder / "sound")
        mistaken = pool.submit(_play, mutation, True, folder / "mistaken")
        return Outcome(mutation, sound.result(), mistaken.result(), time.monotonic() - began)


def _play(mutation: Mutation, mistaken: bool, folder: Path) -> Verdict:
    edits = [*mutation.stretch, *(mutation.mistake if mistaken else ())]
    folder.mkdir(parents=True)
    tree = copy_tree(folder, edits)
    path = play_scenario(mutation.scenario, folder, tree)
    assert not not_imported(tree, edits), "the edited files were not what ran"
    return judge("mistaken" if mistaken else "sound", 0, path)


def play_scenario(scenario: Scenario, folder: Path, tree: Path | None = None) -> Path:
    """Run a scenario; returns its history."""
    history = History(folder / "history.jsonl")
    try:
        with Post(delay_s=0.0) as post:
            if scenario.shape is None:
                _play_embedded(scenario, folder, tree, history, post)
            else:
                _play_cluster(scenario, scenario.shape, folder, tree, history, post)
    finally:
        history.close()
    return history.path


def _play_embedded(
    scenario: Scenario, folder: Path, tree: Path | None, history: History, post: Post
) -> None:
    theatre = Theatre(folder, post, dict(scenario.settings), tree)
    try:
        theatre.suite.wait_ready()
        asyncio.run(scenario.play(theatre.suite, history, post))
    finally:
        history.write("output", lines=theatre.suite.output.all)
        theatre.close()


def _play_cluster(
    scenario: Scenario, shape: Shape, folder: Path, tree: Path | None, history: History, post: Post
) -> None:
    settings = SETTINGS | dict(scenario.settings) | post.settings | SOON_AGAIN
    with Links() as links, postgres_of(shape) as postgres:
        stores = (postgres.primary.port, postgres.standby.port) if postgres else ()
        trees = dict.fromkeys(shape.members(), tree) if tree is not None else {}
        cluster = Cluster(folder, settings, shape, links, scenario.proxied, trees, stores=stores)
        with ended(cluster):
            cluster.wait_ready()
            asyncio.run(scenario.play(cluster, history, post))
            for event, fields in store_events(cluster, postgres):
                history.write(event, **fields)
            history.write("output", lines=cluster.output.all)


def main() -> None:
    """From the command line."""
    # What was started is ended too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    good = True
    for name in sys.argv[1:] or MUTATIONS:
        outcome = play(name, Path(tempfile.mkdtemp(prefix="onward-mutant-")))
        print(f"{name}: {outcome}", flush=True)
        good &= outcome.found
    raise SystemExit(0 if good else 1)


if __name__ == "__main__":
    main()
