"""An edge that dies under a crowd: who comes back has everything once, who stays away is told."""

from pathlib import Path

import pytest

from tests.faults.edge_death import Size, play

# Small, and with a short grace: how long it takes is measured elsewhere.
SMALL = Size(clients=300, away=30, subjects=30, per_second=40.0, warm_s=1.0, grace_s=6.0)


@pytest.mark.timeout(300)
def test_all_resume_elsewhere_and_only_who_stays_away_is_notified_once(tmp_path: Path) -> None:
    outcome = play(SMALL, tmp_path)
    print(outcome)
    assert outcome.good, str(outcome)
    assert len(outcome.synced_s) == outcome.were_there - SMALL.away > 0
    assert outcome.verdict.tally.counts["seen"] and outcome.verdict.tally.checked
