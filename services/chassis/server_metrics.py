"""What a gRPC server counts of its calls. Labels are our own methods and gRPC's codes only."""

import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from prometheus_client import Counter, Gauge, Histogram

CALLS = Counter(
    "onward_grpc_server_calls_total",
    "gRPC calls that ended, by method (without its package) and code",
    ["method", "code"],
)
SECONDS = Histogram(
    "onward_grpc_server_seconds",
    "Time of a gRPC call of one request and one answer, by method",
    ["method"],
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
)
STREAMS = Gauge("onward_grpc_server_streams", "gRPC streams that are open now", ["method"])
UNAUTHENTICATED = Counter(
    "onward_grpc_server_unauthenticated_total", "gRPC calls refused for want of the shared secret"
)

_CODES = {code.value[0]: code.name for code in grpc.StatusCode}


class Measure(grpc.aio.ServerInterceptor):
    """Counts and times calls. It stands behind whoever refuses strangers, so that the methods
    which they name do not become labels."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(details)
        if handler is None:
            return None
        # "/onward.edge.v1.EdgeService/GetStatus" as "EdgeService/GetStatus"
        package_and_service, _, call = details.method.rpartition("/")
        method = f"{package_and_service.rpartition('.')[2]}/{call}"
        if handler.unary_unary is not None:
            return handler._replace(unary_unary=_unary(handler.unary_unary, method))
        for kind in ("unary_stream", "stream_unary", "stream_stream"):
            behaviour = getattr(handler, kind)
            if behaviour is not None:
                return handler._replace(**{kind: _stream(behaviour, method)})
        return handler


def _unary(behaviour: Any, method: str) -> Any:
    async def measured(request: Any, context: Any) -> Any:
        began, ended = time.perf_counter(), "UNKNOWN"
        try:
            response = await behaviour(request, context)
            ended = _code(context, "OK")
            return response
        except BaseException:  # it goes on; what it was is counted
            ended = _code(context, "UNKNOWN")
            raise
        finally:
            CALLS.labels(method, ended).inc()
            SECONDS.labels(method).observe(time.perf_counter() - began)

    return measured


def _stream(behaviour: Any, method: str) -> Any:
    """A stream counts when it ends. gRPC tells by the kind of function how it will answer."""
    if inspect.isasyncgenfunction(behaviour):

        async def answers(request: Any, context: Any) -> AsyncIterator[Any]:
            with _Open(context, method):
                async for response in behaviour(request, context):
                    yield response

        return answers

    async def served(request: Any, context: Any) -> Any:
        with _Open(context, method):
            return await behaviour(request, context)

    return served


class _Open:
    """While a stream is open."""

    def __init__(self, context: Any, method: str) -> None:
        self._context, self._method = context, method

    def __enter__(self) -> None:
        STREAMS.labels(self._method).inc()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        STREAMS.labels(self._method).dec()
        code = _code(self._context, "OK" if kind is None else "CANCELLED")
        CALLS.labels(self._method, code).inc()


def _code(context: Any, otherwise: str) -> str:
    """The code that the handler gave; it has none of its own before the call has ended."""
    code = context.code()
    if isinstance(code, grpc.StatusCode):
        return code.name
    return _CODES.get(code, "UNKNOWN") if code else otherwise
