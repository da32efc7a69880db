"""Connections are counted by IPv4 address, and by IPv6 network."""

import pytest

from services.edge.addresses import Addresses, address_of


def test_it_says_by_how_many_an_address_is_beyond_its_limit() -> None:
    addresses = Addresses(2)
    assert [addresses.enter("a") for _ in range(4)] == [0, 0, 1, 2]
    assert addresses.enter("b") == 0
    addresses.leave("a")
    addresses.leave("a")
    assert addresses.enter("a") == 1


def test_an_address_without_connections_is_forgotten() -> None:
    addresses = Addresses(1)
    for name in ("a", "b", "a"):
        addresses.enter(name)
    for name in ("a", "a", "b"):
        addresses.leave(name)
    assert len(addresses) == 0


def test_a_limit_of_zero_is_none() -> None:
    addresses = Addresses(0)
    assert {addresses.enter("a") for _ in range(5000)} == {0}


@pytest.mark.parametrize(
    ("peername", "address"),
    [
        (("192.0.2.7", 4711), "192.0.2.7"),
        (("2001:db8:1:2:3:4:5:6", 4711, 0, 0), "2001:db8:1:2::/64"),
        (("2001:db8:1:2:ffff::1", 4711, 0, 0), "2001:db8:1:2::/64"),
        (("2001:db8:1:3::1", 4711, 0, 0), "2001:db8:1:3::/64"),
        (("::ffff:192.0.2.7", 4711, 0, 0), "192.0.2.7"),
        (("fe80::1%eth0", 4711, 0, 2), "fe80::/64"),
        (None, ""),
        ("", ""),
    ],
)
def test_the_address_that_a_peer_is_counted_for(peername: object, address: str) -> None:
    assert address_of(peername) == address
