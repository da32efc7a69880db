"""The edge over plain HTTP: publish, history, explain, and what operators ask and have done.

Says who may ask what, and writes JSON; the work is the `Backend`'s. Users' data, and who is there,
are served by `http_users`, `http_presence` and `http_mute`. Must not know sockets or owners. 64-bit
numbers are strings in JSON, as everywhere in the client protocol.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import orjson
from aiohttp import web
from onward.client.v1 import client_pb2
from onward.presence.v1 import presence_pb2
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from services.chassis.refusals import Code, refuse
from services.edge import codec
from services.edge.backend import Backend, History
from services.edge.cluster_status import status_object
from services.edge.http_callbacks import CallbackLimits, CallbackRoutes
from services.edge.http_delivery import DeliveryRoutes
from services.edge.http_extensions import ExtensionRoutes
from services.edge.http_mute import HttpMute
from services.edge.http_page import page_routes
from services.edge.http_presence import HttpPresence
from services.edge.http_refusal import Refused, json_response
from services.edge.http_request import (
    Requests,
    check_name,
    check_subject,
    number,
    shown,
    unless_refused,
)
from services.edge.http_story import MEDIA_TYPE, OUTCOMES_MAX, StoryLimits, StoryStreams
from services.edge.http_users import HttpUsers
from services.edge.tokens import Authenticator

_LIMIT: Final = 100  # messages or outcomes, if the request names no limit
_LIMIT_MAX: Final = 1_000
_SEQ_MAX: Final = (1 << 63) - 1  # stores count in signed 64 bits


class HttpApi:
    """Handlers of the HTTP API. `is_ready` says whether this edge can work now.

    `body_s`: seconds a body may take to arrive. `page`: serve the page to try things out. `shared`:
    other processes answer at the same address, so that nothing is told which is one process's own.
    `link_key`: what links in notifications are signed with; empty: there are none.
    """

    def __init__(
        self,
        backend: Backend,
        authenticator: Authenticator,
        is_ready: Callable[[], bool],
        *,
        body_s: float = 15.0,
        page: bool = False,
        shared: bool = False,
        stories: StoryLimits = StoryLimits(),  # noqa: B008 - frozen
        callbacks: CallbackLimits = CallbackLimits(),  # noqa: B008 - frozen
        link_key: str = "",
    ) -> None:
        self._backend = backend
        self._requests = Requests(authenticator, body_s)
        self._is_ready = is_ready
        self._page = page
        self._shared = shared
        self._stories = StoryStreams(stories)
        self._users = HttpUsers(backend, self._requests)
        self._presence = HttpPresence(backend, self._requests, self._stories)
        self._mute = HttpMute(backend, link_key)
        self._extensions = ExtensionRoutes(
            backend.ask_registry, self._check_admin, self._requests.body
        )
        self._deliveries = DeliveryRoutes(
            backend.ask_registry, backend.ask_deliveries, self._check_admin, self._requests.body
        )
        self._callbacks = CallbackRoutes(backend.ask_deliveries, callbacks, self._requests.in_time)

    def routes(self) -> list[web.RouteDef]:
        """All paths but the handshake."""
        routes = [
            web.post("/v1/publish", self._publish),
            web.get("/v1/history", self._history),
            web.get("/v1/explain", self._explain),
            web.get("/v1/status", self._status),
            web.post("/v1/drain", self._drain),
            web.get("/healthz", self._healthz),
            web.get("/readyz", self._readyz),
            web.get("/metrics", self._metrics),
            *self._extensions.routes(),
            *self._deliveries.routes(),
            *self._callbacks.routes(),
            *self._users.routes(),
            *self._presence.routes(),
            *self._mute.routes(),
        ]
        return [*routes, *page_routes()] if self._page else routes

    def end_streams(self) -> None:
        """Ends what would not end by itself: the edge drains."""
        self._stories.end_all()

    async def _publish(self, request: web.Request) -> web.StreamResponse:
        """`POST /v1/publish`: the fields of a publish frame as a JSON object."""
        caller = self._requests.caller(request).grants
        publish = _read_publish(await self._requests.object(request))
        check_subject(publish.subject)
        if not caller.may_publish(publish.subject):
            raise Refused(refuse(Code.SUBJECT_FORBIDDEN, "Publishing there is not granted."))
        accepted = unless_refused(await self._backend.publish(caller.user, publish))
        return json_response(
            {
                "seq": str(accepted.seq),
                "epoch": str(accepted.epoch),
                "duplicate": accepted.duplicate,
            }
        )

    async def _history(self, request: web.Request) -> web.StreamResponse:
        """`GET /v1/history?subject=&after=&limit=`, or `&last=` for the newest."""
        caller = self._requests.caller(request).grants
        subject = request.query.get("subject", "")
        after = number(request, "after", 0, _SEQ_MAX, default=0)
        limit = number(request, "limit", 1, _LIMIT_MAX, default=_LIMIT)
        last = number(request, "last", 1, _LIMIT_MAX, default=0)
        if last and ("after" in request.query or "limit" in request.query):
            message = "`last` goes neither with `after` nor with `limit`."
            raise Refused(refuse(Code.ARGUMENT_INVALID, message))
        check_subject(subject)
        if not caller.may_subscribe(subject):
            raise Refused(refuse(Code.SUBJECT_FORBIDDEN, "Reading that subject is not granted."))
        if last:
            end = unless_refused(await self._backend.read_messages(subject, _SEQ_MAX, 1))
            after, limit = max(end.floor, end.head - last), last
        history = unless_refused(await self._backend.read_messages(subject, after, limit))
        return json_response(_history_object(subject, history))

    async def _explain(self, request: web.Request) -> web.StreamResponse:
        """`GET /v1/explain?user=&subject=&seq=&limit=`; `seq` absent: the newest messages.

        Asked for `text/event-stream`, it goes on telling: see `http_story`.
        """
        user, subject = request.query.get("user", ""), request.query.get("subject", "")
        # Here `user` says whom the question is about.
        known = self._requests.caller(request, "")
        streams = MEDIA_TYPE in request.headers.get("Accept", "")
        seq = number(request, "seq", 0, _SEQ_MAX, default=0)
        limit_max = OUTCOMES_MAX if streams else _LIMIT_MAX
        limit = number(request, "limit", 1, limit_max, default=_LIMIT)
        check_name("user", user)
        check_subject(subject)
        if not known.grants.may_explain(user):
            raise Refused(refuse(Code.FORBIDDEN, "That is another user's story."))
        asked = presence_pb2.ExplainRequest(user=user, subject=subject, seq=seq, limit=limit)
        if streams:
            stories = partial(self._backend.watch_story, asked)
            return await self._stories.serve(request, "story", stories, known)
        return json_response(shown(unless_refused(await self._backend.explain(asked))))

    async def _status(self, request: web.Request) -> web.StreamResponse:
        """`GET /v1/status`: `cluster_status.status_object`, for operators."""
        self._requests.admin(request, "see the status")
        return json_response(status_object(await self._backend.picture()))

    async def _drain(self, request: web.Request) -> web.StreamResponse:
        """`POST /v1/drain`: `{"member": …}` ends in peace; for operators."""
        self._requests.admin(request, "drain a member")
        member = (await self._requests.object(request)).get("member")
        if not isinstance(member, str):
            raise Refused(refuse(Code.ARGUMENT_INVALID, "`member` is the name of a member."))
        draining = unless_refused(await self._backend.drain(member))
        return json_response(
            {
                "service": draining.service,
                "name": draining.name,
                "address": draining.address,
                "atMostMs": draining.at_most_ms,
            }
        )

    async def _healthz(self, _: web.Request) -> web.StreamResponse:
        return json_response({"status": "alive"})

    async def _readyz(self, _: web.Request) -> web.StreamResponse:
        if self._is_ready():
            return json_response({"status": "ready"})
        return json_response({"status": "not ready"}, 503)

    async def _metrics(self, _: web.Request) -> web.StreamResponse:
        if self._shared:
            message = "Several processes share this address; each has ONWARD_EDGE_METRICS_PORT."
            raise Refused(refuse(Code.UNSUPPORTED, message), 404)
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    def _check_admin(self, request: web.Request) -> None:
        self._requests.admin(request, "do that")


def _read_publish(value: dict[str, Any]) -> client_pb2.Publish:
    frame = codec.decode_value({"publish": value})
    if isinstance(frame, client_pb2.ServerFrame):
        raise Refused(frame.error)
    return frame.publish


def _history_object(subject: str, history: History) -> dict[str, Any]:
    messages = []
    for message in history.messages:
        encoded = codec.encode_message(message)
        messages.append(orjson.loads(encoded.before + b"HISTORY" + encoded.after)["message"])
    return {
        "subject": subject,
        "head": str(history.head),
        "floor": str(history.floor),
        "logId": history.log_id,
        "messages": messages,
    }
