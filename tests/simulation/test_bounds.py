"""One fault at a time, in virtual time: how long publishing may stand still for it.

The bounds are those of a cluster whose leases last three seconds, here `members.TTL_S`, and whose
etcd may end a lease a second late.
"""

import os
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from tests.simulation import etcd, log_store
from tests.simulation.adversary import Adversary
from tests.simulation.members import TTL_S
from tests.simulation.story import Outcome, play

ETCD_LATE_S = 1.0
FAULT_AT_S = 1.5
STORY_S = 9.0
SEEDS = range(10 if "SIMULATION_SEEDS" in os.environ else 2)
Act = Callable[[Any, Adversary], None]


def plan(act: Act) -> Callable[[Any, Random, float, float], Adversary]:
    """One act, and nothing by chance."""

    class Plan(Adversary):
        def draw(self, begin_s: float, end_s: float) -> None:
            self._scene.network.later(FAULT_AT_S, act, self._scene, self)

    return Plan


def longest_wait(outcome: Outcome) -> float:
    """The longest time from a publish to its acceptance."""
    sent: dict[tuple[str, int], float] = {}
    longest = 0.0
    for record in outcome.records:
        if record["event"] == "publish":
            sent[record["who"], record["number"]] = record["at"]
        elif record["event"] == "accepted" and record["at"] > FAULT_AT_S:
            longest = max(longest, record["at"] - sent[record["who"], record["number"]])
    return longest


def check(act: Act, bound_s: float) -> None:
    for seed in SEEDS:
        outcome = play(seed, plan=plan(act), story_s=STORY_S)
        assert not outcome.broken, str(outcome)
        assert longest_wait(outcome) <= bound_s, f"seed {seed}"


@pytest.mark.parametrize("name", ["c1", "c2", "c3"])
def test_a_coordinator_that_dies_is_replaced_when_its_lease_has_ended(name: str) -> None:
    check(lambda scene, _: scene.kill(name), TTL_S + ETCD_LATE_S + 1.0)


def test_a_coordinator_that_starts_again_need_not_wait_for_its_own_lease() -> None:
    def act(scene: Any, _: Adversary) -> None:
        scene.kill("c2")
        scene.network.later(0.5, scene.start, "c2")

    check(act, 2.0)


def test_a_coordinator_that_is_frozen_is_replaced_and_comes_back() -> None:
    def act(scene: Any, adversary: Adversary) -> None:
        process = scene.coordinators["c2"].process
        process.stop()
        scene.network.later(6.5, process.go_on, Random(1))

    check(act, TTL_S + ETCD_LATE_S + 1.0)


def test_a_coordinator_cut_from_etcd_is_replaced() -> None:
    check(lambda _, it: it.cut_way("c2", etcd.NAME, 7.5), TTL_S + ETCD_LATE_S + 1.0)


def test_a_coordinator_cut_from_the_store_leaves_its_partitions_to_others() -> None:
    check(lambda _, it: it.cut_way("c2", log_store.NAME, 7.5), 3.0 + 1.0)


def test_etcd_may_be_away_for_less_than_a_lease() -> None:
    def act(scene: Any, _: Adversary) -> None:
        scene.network.down.add(etcd.NAME)
        scene.network.later(0.6, scene.network.down.discard, etcd.NAME)

    check(act, 0.5)


def test_a_coordinator_that_leaves_hands_over_at_once() -> None:
    def act(scene: Any, _: Adversary) -> None:
        member = scene.coordinators["c2"]
        member.process.do(member.drain)

    check(act, 0.5)
