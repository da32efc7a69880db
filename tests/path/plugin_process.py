"""A notifier plugin as a process of its own, that a test can tell what to do, and kill.

    python -m tests.path.plugin_process SCHEME PORT FILE

It serves the channel SCHEME to whoever shows ONWARD_SECRET, and prints each delivery that it is
handed as a line of JSON. How it answers stands in FILE: an outcome, or `hang`.
"""

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from onward.notifier.v1 import notifier_pb2, notifier_pb2_grpc

from services.chassis.server import Server

R = notifier_pb2.Result


class Plugin(notifier_pb2_grpc.NotifierServiceServicer):
    """Answers as the file says when it is called."""

    def __init__(self, scheme: str, answer: Path) -> None:
        self._scheme = scheme
        self._answer = answer

    async def Describe(self, request: Any, context: Any) -> notifier_pb2.DescribeResponse:
        channel = notifier_pb2.Channel(scheme=self._scheme, repeats_unknown=True)
        return notifier_pb2.DescribeResponse(
            name=f"{self._scheme}-plugin", channels=[channel], callbacks=True
        )

    async def Notify(self, request: Any, context: Any) -> notifier_pb2.NotifyResponse:
        for one in request.deliveries:
            told = {"id": one.delivery_id, "user": one.user, "attempt": one.attempt}
            print(json.dumps(told | {"test": one.test, "at": time.time()}), flush=True)
        word = self._answer.read_text().strip()
        if word == "hang":
            await asyncio.Event().wait()
        outcome = R.Outcome.Value(word)
        return notifier_pb2.NotifyResponse(
            results=[R(delivery_id=one.delivery_id, outcome=outcome) for one in request.deliveries]
        )

    async def HandleCallback(
        self, request: Any, context: Any
    ) -> notifier_pb2.HandleCallbackResponse:
        if request.headers.get("x-signature") != "good":
            return notifier_pb2.HandleCallbackResponse(status=403)
        event = notifier_pb2.DeliveryEvent(
            delivery_id=request.body.decode(), kind=notifier_pb2.DeliveryEvent.DELIVERED
        )
        return notifier_pb2.HandleCallbackResponse(status=200, body=request.url, events=[event])


async def main(scheme: str, port: str, answer: str) -> None:
    """Serve until killed."""
    server = Server(
        f"127.0.0.1:{port}", os.environ["ONWARD_SECRET"], ["onward.notifier.v1.NotifierService"]
    )
    notifier_pb2_grpc.add_NotifierServiceServicer_to_server(
        Plugin(scheme, Path(answer)), server.grpc
    )
    await server.start()
    await server.set_serving(True)
    print(json.dumps({"ready": True}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
