"""The ownership core: who should own what, and the steps towards it."""

from random import Random

from services.chassis.rendezvous import (
    Claim,
    Drop,
    Release,
    Scene,
    Step,
    TakeUp,
    decide,
    has_its_share,
    target,
)

ALL = (0, 1, 2, 3)


LIVE = ["c1", "c2"]


def scene(**facts: object) -> Scene:
    usual = {
        "me": "c1",
        "live": ["c1"],
        "partitions": 4,
        "claims": {},
        "held": {},
        "spent": {},
        "waiting": [],
        "fresh": [],
        "given": {},
        "revision": 10,
    }
    return Scene(**{**usual, **facts})  # type: ignore[arg-type]


def steps(**facts: object) -> list[Step]:
    return decide(scene(**facts))


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


def test_a_share_is_whole_when_all_of_it_is_held_that_may_be_claimed() -> None:
    own = {p: 5 for p in ALL if target(p, LIVE) == "c1"}
    assert own and len(own) < len(ALL)
    assert has_its_share(scene(live=LIVE, held=own))
    own.popitem()
    assert not has_its_share(scene(live=LIVE, held=own))
    assert has_its_share(scene(live=LIVE, held=own, waiting=ALL))


def crowd(**facts: object) -> list[Step]:
    """A member that holds 256 partitions, of which another should have about half."""
    held = dict.fromkeys(range(256), 5)
    claims = dict.fromkeys(range(256), (5, "c1"))
    return steps(**{"partitions": 256, "live": LIVE, "claims": claims, "held": held, **facts})


def test_rebalancing_gives_up_a_few_at_a_time() -> None:
    (release,) = crowd()
    assert isinstance(release, Release)
    assert len(release.partitions) == 16
    assert all(target(p, LIVE) == "c2" for p in release.partitions)


def test_nothing_is_given_up_to_one_that_has_only_just_appeared() -> None:
    assert crowd(fresh=["c2"]) == []
    (release,) = crowd(live=["c1", "c2", "c3"], fresh=["c2"])
    assert isinstance(release, Release)
    assert all(target(p, ["c1", "c2", "c3"]) == "c3" for p in release.partitions)


def test_one_that_has_only_just_appeared_claims_orphans_all_the_same() -> None:
    own = tuple(p for p in ALL if target(p, LIVE) == "c1")
    assert steps(live=LIVE, fresh=["c1"]) == [Claim(own)]


def test_no_more_is_given_up_before_all_of_the_former_has_been_taken() -> None:
    held = dict.fromkeys(range(256), 5)
    claims = dict.fromkeys(range(256), (5, "c1"))
    (release,) = crowd(held=held, claims=claims)
    assert isinstance(release, Release)
    given = dict.fromkeys(release.partitions, 5)
    for p in given:
        del held[p]
    assert crowd(held=held, claims=claims, given=given) == []  # the directory is late
    for p in given:
        del claims[p]
    assert crowd(held=held, claims=claims, given=given) == []
    *first, last = given
    claims.update(dict.fromkeys(first, (9, "c2")))
    assert crowd(held=held, claims=claims, given=given) == []
    claims[last] = (9, "c2")
    (following,) = crowd(held=held, claims=claims, given=given)
    assert isinstance(following, Release)
    assert not set(following.partitions) & set(given)


def test_what_was_given_up_to_one_that_is_gone_is_claimed_again() -> None:
    given = dict.fromkeys(ALL, 5)
    assert steps(given=given) == [Claim(ALL)]
    assert steps(given=given, claims=mine(7), held=dict.fromkeys(ALL, 7)) == []


def test_an_orphan_that_nobody_gave_up_does_not_stop_rebalancing() -> None:
    """Its target may not be able to take it for long."""
    orphan = next(p for p in range(256) if target(p, LIVE) == "c2")
    held = dict.fromkeys(set(range(256)) - {orphan}, 5)
    claims = dict.fromkeys(held, (5, "c1"))
    (release,) = crowd(held=held, claims=claims)
    assert isinstance(release, Release)


def test_a_member_never_has_more_partitions_on_their_way_than_it_may() -> None:
    """Over a whole rebalancing, with whatever order of takers; and it comes to its end."""
    dice = Random(5)
    live = ["c1", "c2", "c3"]
    held = dict.fromkeys(range(256), 5)
    claims = dict.fromkeys(range(256), (5, "c1"))
    given: dict[int, int] = {}
    on_their_way: set[int] = set()
    most = 0
    for _ in range(2_000):
        for step in crowd(live=live, held=held, claims=claims, given=given):
            assert isinstance(step, Release)
            for p in step.partitions:
                del held[p], claims[p]
                given[p] = 5
                on_their_way.add(p)
        most = max(most, len(on_their_way))
        if on_their_way:
            p = dice.choice(sorted(on_their_way))
            claims[p] = (9, target(p, live) or "")
            on_their_way.remove(p)
    assert most == 16
    assert set(held) == {p for p in range(256) if target(p, live) == "c1"}
