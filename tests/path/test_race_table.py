"""Late, repeated and reordered connects and disconnects, through real processes.

A test edge of ours takes a lease, speaks the uplink to the real coordinator, and sends the events
of each row in its order; the real presence service is asked how the client stands. cN and dN are
the connect and the disconnect of attempt N of one client, in their order of arrival.
"""

import json
from collections.abc import Callable, Coroutine
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from onward.presence.v1 import presence_pb2, presence_pb2_grpc

from services.chassis.channel import open_channel
from services.chassis.etcd import Etcd
from tests.path.stack import Suite
from tests.path.uplink_client import LoneEdge
from tests.waiting import until

# Every order of arrival of the table, with the answer to "offline at the end?".
ROWS = [
    ("c1 d1", True),
    ("c1 d1 c2", False),
    ("c1 c2 d1", False),
    ("c1 c2 d1 d2", True),
    ("c1 c2 d2 d1", True),
    ("c2 c1 d1", False),
    ("c2 c1 d2", True),
    ("c1 d2 c2 d1", True),
    ("d1 c1", True),
    ("d2 c1 d1 c2", True),
]
# Both attempts, each with its end, in every order: whatever comes last, nobody is there.
KNOWN = {row for row, _ in ROWS}
ORDERS = [" ".join(order) for order in permutations(["c1", "d1", "c2", "d2"])]
ROWS += [(order, True) for order in ORDERS if order not in KNOWN]


def environment(suite: Suite, service: str) -> dict[str, str]:
    """The environment of a child of the suite, as an operator could read it."""
    raw = Path(f"/proc/{suite.child(service)}/environ").read_bytes().decode()
    return dict(item.split("=", 1) for item in raw.split("\0") if item)


async def standing(secret: str, etcd: Etcd, user: str, subject: str) -> str:
    """online, grace or offline: how the user's one client stands in presence; "" if unknown."""
    found = (await etcd.range("/onward/presence/")).keys
    address = str(json.loads(found[0].value)["address"])
    async with open_channel(address, secret) as channel:
        stub = presence_pb2_grpc.PresenceQueryServiceStub(channel)
        request = presence_pb2.ExplainRequest(user=user, subject=subject)
        clients = (await stub.Explain(request, timeout=5)).clients
        return str(clients[0].state) if clients else ""


@pytest.mark.parametrize("times", [1, 2], ids=["once", "each event repeated"])
@pytest.mark.parametrize(("row", "offline"), ROWS, ids=[row for row, _ in ROWS])
def test_a_row_of_the_race_table(
    suite: Suite, run: Callable[[Coroutine[Any, Any, None]], None],
    row: str, offline: bool, times: int,
) -> None:  # fmt: skip
    environ = environment(suite, "coordinator")
    user = f"racer-{row.replace(' ', '-')}-{times}"

    async def scenario() -> None:
        etcd = Etcd(environ["ONWARD_ETCD"])
        edge = await LoneEdge.join(etcd, environ["ONWARD_SECRET"], user)
        try:
            subject = f"/race/{user}"
            await edge.begin(subject)
            for event in row.split():
                for _ in range(times):
                    await edge.send(event)
            await until(edge.processed, 15)
            stands = await standing(environ["ONWARD_SECRET"], etcd, user, subject)
            assert stands in (("grace", "offline") if offline else ("online",))
        finally:
            await edge.leave()
            await etcd.close()

    run(scenario())
