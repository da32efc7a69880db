"""A notifier plugin of a run: it takes deliveries, and answers as chance has it, or dies.

What it was handed, and what it said of it, is told to `record` as it happens. Whether anybody hears
its answer is not its to know.
"""

import asyncio
from random import Random
from typing import Any

from onward.notifier.v1 import notifier_pb2

from tests.simulation.channels import Context, Port, Switchboard
from tests.simulation.network import Network
from tests.simulation.virtual_time import Process, VirtualLoop

NAME = "n1"
ADDRESS = f"{NAME}:1"
# Whether a delivery whose outcome is not known is repeated.
SCHEMES = {"fcm": True, "tel": False}
_DIES = 0.04
_ANSWERS = {"ACCEPTED": 12, "RETRY": 2, "UNKNOWN": 1}
_Result = notifier_pb2.Result


class Scene:
    """What the plugin lives in."""

    loop: VirtualLoop
    network: Network
    switchboard: Switchboard

    def record(self, event: str, **fields: Any) -> None:
        """Tell the judge."""


class Notifier:
    """All lives of one plugin."""

    def __init__(self, scene: Any, random: Random) -> None:
        self.healthy = False  # True: it accepts everything, and lives
        self._scene: Scene = scene
        self._random = random
        self.lives: list[Process] = []
        self.start()

    def start(self) -> None:
        """Begin to serve."""
        process = Process(self._scene.loop, NAME)
        self.lives.append(process)
        self._scene.switchboard.ports[ADDRESS] = Port(
            process, unary={"Describe": self._describe, "Notify": self._notify}
        )

    def die(self) -> None:
        """End, and with it every call; another life begins a little later."""
        self._scene.record("fault", what="plugin_dies")
        self.lives[-1].kill()
        self._scene.network.later(self._random.uniform(0.05, 1.5), self.start)

    async def _describe(self, _: Any, __: Context) -> notifier_pb2.DescribeResponse:
        return notifier_pb2.DescribeResponse(
            name="simulated",
            channels=[
                notifier_pb2.Channel(scheme=scheme, repeats_unknown=repeats)
                for scheme, repeats in SCHEMES.items()
            ],
        )

    async def _notify(
        self, request: notifier_pb2.NotifyRequest, _: Context
    ) -> notifier_pb2.NotifyResponse:
        random = self._random
        for one in request.deliveries:
            self._scene.record(
                "handed", delivery=one.delivery_id, attempt=one.attempt, user=one.user,
                uri=one.endpoint, subject=one.subject, first=one.first_seq, last=one.last_seq,
                count=one.count, seqs=[message.seq for message in one.messages],
                repeats=SCHEMES[one.endpoint.partition(":")[0]],
            )  # fmt: skip
        await asyncio.sleep(random.random() ** 3 * 0.2)
        if not self.healthy and random.random() < _DIES:
            self.die()
            await asyncio.sleep(0)
        response = notifier_pb2.NotifyResponse()
        for one in request.deliveries:
            (outcome,) = random.choices(list(_ANSWERS), list(_ANSWERS.values()))
            outcome = "ACCEPTED" if self.healthy else outcome
            self._scene.record(
                "answered", delivery=one.delivery_id, attempt=one.attempt, outcome=outcome
            )
            response.results.append(
                _Result(delivery_id=one.delivery_id, outcome=_Result.Outcome.Value(outcome))
            )
        return response
