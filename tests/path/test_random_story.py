"""Random stories through real processes keep every promise.

`STORY_SEEDS` says how many stories there are, or names their seeds, parted by commas. The history
of a story that goes wrong is kept beside its data directory, as JSON lines.
"""

import json
import os
from pathlib import Path

import pytest

from tests.path.random_story import SlowMailbox, play
from tests.path.story_checker import check

ASKED = os.environ.get("STORY_SEEDS", "1")
NAMED = [int(seed) for seed in ASKED.split(",") if seed]
SEEDS = NAMED if "," in ASKED else list(range(1, int(ASKED) + 1))
# Told for whoever reads a history; the checker has no use for them.
REMARKS = {"output", "done_to", "stuck", "turned_away", "turned_down", "told_else", "surprised"}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_story_keeps_every_promise(seed: int, tmp_path: Path) -> None:
    with SlowMailbox() as mailbox:
        history = play(seed, mailbox, tmp_path / "data")
    with (tmp_path / "history.jsonl").open("w") as file:
        file.writelines(json.dumps(event) + "\n" for event in history)
    broken = check(event for event in history if event["event"] not in REMARKS)
    assert broken == [], f"seed {seed}, history in {tmp_path}:\n" + "\n".join(broken[:40])
    strange = [e for e in history if e["event"] in ("stuck", "told_else", "surprised")]
    assert strange == [], f"seed {seed}, history in {tmp_path}"
