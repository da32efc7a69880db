"""Plays a row of runs: `play(row, seed, folder)` writes `history.jsonl` and judges it.

python -m tests.faults.run [--row kills] [--seed 1] [--folder DIR]
"""

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults import kill_run, random_story
from tests.faults.checker import Broken, Checker
from tests.faults.history import Event, History, read
from tests.faults.kill_run import KillRun, Size
from tests.faults.post import Post
from tests.faults.random_story import RandomStory
from tests.faults.stage import Theatre
from tests.faults.tally import Tally
from tests.faults.timeline import Timeline
from tests.processes import slowness

ROWS = {
    # What `make test` plays: every process once, then all of them.
    "short": Size(rounds=1, freezes=0, everything=True, seconds=16.0),
    "kills": Size(),
    "power": Size(rounds=0, freezes=0, everything=True, seconds=12.0),
    "story": None,
}
SLOW = 2.0  # from here on a machine is given less to do
_STRANGE = frozenset({"stuck", "told_else", "surprised"})


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a run came to."""

    row: str
    seed: int
    history: Path
    broken: Broken
    strange: list[Event]  # what should not happen either, though no promise speaks of it
    tally: Tally
    timeline: Timeline

    @property
    def good(self) -> bool:
        """Whether every promise held."""
        return not self.broken.lines and not self.strange

    def record(self) -> dict[str, Any]:
        """What `report` makes a table of."""
        tally = self.tally
        return {
            "row": self.row,
            "seed": self.seed,
            "broken": dict(self.broken.counts),
            "published": tally.counts["publish"],
            "asked": tally.asked,
            "per_second": tally.per_second,
            "accepted": tally.counts["accepted"],
            "seen": tally.counts["seen"],
            "mails": tally.counts["mail"],
            "repeated": tally.repeated,
            "checked": tally.checked,
            "waits": [[*fault, waits] for fault, waits in sorted(tally.waits.items())],
            "started_s": tally.started_s,
        }

    def __str__(self) -> str:
        lines = [f"row {self.row}, seed {self.seed}, history in {self.history}"]
        lines += self.broken.lines[:40] + [str(one)[:300] for one in self.strange[:10]]
        return "\n".join([*lines, str(self.tally)])


def play(row: str, seed: int, folder: Path, tree: Path | None = None) -> Verdict:
    """Run it, with the programs of `tree` if one is given, and judge its history."""
    assert not (folder / "data").exists(), "a run begins with an empty log"
    folder.mkdir(parents=True, exist_ok=True)
    history = History(folder / "history.jsonl")
    size = ROWS[row]
    # A machine that is busy with other things cannot carry the whole load; what is asked is told.
    per_second = kill_run.PER_SECOND / max(1.0, slowness() / SLOW)
    asked = size.publishers * per_second if size else random_story.ASKED
    history.write("run", row=row, seed=seed, asked=asked)
    with Post() as post:
        theatre = Theatre(folder, post, kill_run.SETTINGS if size else {}, tree)
        try:
            theatre.suite.wait_ready()
            if size:
                plot = KillRun(seed, history, post, size, theatre.again, per_second)
            else:
                plot = RandomStory(seed, history, post)
            asyncio.run(plot.play(theatre.suite))
        finally:
            history.write("output", lines=theatre.suite.output.all)
            history.close()
            theatre.close()
    return judge(row, seed, history.path)


def judge(row: str, seed: int, path: Path) -> Verdict:
    """One pass over a history."""
    checker, tally, timeline, strange = Checker(), Tally(), Timeline(), []
    for event in read(path):
        checker.take(event)
        tally.take(event)
        timeline.take(event)
        if event["event"] in _STRANGE:
            strange.append(event)
    broken = checker.finish()
    tally.checked = checker.notices.checked
    return Verdict(row, seed, path, broken, strange, tally, timeline)


def main() -> None:
    """From the command line."""
    # What was started is ended too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    options = argparse.ArgumentParser(prog="python -m tests.faults.run")
    options.add_argument("--row", choices=sorted(ROWS), default="kills")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--folder", type=Path, help="for the data and the history")
    options.add_argument("--tree", type=Path, help="another tree of the project to run")
    given = options.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="onward-faults-"))
    began = time.monotonic()
    verdict = play(given.row, given.seed, folder, given.tree)
    print(f"{verdict}\n{time.monotonic() - began:.0f} s in all")
    raise SystemExit(0 if verdict.good else 1)


if __name__ == "__main__":
    main()
