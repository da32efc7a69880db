"""What the edge counts about HTTP. Labels are paths of ours, statuses and words; nothing asked."""

import time
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web
from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Counter(
    "onward_edge_http_requests_total",
    "HTTP requests answered, by path (`other`: none of ours) and status",
    ["path", "status"],
)
SECONDS = Histogram(
    "onward_edge_http_request_seconds",
    "Time from a request's head to the end of its answer, by path; without streams",
    ["path"],
    buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
)
STORIES = Gauge("onward_edge_story_streams", "Story streams that are open now")
STORIES_ENDED = Counter(
    "onward_edge_story_streams_ended_total",
    "Story streams that ended: gone (the reader left), slow, drained, expired, refused, failed",
    ["reason"],
)
_STREAMED: Final = "text/event-stream"


@web.middleware
async def measured(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Counts the request and times it; the outermost of the middlewares, to see what all answer."""
    began = time.perf_counter()
    status = 499  # the client has gone: nobody is answered
    streamed = False
    try:
        response = await handler(request)
        status, streamed = response.status, response.content_type == _STREAMED
        return response
    except web.HTTPException as error:
        status = error.status
        raise
    finally:
        resource = request.match_info.route.resource
        path = resource.canonical if resource is not None else "other"
        REQUESTS.labels(path, str(status)).inc()
        if not streamed:
            SECONDS.labels(path).observe(time.perf_counter() - began)
