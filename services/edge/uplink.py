"""One stream to each coordinator: keeps it open, writes what the outbox has, reads the answers.

Knows gRPC and the heartbeat; must not know what requests mean, nor what becomes of answers
(`Receiver`). A stream that says nothing for `SILENT_S` is dead: a frozen peer's kernel goes on
answering TCP. What queued while a write was under way goes out with the next, without timers.
"""

import asyncio
from collections.abc import Collection, Mapping
from typing import Final, Protocol

import grpc
import grpc.aio
from onward.coordinator.v1 import coordinator_pb2, coordinator_pb2_grpc
from prometheus_client import Counter

from services.chassis import logs
from services.chassis.channel import credentials, open_channel
from services.chassis.tls import Trust
from services.edge.outbox import Outbox
from services.edge.tallies import APPENDS_SENT

UplinkRequest = coordinator_pb2.UplinkRequest
Call = grpc.aio.StreamStreamCall[coordinator_pb2.UplinkRequest, coordinator_pb2.UplinkResponse]

HEARTBEAT_S: Final = 0.5
SILENT_S: Final = 2.0
_RECONNECT_S: Final = 0.1
_BACKOFF_MAX_S: Final = 1.0

BROKEN = Counter("onward_edge_uplinks_broken_total", "Streams to coordinators that broke")
log = logs.get(__name__)


class Receiver(Protocol):
    """Who is told what comes by the streams; implemented by the exchange, and by tests."""

    def on_link_up(self, coordinator: str, hello: coordinator_pb2.UplinkResponse.Hello) -> None:
        """A stream is open; everything unanswered is about to be sent on it."""

    def on_link_down(self, coordinator: str) -> None:
        """It broke."""

    def on_batch(self, batch: coordinator_pb2.UplinkResponse.Batch) -> None:
        """Answers and deliveries came."""

    async def room(self) -> None:
        """Returns when what came has been passed on so far that more may come."""


class Uplinks:
    """The streams to all coordinators. `run` owns their tasks; `follow` says who is there."""

    def __init__(self, outbox: Outbox, receiver: Receiver, trust: Trust | str) -> None:
        self.outbox = outbox
        self.receiver = receiver
        self.trust = trust
        self._links: dict[str, _Link] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._edge_id = 0

    @property
    def links(self) -> Mapping[str, bool]:
        """Every coordinator that a stream is kept to, and whether it is open."""
        return {name: link.up for name, link in self._links.items()}

    @property
    def up(self) -> set[str]:
        """Coordinators whose stream is open."""
        return {name for name, link in self._links.items() if link.up}

    def follow(self, edge_id: int, coordinators: Mapping[str, str]) -> None:
        """Keeps a stream to each of `coordinators` (name → address), and no other.

        `edge_id` 0 (no lease): none at all.
        """
        wanted = dict(coordinators) if edge_id else {}
        for name, link in list(self._links.items()):
            if wanted.get(name) != link.address or edge_id != self._edge_id:
                del self._links[name]
                link.stop()
        self._edge_id = edge_id
        if self._tasks is None:
            return
        for name, address in wanted.items():
            if name not in self._links:
                link = _Link(name, address, edge_id, self)
                self._links[name] = link
                link.task = self._tasks.create_task(link.run())

    def hurry(self, coordinators: Collection[str]) -> None:
        """These have just been seen alive: whatever failed before, try again now."""
        for name in coordinators:
            if (link := self._links.get(name)) is not None and not link.up:
                link.hurry.set()

    def wake(self) -> None:
        """Something was put into the outbox."""
        for name in self.outbox.waiting():
            if (link := self._links.get(name)) is not None:
                link.wake.set()

    async def run(self, tasks: asyncio.TaskGroup) -> None:
        """Has the streams' tasks in `tasks`, until cancelled."""
        self._tasks = tasks
        try:
            await asyncio.Event().wait()
        finally:
            self._tasks = None
            for link in self._links.values():
                link.stop()
            self._links.clear()


class _Link:
    """The stream to one coordinator, reopened until stopped."""

    def __init__(self, name: str, address: str, edge_id: int, uplinks: Uplinks) -> None:
        self.name = name
        self.address = address
        self.task: asyncio.Task[None] | None = None
        self.wake = asyncio.Event()
        self.hurry = asyncio.Event()  # do not wait to be reopened
        self.up = False
        self._edge_id = edge_id
        self._uplinks = uplinks
        self._heard_at = 0.0
        self._pausing = False  # nothing is read, because what came must be passed on first
        self._beat = 0  # the heartbeat to send with the next write; 0: none is due
        self._beats = 0

    def stop(self) -> None:
        self._down()
        if self.task is not None:
            self.task.cancel()

    async def run(self) -> None:
        pause_s = _RECONNECT_S
        while True:
            self.hurry.clear()
            # A channel for each attempt: gRPC waits longer and longer between its own, and knows
            # nothing of what the directory tells.
            async with open_channel(self.address, self._uplinks.trust) as channel:
                if await self._attempt(channel):
                    pause_s = _RECONNECT_S
            try:
                async with asyncio.timeout(pause_s):
                    await self.hurry.wait()
                    pause_s = _RECONNECT_S
            except TimeoutError:
                pause_s = min(pause_s * 2, _BACKOFF_MAX_S)

    async def _attempt(self, channel: grpc.aio.Channel) -> bool:
        """Open the stream, and serve it until it breaks; False: it could not be opened."""
        opened = False
        stub = coordinator_pb2_grpc.CoordinatorServiceStub(channel)
        call: Call = stub.Uplink(metadata=credentials(self._uplinks.trust))
        try:
            await self._open(call)
            opened = True
            await self._serve(call)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, TimeoutError):
            pass
        except asyncio.CancelledError:
            # A peer that cancels the call raises this too.
            if self.task is None or self.task.cancelling():
                raise
        finally:
            call.cancel()
            if self.up:
                BROKEN.inc()
                log.info("uplink_broken", coordinator=self.name)
            self._down()
        return opened

    def _down(self) -> None:
        if self.up:
            self.up = False
            self._uplinks.receiver.on_link_down(self.name)

    async def _open(self, call: Call) -> None:
        async with asyncio.timeout(SILENT_S):
            hello = UplinkRequest.Hello(edge_id=self._edge_id)
            await call.write(UplinkRequest(hello=hello))
            answer = await call.read()
        if not isinstance(answer, coordinator_pb2.UplinkResponse) or not answer.HasField("hello"):
            raise asyncio.InvalidStateError("no hello")
        self._heard_at = asyncio.get_running_loop().time()
        self._pausing = False
        self.up = True
        self._beats = self._beat = 0
        self._uplinks.receiver.on_link_up(self.name, answer.hello)
        self.wake.set()

    async def _serve(self, call: Call) -> None:
        """Reads, writes and beats until one of the three ends, and with it the stream.

        Each is a task of its own: a call that is cancelled here raises CancelledError in whoever
        waits for it, which must not be taken for the cancellation of the link.
        """
        parts = [
            asyncio.create_task(part)
            for part in (self._read(call), self._write(call), self._keep_beating())
        ]
        try:
            await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for part in parts:
                part.cancel()
            outcomes = await asyncio.gather(*parts, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome

    async def _read(self, call: Call) -> None:
        loop = asyncio.get_running_loop()
        while True:
            response = await call.read()
            if not isinstance(response, coordinator_pb2.UplinkResponse):
                return
            self._heard_at = loop.time()
            if self.up and response.HasField("batch"):
                self._uplinks.receiver.on_batch(response.batch)
                self._pausing = True
                await self._uplinks.receiver.room()
                self._pausing = False
                self._heard_at = loop.time()

    async def _write(self, call: Call) -> None:
        outbox = self._uplinks.outbox
        while True:
            await self.wake.wait()
            self.wake.clear()
            while (batch := outbox.batch(self.name)) is not None or self._beat:
                batch = batch or UplinkRequest.Batch()
                batch.heartbeat, self._beat = self._beat, 0
                if appends := sum(len(one.appends) for one in batch.partitions):
                    APPENDS_SENT.observe(appends)
                await call.write(UplinkRequest(batch=batch))

    async def _keep_beating(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            if not self._pausing and loop.time() - self._heard_at > SILENT_S:
                log.warning("uplink_silent", coordinator=self.name)
                return
            self._beats += 1
            self._beat = self._beats
            self.wake.set()
