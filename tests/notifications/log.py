"""The log of a story, and the coordinator that reads it to presence and reports to it.

`Log` is durable and always right; it may be unreadable for a while. Its coordinator reports the
entries of each partition to whoever holds the partition, again and again until they have taken
effect; now and then it tells some that have already.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import grpc
import grpc.aio
from onward.coordinator.v1 import coordinator_pb2
from onward.presence.v1 import presence_pb2, presence_pb2_grpc
from onward.types.v1 import entry_pb2

from services.chassis.subjects import partition_of
from tests.simulation.channels import Context, Port
from tests.simulation.virtual_time import Process

PARTITIONS = 4
ADDRESS = "coordinator:1"
_LOG_ID = "log-1"
_PAUSE_S = 0.02
_ENTRIES_MAX = 12


class Log:
    """All partitions, with the reads and reports of their coordinator."""

    def __init__(self, scene: Any, random: Random) -> None:
        self.entries: dict[int, list[entry_pb2.Entry]] = defaultdict(list)
        self.subjects: dict[str, list[tuple[int, entry_pb2.Message]]] = defaultdict(list)
        self.floors: dict[str, int] = defaultdict(int)
        # As presence has told.
        self.cursors: dict[int, int] = defaultdict(int)
        self.unreadable = False
        self.restless = True  # it repeats what has taken effect
        # Who holds each partition: address of a replica; empty: nobody.
        self.holders: Callable[[], Mapping[int, str]] = dict
        self._scene = scene
        self._random = random
        self.process = Process(scene.loop, "coordinator")
        scene.switchboard.ports[ADDRESS] = Port(
            self.process, unary={"ReadMessages": self._messages, "ReadTails": self._tails}
        )
        self.process.spawn(self._report_all())

    # Writing.

    def publish(self, subject: str, publisher: str, headers: Mapping[str, str]) -> int:
        """Returns the seq."""
        seq = self.head(subject) + 1
        content = entry_pb2.Content(text=f"{subject}#{seq}", headers=headers)
        message = entry_pb2.Message(
            subject=subject, seq=seq, epoch=1, publisher=publisher, content=content
        )
        message.accepted_at.FromNanoseconds(int(self._scene.clock() * 1e9))
        entry = self._append(subject, message=message)
        self.subjects[subject].append((entry.pos, message))
        self._scene.record(
            "message", partition=entry.partition, pos=entry.pos, subject=subject, seq=seq,
            publisher=publisher, headers=dict(headers),
        )  # fmt: skip
        return seq

    def write(self, event: entry_pb2.PresenceEvent, told: Mapping[str, Any]) -> tuple[int, int]:
        """Append an event; `told`: as the judge reads it. Returns where."""
        entry = self._append(event.user, presence=event)
        self._scene.record("event", partition=entry.partition, pos=entry.pos, **told)
        return entry.partition, entry.pos

    def mark(self, edge: int, partition: int, round_: int) -> None:
        pos = self.tail(partition)
        mark = entry_pb2.Mark(edge_id=edge, round=round_, pos=pos)
        entry = entry_pb2.Entry(partition=partition, pos=pos + 1, epoch=1, mark=mark)
        self.entries[partition].append(entry)
        self._scene.record(
            "mark", partition=partition, pos=entry.pos, edge=edge, round=round_, up_to=pos
        )

    def trim(self, subject: str, floor: int) -> None:
        self.floors[subject] = max(self.floors[subject], floor)
        self._scene.record("trimmed", subject=subject, floor=self.floors[subject])

    def _append(self, key: str, **body: Any) -> entry_pb2.Entry:
        partition = partition_of(key, PARTITIONS)
        entry = entry_pb2.Entry(partition=partition, pos=self.tail(partition) + 1, epoch=1, **body)
        self.entries[partition].append(entry)
        return entry

    def tail(self, partition: int) -> int:
        return len(self.entries[partition])

    def head(self, subject: str) -> int:
        return len(self.subjects[subject])

    # Reading.

    async def _messages(
        self, request: coordinator_pb2.ReadMessagesRequest, context: Context
    ) -> coordinator_pb2.ReadMessagesResponse:
        if self.unreadable:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the log is down")
        log, floor = self.subjects[request.subject], self.floors[request.subject]
        after = max(request.after_seq, floor)
        return coordinator_pb2.ReadMessagesResponse(
            messages=[
                coordinator_pb2.Delivery(pos=pos, message=message)
                for pos, message in log[after : after + request.limit]
            ],
            head=len(log),
            floor=floor,
            log_id=_LOG_ID,
        )

    async def _tails(
        self, request: coordinator_pb2.ReadTailsRequest, context: Context
    ) -> coordinator_pb2.ReadTailsResponse:
        if self.unreadable:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the log is down")
        return coordinator_pb2.ReadTailsResponse(
            tails=[
                coordinator_pb2.Tail(partition=partition, pos=self.tail(partition))
                for partition in request.partitions or range(PARTITIONS)
            ],
            log_id=_LOG_ID,
        )

    # Reporting.

    async def _report_all(self) -> None:
        while True:
            parts: dict[str, list[int]] = defaultdict(list)
            for partition, address in self.holders().items():
                if address and self.cursors[partition] < self.tail(partition):
                    parts[address].append(partition)
            for address, partitions in parts.items():
                self._random.shuffle(partitions)
                await self._report(address, partitions)
            await asyncio.sleep(_PAUSE_S)

    async def _report(self, address: str, partitions: list[int]) -> None:
        random = self._random
        request = presence_pb2.ReportRequest(log_id=_LOG_ID)
        for partition in partitions:
            after = self.cursors[partition]
            if self.restless and random.random() < 0.1:
                after = max(0, after - random.randint(1, 6))
            entries = self.entries[partition][after : after + random.randint(3, _ENTRIES_MAX)]
            request.partitions.add(partition=partition, epoch=1, entries=entries)
        stub = presence_pb2_grpc.PresenceServiceStub(self._scene.switchboard.open_channel(address))
        try:
            response = await stub.Report(request, timeout=1.0)
        except grpc.aio.AioRpcError:
            await asyncio.sleep(5 * _PAUSE_S)
            return
        for cursor in response.cursors:
            self.cursors[cursor.partition] = max(cursor.pos, self.cursors[cursor.partition])
