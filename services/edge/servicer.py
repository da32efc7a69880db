"""Serves EdgeService: what other services and operators ask of an edge by gRPC."""

from collections.abc import Callable
from typing import Any

import grpc.aio
from onward.edge.v1 import edge_pb2, edge_pb2_grpc

from services.chassis import logs
from services.edge.status import Status

log = logs.get(__name__)

SERVICE = "onward.edge.v1.EdgeService"


class Servicer(edge_pb2_grpc.EdgeServiceServicer):
    """Answers from `status`. `drain()` begins the end of this process, and tells how many seconds
    that may take."""

    def __init__(self, status: Status, drain: Callable[[], float]) -> None:
        self._status = status
        self._drain = drain

    async def GetStatus(
        self, request: edge_pb2.GetStatusRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> edge_pb2.GetStatusResponse:
        return self._status.response()

    async def Drain(
        self, request: edge_pb2.DrainRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> edge_pb2.DrainResponse:
        log.info("drain_asked")
        return edge_pb2.DrainResponse(at_most_ms=round(self._drain() * 1000))
