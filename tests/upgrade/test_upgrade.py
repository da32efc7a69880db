"""Neighbouring versions work together, in whatever order their services are upgraded, and back.

`UPGRADE_ORDERS` names the orders to play by their numbers, parted by commas, or `all`; without it,
the first is played: that of docs/deploying.md. `make upgrade` plays all.
"""

import os
from pathlib import Path

import pytest

from tests.faults import row_run
from tests.faults.timeline import Timeline
from tests.upgrade import trees
from tests.upgrade.rolling import SERVICES, Upgrade, orders
from tests.upgrade.trees import Baseline

_ASKED = os.environ.get("UPGRADE_ORDERS", "0")
ORDERS = orders() if _ASKED == "all" else [orders()[int(one)] for one in _ASKED.split(",")]
SEED = int(os.environ.get("UPGRADE_SEED", "1"))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_services_of_two_versions_work_together(order: tuple[str, ...], tmp_path: Path) -> None:
    row = Upgrade(order, trees.baseline())
    if reason := row.why_not():
        pytest.skip(reason)
    outcome = row_run.play(row, SEED, tmp_path)
    print(outcome)
    assert outcome.good, str(outcome)
    tally = outcome.verdict.tally
    assert tally.counts["moved"] == row.restarts()
    assert tally.counts["accepted"] and tally.counts["mail"] and tally.checked, "nothing happened"


def test_each_service_is_the_first_and_the_last_and_before_and_after_every_other() -> None:
    assert orders()[0] == SERVICES
    for ends in (0, -1):
        assert {order[ends] for order in orders()[:4]} == set(SERVICES)
    pairs = {(a, b) for order in orders() for a in order for b in order[order.index(a) + 1 :]}
    assert len(pairs) == len(SERVICES) * (len(SERVICES) - 1)


def test_a_service_that_has_changed_its_tables_does_not_go_back() -> None:
    told = trees.baseline("# why\ncommit abc  # then\nstays presence\n")
    assert told == Baseline("abc", frozenset({"presence"}))
    assert Upgrade(SERVICES, Baseline("abc")).restarts() == 2 * 7
    assert Upgrade(SERVICES, told).restarts() == 7 + 5


def test_a_tree_tells_what_ran_from_it(tmp_path: Path) -> None:
    if reason := trees.missing():
        pytest.skip(reason)
    before = trees.of_commit(trees.baseline().commit, tmp_path / "before")
    now = trees.of_this(tmp_path / "now")
    for tree in (before, now):
        assert (tree / "gen/onward").is_dir() and (tree / "services/edge/__main__.py").is_file()
        scope = {"__file__": str(tree / "services/edge/__init__.py")}
        exec((tree / "services/edge/__init__.py").read_text(), scope)
        assert trees.ran_from(tree, "edge") == {os.getpid()}
        assert trees.ran_from(tree, "presence") == set()


def test_a_publish_that_was_refused_and_a_member_of_the_wrong_tree_are_found(
    tmp_path: Path,
) -> None:
    row, timeline = Upgrade(SERVICES, Baseline("")), Timeline()
    for event in ("injected", "refused"):
        timeline.take({"event": event, "at": 1.0, "code": "UNAVAILABLE"})
    row._started.append(("edge-1", 5, tmp_path))
    wrong = row.wrong(_Nothing(), timeline)  # type: ignore[arg-type]
    assert wrong == [
        "1 publishes were refused: ['UNAVAILABLE']",
        "edge-1 did not run the programs it was to run",
        "edge-1 was started 0 times instead of 1",
    ]


class _Nothing:
    """A run in which nothing was started."""

    class cluster:
        class output:
            all: tuple[str, ...] = ()
