"""Who owns what, key by key, and which keys were news."""

from services.chassis.claimants import Claimants, Owner

NONE: frozenset[int] = frozenset()


def two_partitions() -> Claimants:
    them = Claimants()
    them.put_member("a", "h:1")
    them.put_claim(1, 10, "a")
    them.put_claim(2, 11, "a")
    assert them.changed() == ({1, 2}, True)
    return them


def test_an_owner_is_a_claim_and_an_address_in_either_order() -> None:
    them = Claimants()
    them.put_claim(1, 10, "a")
    assert them.owners == {} and them.claims == {1: (10, "a")}
    assert them.changed() == ({1}, False)
    them.put_member("a", "h:1")
    assert them.owners == {1: Owner(10, "a", "h:1")}
    assert them.changed() == ({1}, True)


def test_a_member_that_goes_leaves_claims_that_nobody_can_be_reached_for() -> None:
    them = two_partitions()
    them.delete_member("a")
    assert them.owners == {} and set(them.claims) == {1, 2}
    assert them.changed() == ({1, 2}, True)
    them.delete_claim(1)
    assert them.changed() == ({1}, False)


def test_a_member_elsewhere_takes_its_partitions_along() -> None:
    them = two_partitions()
    them.put_member("a", "h:9")
    assert them.owners[2] == Owner(11, "a", "h:9")
    assert them.changed() == ({1, 2}, True)


def test_what_is_as_it_was_is_no_news() -> None:
    them = two_partitions()
    them.clear()
    them.put_claim(2, 11, "a")
    them.put_claim(1, 10, "a")
    them.put_member("a", "h:1")
    them.delete_claim(7)
    assert them.changed() == (NONE, False)
    assert them.changed() == (NONE, False)


def test_another_term_of_the_same_owner_is_news() -> None:
    them = two_partitions()
    them.put_claim(1, 12, "a")
    assert them.changed() == ({1}, False)
