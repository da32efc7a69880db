"""Which member is meant: nobody, one, or too many."""

import pytest

from services.chassis.refusals import Code, Refusal
from services.edge.naming import Named, the_one

C1 = Named("coordinator", "c1", "h:1")
P1 = Named("presence", "p1", "h:2")
E7 = Named("edge", "7", "h:3", "h:8080")
E8 = Named("edge", "8", "h:4", "h:8080")  # another worker at the same door
MUTE = Named("edge", "9", "", "h:8081")
ALL = [C1, P1, E7, E8, MUTE]


@pytest.mark.parametrize("text", ["c2", "", "70", "h"])
def test_nobody_is_meant_by_what_no_member_is_called(text: str) -> None:
    refusal = the_one(text, ALL)
    assert isinstance(refusal, Refusal)
    assert refusal.code == Code.ARGUMENT_INVALID


def test_who_means_several_is_told_how_to_mean_one() -> None:
    refusal = the_one("h:8080", ALL)
    assert isinstance(refusal, Refusal)
    assert refusal.code == Code.ARGUMENT_INVALID
    assert refusal.message.endswith("edge h:3, edge h:4.")
    twins = the_one("c1", [C1, Named("presence", "c1", "h:5")])
    assert isinstance(twins, Refusal)


def test_a_member_that_cannot_be_asked_may_be_later() -> None:
    refusal = the_one("9", ALL)
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.retry_after_ms) == (Code.UNAVAILABLE, 1_000)


def test_one_is_meant_by_name_id_and_addresses() -> None:
    assert the_one("c1", ALL) is the_one("h:1", ALL) is C1
    assert the_one("p1", ALL) is P1
    assert the_one("7", ALL) is the_one("h:3", ALL) is E7
    assert the_one("h:8080", [C1, E7]) is E7
