"""Tries out a channel: hands one notification to the plugin that serves it, now.

Nothing is recorded, and no breaker learns from it; but none is passed over either: a plugin that
is left alone is left alone by this too. Knows plugins and the contract. Must not know the store or
the wire. To drive it: `await Trial(…).send(endpoint, user, text)`.
"""

import asyncio
import secrets
import time
from dataclasses import dataclass

import grpc
import grpc.aio
from onward.notifier.v1 import notifier_pb2

from services.chassis.channel_names import SCHEME
from services.chassis.errors import Fault
from services.presence import answers
from services.presence.notifications import Answer, scheme_of
from services.presence.plugins import Lane, Plugins

ENDPOINT_MAX = 4_096
TEXT_MAX = 1_000
_TITLE = "A test from Onward"
_TEXT = "If you can read this, notifications reach you here."
_USER = "test"
_SUBJECT = "/test"


class CannotTry(Fault):
    """No plugin can be called for the endpoint now; the message says why."""

    status = grpc.StatusCode.FAILED_PRECONDITION


@dataclass(frozen=True, slots=True)
class Tried:
    """What became of a test: the plugin's name, and its word."""

    plugin: str
    answer: Answer


def endpoint_fault(endpoint: str) -> str:
    """Why nothing can be sent there, in a sentence that does not quote it; empty: it can."""
    if len(endpoint) > ENDPOINT_MAX or not endpoint.isprintable():
        return f"An external token has at most {ENDPOINT_MAX} printable characters."
    scheme, _, rest = endpoint.partition(":")
    if not rest or not SCHEME.fullmatch(scheme.lower()):
        return "An external token is a URI, as in mailto:ann@example.org."
    return ""


class Trial:
    """Test notifications. `deadline_s`: what a plugin has for one."""

    def __init__(self, plugins: Plugins, deadline_s: float) -> None:
        self._plugins = plugins
        self._deadline_s = deadline_s

    async def send(self, endpoint: str, user: str, text: str) -> Tried:
        """Send it. `user`, `text`: may be empty. Raises CannotTry."""
        lane = self._lane(scheme_of(endpoint))
        delivery = _delivery(endpoint, user or _USER, text or _TEXT, self._deadline_s)
        lane.reserved += 1
        try:
            response = await lane.plugin.notify(
                notifier_pb2.NotifyRequest(deliveries=[delivery]), self._deadline_s
            )
        except grpc.aio.AioRpcError as error:
            return Tried(lane.plugin.label, answers.of_error(error.code()))
        finally:
            lane.reserved -= 1
            for one in lane.plugin.lanes.values():
                if one.hungry:
                    one.wake.set()
        [answer] = answers.of_response(response, [delivery.delivery_id]).values()
        return Tried(lane.plugin.label, answer)

    def _lane(self, scheme: str) -> Lane:
        lane = self._plugins.lane_for(scheme)
        if lane is None:
            raise CannotTry(f"No plugin serves {scheme}; register one with `onward notifiers add`.")
        plugin = lane.plugin
        if not plugin.connected.is_set():
            raise CannotTry(f"The plugin {plugin.label} for {scheme} cannot be reached.")
        if not plugin.serving:
            raise CannotTry(
                f"The plugin {plugin.label} for {scheme} does not serve, as it says itself."
            )
        now = asyncio.get_running_loop().time()
        if not lane.breaker.may_call(now):
            fault = f" ({lane.fault})" if lane.fault else ""
            raise CannotTry(
                f"The plugin {plugin.label} fails as a whole for {scheme}{fault} and is left alone "
                "for now; try again later."
            )
        if not lane.may_call(now):
            raise CannotTry(f"The plugin {plugin.label} has as many calls as it takes; try again.")
        return lane


def _delivery(endpoint: str, user: str, text: str, expires_in_s: float) -> notifier_pb2.Delivery:
    notification_id = secrets.token_hex(16)
    delivery = notifier_pb2.Delivery(
        delivery_id=secrets.token_hex(16),
        notification_id=notification_id,
        attempt=1,
        endpoint=endpoint,
        user=user,
        subject=_SUBJECT,
        first_seq=1,
        last_seq=1,
        count=1,
        collapse_key=notification_id,
        title=_TITLE,
        body=text,
        priority=notifier_pb2.Delivery.NORMAL,
        test=True,
    )
    delivery.expires_at.FromNanoseconds(int((time.time() + expires_in_s) * 1e9))
    return delivery
