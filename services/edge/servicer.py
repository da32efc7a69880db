"""Serves EdgeService: what other services and operators ask of an edge by gRPC."""

from typing import Any

import grpc.aio
from onward.edge.v1 import edge_pb2, edge_pb2_grpc

from services.edge.status import Status

SERVICE = "onward.edge.v1.EdgeService"


class Servicer(edge_pb2_grpc.EdgeServiceServicer):
    """Answers from `status`."""

    def __init__(self, status: Status) -> None:
        self._status = status

    async def GetStatus(
        self, request: edge_pb2.GetStatusRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> edge_pb2.GetStatusResponse:
        return self._status.response()
