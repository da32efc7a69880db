"""The ownership core: who should own what, and the steps towards it."""

from services.chassis.rendezvous import (
    Claim,
    Drop,
    Release,
    Scene,
    Step,
    TakeUp,
    decide,
    target,
)

ALL = (0, 1, 2, 3)


def steps(**facts: object) -> list[Step]:
    scene = {
        "me": "c1",
        "live": ["c1"],
        "partitions": 4,
        "claims": {},
        "held": {},
        "spent": {},
        "waiting": [],
        "revision": 10,
    }
    return decide(Scene(**{**scene, **facts}))  # type: ignore[arg-type]


def mine(epoch: int = 5) -> dict[int, tuple[int, str]]:
    return dict.fromkeys(ALL, (epoch, "c1"))


def test_every_partition_has_one_target_and_all_members_get_some() -> None:
    live = ["c1", "c2", "c3"]
    targets = [target(p, live) for p in range(256)]
    assert set(targets) == set(live)
    assert targets == [target(p, reversed(live)) for p in range(256)]  # type: ignore[arg-type]
    assert target(0, []) is None


def test_a_leaving_member_moves_only_its_own_partitions() -> None:
    for p in range(256):
        if target(p, ["c1", "c2", "c3"]) != "c3":
            assert target(p, ["c1", "c2"]) == target(p, ["c1", "c2", "c3"])


def test_orphans_are_claimed_at_once() -> None:
    assert steps() == [Claim(ALL)]


def test_a_transaction_claims_a_bounded_number() -> None:
    claims = [step for step in steps(partitions=130) if isinstance(step, Claim)]
    assert [len(claim.partitions) for claim in claims] == [64, 64, 2]


def test_orphans_of_another_target_are_left_to_it() -> None:
    others = tuple(p for p in ALL if target(p, ["c1", "c2"]) == "c1")
    assert steps(live=["c1", "c2"]) == [Claim(others)]


def test_a_claim_of_somebody_else_stands() -> None:
    assert steps(claims=dict.fromkeys(ALL, (5, "c2"))) == []


def test_what_is_held_and_shown_is_kept() -> None:
    assert steps(claims=mine(), held=dict.fromkeys(ALL, 5)) == []


def test_a_claim_whose_answer_was_lost_is_taken_up() -> None:
    assert steps(claims=mine()) == [TakeUp(tuple((p, 5) for p in ALL))]


def test_a_spent_epoch_is_released_not_taken_up() -> None:
    assert steps(claims=mine(), spent=dict.fromkeys(ALL, 5)) == [Release(ALL)]
    assert steps(claims=mine(6), spent=dict.fromkeys(ALL, 5)) == [
        TakeUp(tuple((p, 6) for p in ALL))
    ]


def test_a_partition_put_off_is_not_claimed() -> None:
    assert steps(waiting=[0, 2]) == [Claim((1, 3))]


def test_what_the_directory_no_longer_shows_as_ours_is_dropped() -> None:
    claims = {**mine(), 1: (9, "c2")}
    del claims[2]
    assert steps(claims=claims, held=dict.fromkeys(ALL, 5)) == [Drop((1, 2))]


def test_a_directory_that_is_behind_our_own_claim_takes_nothing_away() -> None:
    held = dict.fromkeys(ALL, 1 << 48 | 11)
    assert steps(held=held, revision=10) == []
    assert steps(held=held, revision=11) == [Drop(ALL)]


def test_rebalancing_gives_up_a_few_at_a_time() -> None:
    live = ["c1", "c2"]
    held = dict.fromkeys(range(256), 5)
    claims = dict.fromkeys(range(256), (5, "c1"))
    (release,) = steps(partitions=256, live=live, claims=claims, held=held)
    assert isinstance(release, Release)
    assert len(release.partitions) == 16
    assert all(target(p, live) == "c2" for p in release.partitions)
