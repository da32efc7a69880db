"""Notifier plugins of a story: they take deliveries, and answer well, badly, late or not at all.

What a plugin was handed, and what it said, is told to `record` as it happens; whether anybody hears
it is not its to know. Its mood is set by the story: `well`, `moody` (any outcome for each),
`garbled` (strangers, some twice, some missing, words that do not exist), `misconfigured`, `hangs`
(longer than any deadline), `dies` in the call, `refuses` the call, `fails` it.
"""

import asyncio
from random import Random
from typing import Any

import grpc
from onward.notifier.v1 import notifier_pb2

from tests.simulation.channels import Context, Port
from tests.simulation.virtual_time import Process

# By plugin: each channel, and whether what is in doubt is repeated there.
PLUGINS = {"push": {"fcm": True, "webpush": True}, "post": {"mailto": True, "tel": False}}
ADDRESSES = tuple(f"{name}:1" for name in PLUGINS)
CHANNELS = {channel: repeats for served in PLUGINS.values() for channel, repeats in served.items()}
MOODS = ("moody", "garbled", "misconfigured", "hangs", "dies", "refuses", "fails")
_Result = notifier_pb2.Result
_ANSWERS = {
    "ACCEPTED": 8, "DELIVERED": 3, "RETRY": 4, "UNKNOWN": 2, "REJECTED_MESSAGE": 1,
    "ENDPOINT_GONE": 1, "OPTED_OUT": 0.4, "EXPIRED": 0.3, "PROVIDER_UNAVAILABLE": 1,
    "MISCONFIGURED": 0.5, "NOT_BEGUN": 1,
}  # fmt: skip
_WELL = {"ACCEPTED": 3, "DELIVERED": 1}
_HANGS_S = 60.0


class Plugin:
    """All lives of one plugin."""

    def __init__(self, scene: Any, name: str, random: Random) -> None:
        self.name = name
        self.mood = "well"
        self.lives: list[Process] = []
        self._scene = scene
        self._random = random
        self.start()

    def start(self) -> None:
        """Begin to serve."""
        process = Process(self._scene.loop, self.name)
        self.lives.append(process)
        self._scene.switchboard.ports[f"{self.name}:1"] = Port(
            process, unary={"Describe": self._describe, "Notify": self._notify}
        )

    def _die(self) -> None:
        self.lives[-1].kill()
        self._scene.network.later(self._random.uniform(0.05, 1.5), self.start)

    async def _describe(self, _: Any, __: Context) -> notifier_pb2.DescribeResponse:
        return notifier_pb2.DescribeResponse(
            name=self.name,
            batch_max=5,
            channels=[
                notifier_pb2.Channel(scheme=scheme, repeats_unknown=repeats)
                for scheme, repeats in PLUGINS[self.name].items()
            ],
        )

    async def _notify(
        self, request: notifier_pb2.NotifyRequest, context: Context
    ) -> notifier_pb2.NotifyResponse:
        random = self._random
        for one in request.deliveries:
            self._scene.record(
                "handed", delivery=one.delivery_id, attempt=one.attempt, user=one.user,
                uri=one.endpoint, subject=one.subject, first=one.first_seq, last=one.last_seq,
                count=one.count, seqs=[message.seq for message in one.messages],
            )  # fmt: skip
        mood = self.mood
        if mood == "refuses":
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "not this one")
        await asyncio.sleep(_HANGS_S if mood == "hangs" else random.random() ** 3 * 0.3)
        if mood == "fails":
            await context.abort(grpc.StatusCode.INTERNAL, "no luck")
        if mood == "dies" and random.random() < 0.7:
            self._die()
            await asyncio.sleep(0)
        response = notifier_pb2.NotifyResponse()
        for one in request.deliveries:
            self._answer(one, mood, response)
        return response

    def _answer(
        self, one: notifier_pb2.Delivery, mood: str, response: notifier_pb2.NotifyResponse
    ) -> None:
        random = self._random
        result = _Result(delivery_id=one.delivery_id)
        if mood == "garbled":
            chance = random.random()
            if chance < 0.25:
                return  # Nothing is said of this one.
            if chance < 0.5:
                response.results.add(delivery_id="0" * 32, outcome=_Result.ENDPOINT_GONE)
            elif chance < 0.65:
                result.outcome = random.choice((0, 99))  # type: ignore[assignment]
                result.detail = "\x1b[2J" * 100
                response.results.append(result)
                self._told(one, "UNKNOWN")
                return
        answers = _ANSWERS if mood == "moody" else _WELL
        (outcome,) = random.choices(list(answers), list(answers.values()))
        if mood == "misconfigured":
            outcome = "MISCONFIGURED"
        result.not_begun = outcome == "NOT_BEGUN"
        result.outcome = _Result.Outcome.Value("RETRY" if result.not_begun else outcome)
        if result.outcome == _Result.RETRY and random.random() < 0.5:
            result.retry_after.FromMilliseconds(random.randint(0, 3_000))
        if outcome == "ENDPOINT_GONE" and random.random() < 0.7:
            # Some providers know of tokens that were registered anew since.
            since = self._scene.clock() - random.choice((0.0, 5.0, 3_600.0))
            result.gone_since.FromNanoseconds(int(since * 1e9))
            self._told(one, outcome, result.gone_since.ToNanoseconds() / 1e9)
        else:
            self._told(one, outcome)
        response.results.append(result)
        if mood == "garbled" and random.random() < 0.3:
            response.results.append(result)

    def _told(self, one: notifier_pb2.Delivery, outcome: str, since: float | None = None) -> None:
        self._scene.record(
            "answered", delivery=one.delivery_id, attempt=one.attempt, outcome=outcome, since=since
        )
