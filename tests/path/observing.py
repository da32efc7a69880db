"""An extension as a process of its own, to be killed: keeps what it is told in a file.

`python -m tests.path.observing HOST:PORT FILE`, with ONWARD_SECRET. Each call is written as lines
of JSON by one write, and then answered, or not: now and then it fails before it has written, or
after. So the file has repeats, and must have no hole. `read(file)` gives what is in it, each
position once, and checks that.
"""

import asyncio
import json
import os
import random
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import grpc
from onward.extension.v1 import extension_pb2 as pb
from onward.extension.v1 import extension_pb2_grpc

from services.chassis.server import Server

_FAILS_BEFORE, _FAILS_AFTER = 0.03, 0.03


class Observing(extension_pb2_grpc.PresenceExtensionServiceServicer):
    """Writes to a file."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._dice = random.Random()

    async def OnUserPresence(self, request: pb.OnUserPresenceRequest, context: Any) -> Any:
        rows = [
            {
                "at": [one.position.partition, one.position.number],
                "user": one.user,
                "client": one.client_id,
                "generation": one.generation,
                "offline": one.client_offline,
                "nobody": one.is_offline,
            }
            for one in request.events
        ]
        await self._keep(rows, context)
        return pb.OnUserPresenceResponse()

    async def OnClusterMessage(self, request: pb.OnClusterMessageRequest, context: Any) -> Any:
        rows = [
            {
                "at": [one.position.partition, one.position.number],
                "subject": one.message.subject,
                "seq": one.message.seq,
                "text": one.message.content.text,
            }
            for one in request.messages
        ]
        await self._keep(rows, context)
        return pb.OnClusterMessageResponse()

    async def OnGap(self, request: pb.OnGapRequest, context: Any) -> Any:
        gap = [request.partition, request.from_number, request.to_number]
        await self._keep([{"gap": gap}], context)
        return pb.OnGapResponse()

    async def _keep(self, rows: list[dict[str, Any]], context: Any) -> None:
        await asyncio.sleep(self._dice.random() * 0.01)
        drawn = self._dice.random()
        if drawn < _FAILS_BEFORE:
            await context.abort(grpc.StatusCode.INTERNAL, "it is told that nothing was taken")
        os.write(self._fd, "".join(json.dumps(row) + "\n" for row in rows).encode())
        if drawn > 1 - _FAILS_AFTER:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the answer is lost")


def read(path: Path) -> tuple[list[dict[str, Any]], int]:
    """What was taken, each position once, and how many repeats there were. Within a partition
    positions follow one another; there must be no gap."""
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    last: dict[int, int] = defaultdict(int)
    kept = []
    for row in rows:
        assert "gap" not in row, row
        partition, number = row["at"]
        if number <= last[partition]:
            continue
        assert number == last[partition] + 1, f"a hole below {row['at']}"
        last[partition] = number
        kept.append(row)
    return kept, len(rows) - len(kept)


async def main() -> None:
    address, path = sys.argv[1:]
    server = Server(
        address, os.environ["ONWARD_SECRET"], ["onward.extension.v1.PresenceExtensionService"]
    )
    extension_pb2_grpc.add_PresenceExtensionServiceServicer_to_server(Observing(path), server.grpc)
    await server.start()
    print("observing ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
