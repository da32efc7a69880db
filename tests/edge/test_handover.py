"""Partitions move between two real coordinators while a client publishes: it does not notice."""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from tests.edge.cluster import Edge, Raw, cluster
from tests.waiting import until

Run = Callable[[Any], Any]
SUBJECTS = [f"/held/{number}" for number in range(24)]  # enough to lie in most partitions


class Pipelining:
    """Publishes to all subjects in turn without waiting for answers, which it keeps."""

    def __init__(self) -> None:
        self.sent: dict[str, list[int]] = {subject: [] for subject in SUBJECTS}
        self.seqs: dict[str, list[int]] = {subject: [] for subject in SUBJECTS}
        self.errors: list[Any] = []
        self.longest_s = 0.0
        self._waiting: dict[str, tuple[str, float]] = {}
        self._stop = asyncio.Event()

    def stop(self) -> None:
        self._stop.set()

    async def run(self, edge: Edge) -> None:
        async with connect(
            f"ws://127.0.0.1:{edge.port}/v1/connect?user=bob",
            subprotocols=[Subprotocol("onward.v1.json")],
            compression=None,
        ) as socket:
            fields = {"clientId": "bob-1", "subscriptions": {"list": []}}
            await socket.send(json.dumps({"id": "c", "connect": fields}))
            assert "connected" in json.loads(await socket.recv())
            reading = asyncio.create_task(self._read(socket))
            number = 0
            while not self._stop.is_set():
                subject = SUBJECTS[number % len(SUBJECTS)]
                number += 1
                self.sent[subject].append(number)
                self._waiting[str(number)] = (subject, time.monotonic())
                publish = {"subject": subject, "text": str(number), "publicationId": str(number)}
                await socket.send(json.dumps({"id": str(number), "publish": publish}))
                await asyncio.sleep(0.004)
            await until(lambda: not self._waiting, 15)
            reading.cancel()

    async def _read(self, socket: Any) -> None:
        async for text in socket:
            frame = json.loads(text)
            subject, since = self._waiting.pop(frame["id"])
            self.longest_s = max(self.longest_s, time.monotonic() - since)
            if "published" in frame:
                self.seqs[subject].append(int(frame["published"]["seq"]))
            else:
                self.errors.append(frame)


def test_who_publishes_through_handovers_sees_no_error_and_keeps_the_order(
    run: Run, tmp_path: Path, postgres_url: str
) -> None:
    async def main() -> None:
        with cluster(tmp_path) as members:
            store = {"ONWARD_COORDINATOR_STORE": postgres_url}
            members.coordinator("c1", **store)
            edge = members.edge(ONWARD_EDGE_PUBLISH_RATE="1000")
            await edge.ready()

            def held() -> dict[str, int]:
                """How many partitions each coordinator has, as it says itself."""
                shown = edge.get("/v1/status")["coordinators"]
                return {one["name"]: one.get("held", 0) for one in shown}

            async def is_held(**wanted: bool) -> None:
                async def look() -> bool:
                    now = await asyncio.to_thread(held)
                    return sum(now.values()) == 8 and all(
                        bool(now.get(name)) is has for name, has in wanted.items()
                    )

                await until(look, 30, every_s=0.1)

            await is_held(c1=True)
            reader = Raw("ann", SUBJECTS[0])
            await reader.connect(edge)
            reading = asyncio.create_task(reader.follow())
            bob = Pipelining()
            publishing = asyncio.create_task(bob.run(edge))
            second = members.coordinator("c2", **store)
            await is_held(c1=True, c2=True)  # it has been given its part
            edge.post("/v1/drain", {"member": "c2"})
            assert await asyncio.to_thread(second.wait, 15) == 0
            await is_held(c1=True, c2=False)
            bob.stop()
            await publishing
            assert not bob.errors
            for subject in SUBJECTS:
                count = len(bob.sent[subject])
                assert bob.seqs[subject] == list(range(1, count + 1)), subject
            await until(lambda: len(reader.seqs) == len(bob.sent[SUBJECTS[0]]))
            assert reader.seqs == bob.seqs[SUBJECTS[0]]
            reader.cut()
            await reading
            print(f"the longest that a publish waited: {bob.longest_s:.3f} s")

    run(main())
