"""Asks a plugin how it is, by grpc.health.v1.

Knows that protocol. Must not know what follows from the answer. A plugin that does not speak it
says nothing of its health, and counts as healthy; so does one whose answer is neither word. To
drive it: `await asked(channel, said)` now and then, with what it said before.
"""

from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

SERVING, NOT_SERVING, SILENT = "SERVING", "NOT_SERVING", ""
# How often a plugin is asked; it is spared calls for as long at most after it says so.
ASK_EVERY_S = 1.0
_DEADLINE_S = 2.0
_WORDS = {
    health_pb2.HealthCheckResponse.SERVING: SERVING,
    health_pb2.HealthCheckResponse.NOT_SERVING: NOT_SERVING,
}
# It does not speak the protocol, or does not know of itself as a whole.
_NO_WORD = frozenset({grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.NOT_FOUND})


async def asked(channel: grpc.aio.Channel, said: str) -> str:
    """What the plugin says now; where no answer comes, what it `said` before."""
    stub: Any = health_pb2_grpc.HealthStub(channel)
    try:
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=_DEADLINE_S)
    except grpc.aio.AioRpcError as error:
        return SILENT if error.code() in _NO_WORD else said
    return _WORDS.get(answer.status, SILENT)
