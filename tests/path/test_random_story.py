"""Random stories through real processes keep every promise.

`STORY_SEEDS` says how many stories there are, or names their seeds, parted by commas. The history
of a story that goes wrong is kept beside its data directory, as JSON lines.
"""

import json
import os
from pathlib import Path

import pytest

from tests.path.mailbox import Mailbox
from tests.path.random_story import play
from tests.path.story_checker import check

ASKED = os.environ.get("STORY_SEEDS", "1")
SEEDS = (
    [int(one) for one in ASKED.split(",") if one]
    if "," in ASKED
    else list(range(1, int(ASKED) + 1))
)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_story_keeps_every_promise(seed: int, mailbox: Mailbox, tmp_path: Path) -> None:
    mailbox.refusals.clear()
    history = play(seed, mailbox, tmp_path / "data")
    with (tmp_path / "history.jsonl").open("w") as file:
        file.writelines(json.dumps(event) + "\n" for event in history)
    known = {"output", "done_to", "stuck", "turned_away", "turned_down", "told_else", "surprised"}
    broken = check(event for event in history if event["event"] not in known)
    assert broken == [], f"seed {seed}, history in {tmp_path}:\n" + "\n".join(broken[:40])
    strange = [e for e in history if e["event"] in ("stuck", "told_else", "surprised")]
    assert strange == [], f"seed {seed}, history in {tmp_path}"
