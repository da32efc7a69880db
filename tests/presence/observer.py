"""An extension for tests: real gRPC on a port of its own, answers as scripted, keeps what it took.

`taken` has every happening that was acknowledged, repeats included, in the order of arrival;
`deduplicated()` is what an extension that minds positions has. Its checks are those of any
extension: within a partition positions follow one another, but for repeats and told gaps.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable

import grpc
from onward.extension.v1 import extension_pb2, extension_pb2_grpc
from onward.types.v1 import entry_pb2

from services.chassis.server import Server

Happening = extension_pb2.UserPresence | extension_pb2.ClusterMessage
Step = Callable[[object, grpc.aio.ServicerContext], Awaitable[None]]


class Observer(extension_pb2_grpc.PresenceExtensionServiceServicer):
    """Takes everything, unless `script` says otherwise: one entry for each call, then it takes.

    An entry is awaited before the answer; it may abort, raise, or hang.
    """

    def __init__(self, secret: str) -> None:
        self._secret = secret
        self.script: list[Step] = []
        # For every call, whatever the script says; None: nothing.
        self.always: Step | None = None
        self.calls: list[object] = []
        self.taken: list[Happening] = []
        self.gaps: list[tuple[int, int, int]] = []
        self.under_way: dict[int, int] = defaultdict(int)
        self.most_under_way = 0
        self.overlaps = 0
        self.port = 0
        self._server: Server | None = None

    async def start(self) -> str:
        names = ["onward.extension.v1.PresenceExtensionService"]
        self._server = Server(f"127.0.0.1:{self.port}", self._secret, names)
        extension_pb2_grpc.add_PresenceExtensionServiceServicer_to_server(self, self._server.grpc)
        await self._server.start()
        self.port = self._server.port
        return f"127.0.0.1:{self.port}"

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.drain(0)
            self._server = None

    async def OnUserPresence(self, request, context):
        await self._take(request, request.events[0].position.partition, context)
        self.taken.extend(request.events)
        return extension_pb2.OnUserPresenceResponse()

    async def OnClusterMessage(self, request, context):
        await self._take(request, request.messages[0].position.partition, context)
        self.taken.extend(request.messages)
        return extension_pb2.OnClusterMessageResponse()

    async def OnGap(self, request, context):
        await self._take(request, request.partition, context)
        self.gaps.append((request.partition, request.from_number, request.to_number))
        return extension_pb2.OnGapResponse()

    async def _take(self, request, partition: int, context) -> None:
        self.calls.append(request)
        self.overlaps += self.under_way[partition]
        self.under_way[partition] += 1
        self.most_under_way = max(self.most_under_way, sum(self.under_way.values()))
        try:
            if self.always is not None:
                await self.always(request, context)
            if self.script:
                await self.script.pop(0)(request, context)
        finally:
            self.under_way[partition] -= 1

    # -- what it knows ------------------------------------------------------------------------

    def deduplicated(self) -> list[Happening]:
        """What it has taken, each position once. Asserts order and that nothing is missing."""
        last: dict[int, int] = {}
        gap_ends = {(p, first): end for p, first, end in self.gaps}
        kept: list[Happening] = []
        for one in self.taken:
            partition, number = one.position.partition, one.position.number
            if number <= last.get(partition, 0):
                continue
            if partition in last:
                expected = last[partition] + 1
                while (partition, expected) in gap_ends:
                    expected = gap_ends[partition, expected] + 1
                assert number >= expected, (partition, number, expected)
            last[partition] = number
            kept.append(one)
        return kept

    def numbers(self, partition: int) -> list[int]:
        """The positions it has taken of a partition, each once."""
        found = self.deduplicated()
        return [one.position.number for one in found if one.position.partition == partition]

    def messages(self) -> list[entry_pb2.Message]:
        return [
            one.message
            for one in self.deduplicated()
            if isinstance(one, extension_pb2.ClusterMessage)
        ]

    def texts(self, subject: str) -> list[str]:
        return [m.content.text for m in self.messages() if m.subject == subject]

    def presences(self, user: str) -> list[extension_pb2.UserPresence]:
        return [
            one
            for one in self.deduplicated()
            if isinstance(one, extension_pb2.UserPresence) and one.user == user
        ]


async def never(request, context) -> None:
    """Hangs until the call is given up."""
    await asyncio.Event().wait()


def aborting(code: grpc.StatusCode) -> Step:
    """Fails with a status."""

    async def abort(request, context) -> None:
        await context.abort(code, "as the test wants it")

    return abort


async def broken(request, context) -> None:
    """Fails as a bug does."""
    raise ValueError("a bug of the extension")
