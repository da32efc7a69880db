"""Two receivers of notifications that note when each came: a plugin by gRPC, and an SMTP server."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
from aiosmtpd.smtp import SMTP
from onward.notifier.v1 import notifier_pb2, notifier_pb2_grpc

SCHEME = "webpush"


class Inbox:
    """Who was notified, and when, on the monotonic clock in seconds; by the endpoint's name."""

    def __init__(self) -> None:
        self.came: dict[str, float] = {}
        self._news = asyncio.Event()

    def note(self, endpoint: str) -> None:
        """A notification for this endpoint is here; only the first counts."""
        self.came.setdefault(endpoint, time.monotonic())
        self._news.set()

    async def wait_for(self, endpoint: str, deadline_s: float) -> float:
        """When the endpoint was notified first."""
        async with asyncio.timeout(deadline_s):
            while endpoint not in self.came:
                self._news.clear()
                await self._news.wait()
        return self.came[endpoint]


class _Plugin(notifier_pb2_grpc.NotifierServiceServicer):
    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    async def Describe(self, request: Any, context: Any) -> notifier_pb2.DescribeResponse:
        return notifier_pb2.DescribeResponse(
            name="bench",
            version="1",
            channels=[notifier_pb2.Channel(scheme=SCHEME, repeats_unknown=True)],
            batch_max=100,
            concurrency_max=4,
        )

    async def Notify(self, request: Any, context: Any) -> notifier_pb2.NotifyResponse:
        response = notifier_pb2.NotifyResponse()
        for delivery in request.deliveries:
            self._inbox.note(delivery.endpoint)
            response.results.add(
                delivery_id=delivery.delivery_id, outcome=notifier_pb2.Result.ACCEPTED
            )
        return response


class _Mails:
    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        for address in envelope.rcpt_tos:
            self._inbox.note(f"mailto:{address}")
        return "250 OK"


@asynccontextmanager
async def open_inbox() -> AsyncIterator[tuple[Inbox, int, int]]:
    """An inbox, the port of its plugin, and the port of its SMTP server."""
    inbox = Inbox()
    plugin = grpc.aio.server()
    notifier_pb2_grpc.add_NotifierServiceServicer_to_server(_Plugin(inbox), plugin)
    plugin_port = plugin.add_insecure_port("127.0.0.1:0")
    await plugin.start()
    loop = asyncio.get_running_loop()
    mails = await loop.create_server(
        lambda: SMTP(_Mails(inbox), hostname="127.0.0.1", loop=loop), "127.0.0.1", 0
    )
    try:
        yield inbox, plugin_port, mails.sockets[0].getsockname()[1]
    finally:
        mails.close()
        await plugin.stop(None)
