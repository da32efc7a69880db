"""What goes up on a connection: requests, acknowledgements, and asking again. A pure core.

Knows ids, sizes, what waits for an answer, and when an acknowledgement is due; must not know
phases, or when to connect. Requests made offline wait in order, and go out with `resume`; all but
transient ones, which are of use only now.
"""

from collections.abc import Collection

from onward_sdk.effects import Effect, Fail, Send, Settle
from onward_sdk.errors import (
    Closed,
    OnwardError,
    OutcomeUnknown,
    QueueFull,
    Refused,
    Unreachable,
)
from onward_sdk.events import Limits
from onward_sdk.options import Options
from onward_sdk.pending import PendingRequests, Request
from onward_sdk.protocol import Frame, ack_frame, content_bytes, frame_bytes, subscription_frame
from onward_sdk.protocol import Subscription as Start
from onward_sdk.subscriptions import Subscriptions


class Outgoing:
    """Everything that a client has to say, and has not been answered."""

    def __init__(self, subscriptions: Subscriptions, options: Options) -> None:
        self.limits = Limits()  # as the newest session's server told
        self._subscriptions = subscriptions
        self._ack_delay_s = options.ack_delay_s
        self._age_max_s = options.publish_age_max_s
        self._pending = PendingRequests(options.pending_max)
        self._asking_again: dict[str, str] = {}  # by request: subjects with a hole
        self._ack_at: float | None = None
        self._last_id = 0

    def next_id(self) -> str:
        """An id that no frame had."""
        self._last_id += 1
        return str(self._last_id)

    def request(self, kind: str, body: Frame, now: float, online: bool) -> tuple[str, list[Effect]]:
        """Takes a request; raises QueueFull if too many wait."""
        if self._pending.full:
            raise QueueFull(f"{len(self._pending)} requests wait for an answer")
        request = Request(self.next_id(), {kind: body}, made_at=now)
        if request.is_transient and not online:
            reason = "there is no connection, and a transient message does not wait for one"
            return request.request_id, [Fail(request.request_id, Unreachable(reason))]
        self._pending.add(request)
        return request.request_id, [self._send(request)] if online else []

    def introduced(self, has_list: bool, external_tokens: Collection[str], token: str) -> None:
        """A connect frame goes out that says this; what was asked on an older one is void."""
        self._asking_again.clear()
        self._pending.cover(has_list, external_tokens, token)

    def resume(self, limits: Limits, now: float) -> list[Effect]:
        """The session is open: what the connect frame said is answered, the rest goes out."""
        self.limits = limits
        if limits.dedupe_window_ms:
            self._age_max_s = limits.dedupe_window_ms / 1_000
        effects = self._age(now)  # what is too old must not go out again
        effects += [Settle(request.request_id, {}) for request in self._pending.covered()]
        if self._subscriptions.has_unacked:
            self._ack_at = now + self._ack_delay_s
        return effects

    def send_all(self) -> list[Effect]:
        """Everything that waits, in order."""
        return [self._send(request) for request in self._pending.in_order()]

    def waits(self, kind: str) -> bool:
        """Whether a request of that kind has no answer yet."""
        return self._pending.has(kind)

    def ask_again(self, start: Start) -> Effect:
        """A hole was seen: subscribes again after what was handled."""
        request_id = self.next_id()
        self._asking_again[request_id] = start.subject
        body = {"subscriptions": [subscription_frame(start)]}
        return Send({"id": request_id, "subscribe": body, **self._riding_ack()})

    def answered(self, request_id: str) -> Request | None:
        """An answer has come; returns what it was waited for by, None if nobody waited."""
        self._asking_again.pop(request_id, None)
        return self._pending.answered(request_id)

    def refused(self, request_id: str) -> Request | None:
        """As `answered`; a hole that could not be asked for may be asked for again."""
        if (subject := self._asking_again.get(request_id)) is not None:
            self._subscriptions.still_missing(subject)
        return self.answered(request_id)

    def disconnected(self) -> list[Effect]:
        """The connection is over: what must not be repeated ends."""
        self._ack_at = None
        lost = OutcomeUnknown("the connection was lost; a transient message is not sent again")
        return [Fail(request.request_id, lost) for request in self._pending.lost()]

    def end(self, error: OnwardError) -> list[Effect]:
        """Nothing will be answered any more."""
        return [Fail(request.request_id, error) for request in self._pending.take_all()]

    # Time.

    def handled(self, now: float) -> None:
        """A position moved while the session was open: an acknowledgement is due soon."""
        if self._ack_at is None:
            self._ack_at = now + self._ack_delay_s

    def next_deadline(self) -> float | None:
        """When to call `tick`; None: not until something happens."""
        oldest = self._pending.oldest_publish_at()
        times = (self._ack_at, None if oldest is None else oldest + self._age_max_s)
        return min((at for at in times if at is not None), default=None)

    def tick(self, now: float) -> list[Effect]:
        """Does what has fallen due."""
        effects = self._age(now)
        if self._ack_at is not None and now >= self._ack_at:
            effects += self.acknowledge()
        return effects

    def acknowledge(self) -> list[Effect]:
        """An acknowledgement of its own, if one is due."""
        frame = self._riding_ack()
        return [Send(frame)] if frame else []

    def _age(self, now: float) -> list[Effect]:
        aged = self._pending.aged(now - self._age_max_s)
        return [Fail(request.request_id, _aged(request)) for request in aged]

    # Frames.

    def _send(self, request: Request) -> Effect:
        """Sends a request; one that the server would close the connection for is refused here,
        or it would be sent again on every connection."""
        if (refusal := self._too_large(request.frame)) is not None:
            self._pending.answered(request.request_id)
            return Fail(request.request_id, refusal)
        request.sent = True
        return Send({"id": request.request_id, **request.frame, **self._riding_ack(request.frame)})

    def _too_large(self, frame: Frame) -> Refused | None:
        most = self.limits.content_bytes_max
        if most and "publish" in frame and content_bytes(frame["publish"]) > most:
            return Refused("CONTENT_TOO_LARGE", f"A message has at most {most} bytes of content.")
        if not self._fits(frame):
            most = self.limits.frame_bytes_max
            return Refused("CONTENT_TOO_LARGE", f"A frame has at most {most} bytes.")
        return None

    def _fits(self, *parts: Frame) -> bool:
        most = self.limits.frame_bytes_max
        return not most or sum(map(frame_bytes, parts)) + _ID_BYTES <= most

    def _riding_ack(self, frame: Frame | None = None) -> Frame:
        positions = self._subscriptions.unacked()
        ack = {"ack": ack_frame(positions)} if positions else {}
        if frame is not None and ack and not self._fits(frame, ack):
            return {}  # its time has not changed: it goes alone
        self._subscriptions.acknowledged(positions)
        self._ack_at = None
        return ack


_ID_BYTES = 64  # what an id adds to a frame, at most


def _aged(request: Request) -> OnwardError:
    if request.sent:
        return OutcomeUnknown("the publish was not answered before the server forgot its id")
    return Closed("the publish waited too long for a connection; it was not sent")
