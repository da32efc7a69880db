"""Addresses that are had alone, and such as several processes share."""

import socket

import pytest

from services.chassis.errors import StartError
from services.edge.listening import bound_socket, reserved_socket


@pytest.mark.parametrize("shares", [False, True], ids=["alone", "sharing"])
def test_an_address_where_somebody_listens_is_not_shared_with_them(shares: bool) -> None:
    """Not even if they would: the two would each have half of the clients."""
    with socket.socket() as other:
        if shares:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(StartError, match="ONWARD_EDGE_ADDRESS"):
            reserved_socket(address)
        with pytest.raises(StartError, match="ONWARD_EDGE_ADDRESS"):
            bound_socket(address, shared=False)


@pytest.mark.parametrize("address", ["nowhere", "127.0.0.1:", "127.0.0.1:99999", "256.1.1.1:80"])
def test_what_is_no_address_is_refused_with_a_sentence(address: str) -> None:
    with pytest.raises(StartError, match="ONWARD_EDGE_ADDRESS"):
        reserved_socket(address)


def test_who_keeps_an_address_takes_no_connection_from_those_that_listen() -> None:
    with reserved_socket("127.0.0.1:0") as keeper:
        address = f"127.0.0.1:{keeper.getsockname()[1]}"
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(keeper.getsockname())
        with bound_socket(address, shared=True) as one, bound_socket(address, shared=True) as two:
            for listener in (one, two):
                listener.listen()
            clients = [socket.create_connection(keeper.getsockname()) for _ in range(32)]
            taken = [0, 0]
            for number, listener in enumerate((one, two)):
                try:
                    while True:
                        listener.accept()[0].close()
                        taken[number] += 1
                except BlockingIOError:
                    pass
            assert sum(taken) == 32 and all(taken)
            for client in clients:
                client.close()
