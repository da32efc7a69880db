"""gRPC channels over the simulated network: what services open, and what answers there.

`Switchboard.open_channel` stands in for `services.chassis.channel.open_channel`. A call is known by
the last part of its path, such as `Uplink`; whoever serves an address is registered there, with the
process it runs in. A stream that breaks, ends at both ends, as soon as each can know.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from onward.coordinator.v1.coordinator_pb2 import UplinkRequest, UplinkResponse

from services.chassis.errors import Fault
from tests.simulation.network import LostError, Network, Pipe
from tests.simulation.virtual_time import PROCESS, Process

_NOTICED_S = 0.2  # how often a channel looks at its connection
Unary = Callable[[Any, "Context"], Awaitable[Any]]
Stream = Callable[[AsyncIterator[Any], "Context"], AsyncIterator[Any]]


@dataclass(slots=True)
class Port:
    """Who serves an address: its calls by name."""

    process: Process
    unary: Mapping[str, Unary] = field(default_factory=dict)
    streams: Mapping[str, Stream] = field(default_factory=dict)


class RefusedError(Exception):
    """A server has aborted a call."""

    def __init__(self, status: grpc.StatusCode) -> None:
        super().__init__(status.name)
        self.status = status


class Context:
    """What a servicer may do with a call."""

    async def abort(self, status: grpc.StatusCode, message: str) -> None:
        raise RefusedError(status)


class Switchboard:
    """All addresses."""

    def __init__(
        self, network: Network, refused: Callable[[str], None] = lambda publication_id: None
    ) -> None:
        """`refused` is told of each publish that an edge hears to be refused."""
        self.network, self.refused = network, refused
        self.ports: dict[str, Port] = {}

    def open_channel(self, address: str, *_: Any, **__: Any) -> "Channel":
        """A channel of the process that calls."""
        process = PROCESS.get()
        assert process is not None, "only processes open channels"
        return Channel(self, process, address)

    def port(self, address: str) -> Port | None:
        port = self.ports.get(address)
        return port if port is not None and port.process.alive else None


class Channel:
    """What the stubs need of a grpc.aio.Channel."""

    def __init__(self, switchboard: Switchboard, process: Process, address: str) -> None:
        self._switchboard = switchboard
        self._process = process
        self._address = address

    async def __aenter__(self) -> "Channel":
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing is kept open but by calls."""

    async def close(self, grace: float | None = None) -> None:
        """Nothing is kept open but by calls."""

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        there = self._switchboard.port(self._address)
        me, network = self._process.name, self._switchboard.network
        if there is not None and network.reachable(me, there.process.name):
            return grpc.ChannelConnectivity.READY
        return grpc.ChannelConnectivity.TRANSIENT_FAILURE

    async def wait_for_state_change(self, state: grpc.ChannelConnectivity) -> None:
        while self.get_state() is state:  # noqa: ASYNC110  # nobody tells: it depends on ways
            await asyncio.sleep(_NOTICED_S)

    def stream_stream(self, path: str, *_: Any, **__: Any) -> Callable[..., "StreamCall"]:
        name = path.rpartition("/")[2]
        return lambda **_: StreamCall(self._switchboard, self._process, self._address, name)

    def unary_unary(self, path: str, *_: Any, **__: Any) -> Callable[..., Awaitable[Any]]:
        name = path.rpartition("/")[2]

        def call(request: Any, timeout: float = 5.0, **_: Any) -> Awaitable[Any]:
            return self._ask(name, request, timeout)

        return call

    def unary_stream(self, path: str, *_: Any, **__: Any) -> Callable[..., Any]:
        def call(*_: Any, **__: Any) -> Any:
            raise _error(grpc.StatusCode.UNIMPLEMENTED)

        return call

    stream_unary = unary_stream

    async def _ask(self, name: str, request: Any, timeout_s: float) -> Any:
        switchboard, me = self._switchboard, self._process.name
        network, loop = switchboard.network, switchboard.network.loop
        port = switchboard.port(self._address)
        if port is None:
            await asyncio.sleep(network.delay(me, self._address))
            raise _error(grpc.StatusCode.UNAVAILABLE)
        there, answer = port.process, loop.create_future()

        async def serve() -> None:
            try:
                if name not in port.unary:
                    raise RefusedError(grpc.StatusCode.UNIMPLEMENTED)
                outcome, status = await port.unary[name](request, Context()), None
            except RefusedError as error:
                outcome, status = None, error.status
            except Fault as fault:
                outcome, status = None, fault.status
            seconds = network.delay(there.name, me)
            network.later(seconds, tell, outcome, status)

        def arrive() -> None:
            if network.reachable(me, there.name) and there.alive:
                there.spawn(serve())

        def tell(outcome: Any, status: grpc.StatusCode | None) -> None:
            if answer.done() or not network.reachable(me, there.name):
                return
            if status is None:
                answer.set_result(outcome)
            else:
                answer.set_exception(_error(status))

        def give_up() -> None:
            if not answer.done():
                answer.set_exception(_error(grpc.StatusCode.DEADLINE_EXCEEDED))

        network.later(network.delay(me, there.name), arrive)
        network.later(timeout_s, give_up)
        return await answer


class StreamCall:
    """The caller's half of a stream, and what carries it."""

    def __init__(self, switchboard: Switchboard, caller: Process, address: str, name: str) -> None:
        network = switchboard.network
        self._come: list[Any] = []  # what came and was not read; EOF and errors too
        self._ready = asyncio.Event()
        self._refused = switchboard.refused
        self._publishes: dict[int, str] = {}  # of an uplink: publication ids by request
        self._server = _ServerHalf()
        port = switchboard.port(address)
        there = port.process.name if port else address
        self._up = Pipe(network, caller.name, there, self._server.take, self._server.end)
        self._down = Pipe(network, there, caller.name, self._take, self._broken)
        if port is None:
            self._up.close()
            self._down.end()  # refused
        else:
            self._server.open(port, name, self._up, self._down)

    async def write(self, item: Any) -> None:
        if self._up.over:
            raise asyncio.InvalidStateError("the call has ended")
        for part in item.batch.partitions if isinstance(item, UplinkRequest) else ():
            for append in part.appends:
                self._publishes[append.request] = append.publish.publication_id
        self._up.send(item)
        await asyncio.sleep(0)

    async def read(self) -> Any:
        await self._ready.wait()
        item = self._come[0]
        if isinstance(item, BaseException):
            raise item
        if item is not grpc.aio.EOF:
            del self._come[0]
            if not self._come:
                self._ready.clear()
        return item

    def cancel(self) -> None:
        self._up.end()
        self._down.close()
        self._take(asyncio.CancelledError())

    def _take(self, item: Any) -> None:
        for answer in item.batch.appended if isinstance(item, UplinkResponse) else ():
            publication_id = self._publishes.pop(answer.request, "")
            if publication_id and answer.HasField("refusal"):
                self._refused(publication_id)
        self._come.append(item)
        self._ready.set()

    def _broken(self) -> None:
        self._up.close()
        # A stream that its server has ended, and one that broke, differ in nothing that counts.
        self._take(_error(grpc.StatusCode.UNAVAILABLE))


class _ServerHalf:
    """The other half, and the task that serves it."""

    def __init__(self) -> None:
        self._come: list[Any] = []
        self._ready = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._begin: Callable[[], None] = lambda: None

    def open(self, port: Port, name: str, up: Pipe, down: Pipe) -> None:
        def begin() -> None:
            if port.process.alive:
                self._task = port.process.spawn(self._serve(port.streams[name], up, down))

        self._begin = begin

    def take(self, item: Any) -> None:
        if self._task is None:
            self._begin()
        self._come.append(item)
        self._ready.set()

    def end(self) -> None:
        """The caller has ended the call, or is no more: gRPC cancels who serves it."""
        if self._task is not None:
            self._task.cancel()

    async def _serve(self, stream: Stream, up: Pipe, down: Pipe) -> None:
        try:
            async for item in stream(self._items(), Context()):
                down.send(item)
        except (RefusedError, LostError):
            pass
        finally:
            up.close()
            down.end()

    async def _items(self) -> AsyncIterator[Any]:
        while True:
            await self._ready.wait()
            item = self._come.pop(0)
            if not self._come:
                self._ready.clear()
            yield item


def _error(status: grpc.StatusCode) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(status, grpc.aio.Metadata(), grpc.aio.Metadata())
