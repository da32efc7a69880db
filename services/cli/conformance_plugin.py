"""The plugin that `onward conformance` examines: its connection, calls of it, what it has sent.

Knows the contract of notifier.proto and how a caller shows who it is. Must not know any rule. To
drive it: `async with Examined(address, trust, wishes) as plugin`, then `plugin.notify(…)`.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from onward.notifier.v1 import notifier_pb2, notifier_pb2_grpc

from services.chassis.channel import open_channel
from services.chassis.tls import Trust

Delivery = notifier_pb2.Delivery
Result = notifier_pb2.Result

ANY = "*"
BATCH_DEFAULT, CONCURRENCY_DEFAULT = 100, 4
TAKEN = (Result.ACCEPTED, Result.DELIVERED)
# A plugin that sends to a provider far away may take its time with a full batch.
CALL_S = 30.0
# A plugin on this machine, or near it, is reached within this; a process that died is not.
REACHED_S = 5.0
# One delivery is answered within this by a plugin that did so before.
WORKS_S = 10.0
# What a plugin writes into its log of sends right after it has answered is waited for so long; and
# so long is waited for what it should not write.
LOGGED_S, LOOKED_AT_EVERY_S, SETTLED_S = 3.0, 0.05, 0.4
EXPIRES_IN_S = 600
NUMBER = "{n}"
TITLE = "Onward conformance"


class Failed(Exception):
    """A rule is broken; the message says how, in one sentence."""


class Skipped(Exception):
    """A rule could not be tried; the message says why, and what to give."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the plugin's author says of it."""

    channel: str = ""  # the one to send through; empty: the first that it describes
    endpoints: Sequence[str] = ()  # which it can send to; `{n}` in them becomes a number
    slow: str = ""  # one whose provider takes longer than any deadline; empty: there is none
    sent: Path | None = None  # where it writes a line for each real send
    # A request as its provider signs it; None: there is none to try.
    callback: notifier_pb2.HandleCallbackRequest | None = None


@dataclass(frozen=True, slots=True)
class Sends:
    """What the plugin says it has really sent: a file of JSON lines with `delivery_id` and
    `endpoint`."""

    path: Path

    def of(self, delivery_id: str) -> list[str]:
        """The endpoints that a delivery has been sent to, once for each time."""
        if not self.path.exists():
            return []
        lines = self.path.read_text("utf-8", "replace").split("\n")
        # A line that is being written has no end yet.
        read = [self._read(line, number + 1) for number, line in enumerate(lines[:-1])]
        return [endpoint for own_id, endpoint in read if own_id == delivery_id]

    async def appear(self, delivery_id: str) -> list[str]:
        """As `of`, once there is one, and what follows it at once too."""
        for _ in range(int(LOGGED_S / LOOKED_AT_EVERY_S)):
            if self.of(delivery_id):
                break
            await asyncio.sleep(LOOKED_AT_EVERY_S)
        return await self.settled(delivery_id)

    async def settled(self, delivery_id: str) -> list[str]:
        """As `of`, after a while in which what should not be sent would be."""
        await asyncio.sleep(SETTLED_S)
        return self.of(delivery_id)

    def _read(self, line: str, number: int) -> tuple[str, str]:
        try:
            fields = json.loads(line)
            return str(fields["delivery_id"]), str(fields["endpoint"])
        except (ValueError, KeyError, TypeError):
            raise Failed(
                f"line {number} of {self.path} is no JSON object with delivery_id and endpoint"
            ) from None


class Examined:
    """A plugin at host:port. `trust`: what is shown to it; None: nothing."""

    description: notifier_pb2.DescribeResponse

    def __init__(self, address: str, trust: Trust | None, wishes: Wishes) -> None:
        self.address = address
        self.trust = trust
        self.wishes = wishes
        self.description = notifier_pb2.DescribeResponse()
        self.sends = None if wishes.sent is None else Sends(wishes.sent)
        self._number = 0

    async def __aenter__(self) -> "Examined":
        self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    def connect(self) -> None:
        """Open the connection that calls go through."""
        self._channel = open_channel(self.address, self.trust)
        self.stub: notifier_pb2_grpc.NotifierServiceAsyncStub = (
            notifier_pb2_grpc.NotifierServiceStub(self._channel)
        )
        self._health = health_pb2_grpc.HealthStub(self._channel)

    async def reconnect(self) -> None:
        """Leave that connection, and open another."""
        await self._channel.close()
        self.connect()

    async def reached(self) -> bool:
        """Whether it can be connected to now."""
        async with open_channel(self.address, self.trust) as channel:
            try:
                async with asyncio.timeout(REACHED_S):
                    await channel.channel_ready()
            except TimeoutError:
                return False
        return True

    async def works(self) -> bool:
        """Whether a delivery is answered, over another connection, with whatever outcome."""
        if not await self.reached():
            return False
        await self.reconnect()
        asked = [self.delivery()]
        return await status_of(lambda: self.notify(asked, WORKS_S)) is grpc.StatusCode.OK

    async def describe(self) -> notifier_pb2.DescribeResponse:
        """What it says of itself now. Raises grpc.aio.AioRpcError, as all calls do."""
        return await self.stub.Describe(
            notifier_pb2.DescribeRequest(), timeout=REACHED_S, wait_for_ready=True
        )

    async def health(self, service: str = "") -> int:
        """The status that it says a service has."""
        asked = health_pb2.HealthCheckRequest(service=service)
        answer = await self._health.Check(asked, timeout=REACHED_S)
        return int(answer.status)

    async def notify(
        self, deliveries: Sequence[Delivery], deadline_s: float = CALL_S
    ) -> list[Result]:
        """One call with these."""
        request = notifier_pb2.NotifyRequest(deliveries=deliveries)
        response = await self.stub.Notify(request, timeout=deadline_s)
        return list(response.results)

    async def outcome(self, delivery: Delivery) -> int:
        """One call with one delivery: what became of it. Raises Failed without an answer for it."""
        return outcome_of(delivery, await self.notify([delivery]))

    @property
    def scheme(self) -> str:
        """The channel that deliveries go through."""
        if self.wishes.channel:
            return self.wishes.channel
        if self.wishes.endpoints:
            return scheme_of(self.wishes.endpoints[0])
        named = [one.scheme.lower() for one in self.description.channels]
        return next((scheme for scheme in named if scheme != ANY), "conformance")

    @property
    def vouched(self) -> bool:
        """Whether the author named an endpoint of this channel, to which it can send."""
        return self._named(self.scheme) != ""

    @property
    def batch_max(self) -> int:
        """As described, or the default."""
        return self.description.batch_max or BATCH_DEFAULT

    @property
    def concurrency_max(self) -> int:
        """As described, or the default."""
        return self.description.concurrency_max or CONCURRENCY_DEFAULT

    @property
    def endpoint_pattern(self) -> str:
        """What its endpoints of the channel are made from."""
        return self._named(self.scheme) or f"{self.scheme}:conformance-{NUMBER}"

    def named_channels(self) -> Mapping[str, str]:
        """Each channel that it describes by name, with an endpoint the author named, or empty."""
        named = (one.scheme.lower() for one in self.description.channels)
        return {scheme: self._named(scheme) for scheme in named if scheme != ANY}

    def endpoint(self, scheme: str = "") -> str:
        """Another endpoint of the channel: of those the author named, or one that nobody has."""
        self._number += 1
        scheme = scheme or self.scheme
        pattern = self._named(scheme) or f"{scheme}:conformance-{NUMBER}"
        return pattern.replace(NUMBER, str(self._number))

    def delivery(self, endpoint: str = "", **fields: object) -> Delivery:
        """Another delivery, marked as a test; `fields` go into it as they are."""
        delivery = Delivery(
            delivery_id=uuid4().hex,
            notification_id=uuid4().hex,
            attempt=1,
            endpoint=endpoint or self.endpoint(),
            user="conformance",
            subject="/conformance",
            first_seq=1,
            last_seq=1,
            count=1,
            title=TITLE,
            priority=Delivery.NORMAL,
            test=True,
        )
        delivery.collapse_key = delivery.notification_id
        delivery.expires_at.FromSeconds(int(time.time()) + EXPIRES_IN_S)
        message = delivery.messages.add(seq=1, publisher="onward", text="A test.")
        message.accepted_at.GetCurrentTime()
        delivery.MergeFrom(Delivery(**fields))  # type: ignore[arg-type]
        return delivery

    def batch(self, size: int) -> list[Delivery]:
        """So many deliveries."""
        return [self.delivery() for _ in range(size)]

    def need_sends(self) -> Sends:
        """The log of sends. Raises Skipped where the author gave none."""
        if self.sends is None:
            raise Skipped("nothing shows what is sent; give --sent FILE, and have it write there")
        return self.sends

    def _named(self, scheme: str) -> str:
        named = self.wishes.endpoints
        return next((one for one in named if scheme_of(one) == scheme), "")


def scheme_of(endpoint: str) -> str:
    """The channel of an endpoint."""
    return endpoint.partition(":")[0].lower()


def name_of(outcome: int) -> str:
    """An outcome in words; one that the contract does not know is its number."""
    names = Result.Outcome
    return names.Name(names.ValueType(outcome)) if outcome in names.values() else str(outcome)


def outcome_of(delivery: Delivery, results: Sequence[Result]) -> int:
    """What was answered for a delivery. Raises Failed if nothing was."""
    for result in results:
        if result.delivery_id == delivery.delivery_id:
            return int(result.outcome)
    raise Failed("a delivery was asked about, and the results hold no answer for it")


async def status_of(call: Callable[[], Awaitable[object]]) -> grpc.StatusCode:
    """What a call ends with."""
    try:
        await call()
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK
