"""Frames of the client protocol (JSON) in the words of this library, both ways.

Knows the schema `onward/client/v1/client.proto` in its JSON form: lowerCamelCase, 64-bit integers
as strings, bytes as base64. Must not know state: every function is a plain translation. What a
newer server adds is passed over; what is missing has its zero value.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from onward_sdk.errors import Refused
from onward_sdk.events import Limits, Message

SUBPROTOCOL = "onward.v1.json"
FRAME_BYTES_MAX = 4 * 1024 * 1024  # of a frame down; a larger one closes the connection

CLOSE_NORMAL = 1000
CLOSE_GOING_AWAY = 4000
CLOSE_SLOW_CONSUMER = 4001
CLOSE_TOKEN_EXPIRED = 4003
CLOSE_FINAL_MIN = 4500  # from here on, reconnecting is of no use
CLOSE_REPLACED = 4502
CLOSE_LOGGED_OUT = 4503

# Refusals of `connect` after which the same connect may succeed later; see refusal.proto.
RETRYABLE_CODES = frozenset(
    {"UNAVAILABLE", "OVERLOADED", "STORE_FULL", "RATE_LIMITED", "TOO_MANY_CONNECTIONS"}
)

CLOSE_REASONS = {
    4000: "the edge is stopping",
    4001: "this client read too slowly",
    4002: "this client did not answer in time",
    4003: "the token has expired",
    4004: "the edge had a fault",
    4500: "the token is not accepted",
    4501: "the server saw a violation of the protocol",
    4502: "a newer session of this client took over",
    4503: "this client logged out",
}

Frame = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subject to receive, and where to start: at most one of the three, else the next message."""

    subject: str
    after_seq: int | None = None  # recover everything after it
    history: int = 0  # first the last n messages, 1 to 1,000
    snapshot: bool = False  # first the retained message


@dataclass(frozen=True, slots=True)
class SubscriptionState:
    """How the server answered a subscription."""

    subject: str
    seq: int
    recovered: bool | None
    reason: str


@dataclass(frozen=True, slots=True)
class Published:
    """A publish that is durable."""

    seq: int
    epoch: int
    duplicate: bool


def encode(frame: Frame) -> str:
    """The text of a frame."""
    return orjson.dumps(frame).decode()


def decode(text: str | bytes) -> Frame:
    """The frame in a text. Raises ValueError if it is no JSON object."""
    frame = orjson.loads(text)
    if not isinstance(frame, dict):
        raise ValueError("a frame is a JSON object")
    return frame


def subscription_frame(subscription: Subscription) -> Frame:
    """A subscription as it stands in `connect` and `subscribe`."""
    frame: Frame = {"subject": subscription.subject}
    if subscription.after_seq is not None:
        frame["afterSeq"] = str(subscription.after_seq)
    elif subscription.history:
        frame["history"] = subscription.history
    elif subscription.snapshot:
        frame["snapshot"] = True
    return frame


def publish_body(
    subject: str,
    text: str | None = None,
    data: bytes | None = None,
    *,
    content_type: str = "",
    publication_id: str = "",
    headers: Mapping[str, str] | None = None,
    retain: bool = False,
    transient: bool = False,
) -> Frame:
    """A publish, for a frame or for plain HTTP. Give `text` or `data`."""
    body: Frame = {"subject": subject}
    if data is not None:
        body["data"] = base64.b64encode(data).decode()
    else:
        body["text"] = text or ""
    optional: Frame = {
        "contentType": content_type,
        "publicationId": publication_id,
        "headers": dict(headers or {}),
        "retain": retain,
        "transient": transient,
    }
    return body | {name: value for name, value in optional.items() if value}


def ack_frame(positions: Mapping[str, int]) -> Frame:
    """An acknowledgement, to ride on a frame or to go alone."""
    return {"positions": [{"subject": s, "seq": str(seq)} for s, seq in positions.items()]}


def merge_acks(older: Frame, newer: Frame) -> Frame:
    """One acknowledgement in place of two that follow each other."""
    return {"ack": ack_frame(_positions(older) | _positions(newer))}


def _positions(frame: Frame) -> dict[str, int]:
    return {one["subject"]: int(one["seq"]) for one in frame["ack"]["positions"]}


def frame_bytes(frame: Frame) -> int:
    """How large a frame is on the wire."""
    return len(orjson.dumps(frame))


def content_bytes(publish: Frame) -> int:
    """How large the content of a publish is, as the server counts it."""
    if "data" in publish:
        return len(base64.b64decode(publish["data"]))
    return len(str(publish.get("text", "")).encode())


def read_message(frame: Mapping[str, Any], log_id: str) -> Message:
    """A message, from a frame or from a page of history."""
    data = frame.get("data")
    return Message(
        subject=str(frame.get("subject", "")),
        seq=int(frame.get("seq", 0)),
        epoch=int(frame.get("epoch", 0)),
        kind=str(frame.get("kind", "LIVE")),
        publisher=str(frame.get("publisher", "")),
        text=None if data is not None else str(frame.get("text", "")),
        data=None if data is None else base64.b64decode(data),
        content_type=str(frame.get("contentType", "")),
        accepted_at=str(frame.get("acceptedAt", "")),
        headers=dict(frame.get("headers") or {}),
        log_id=log_id,
    )


def read_states(frame: Mapping[str, Any]) -> Sequence[SubscriptionState]:
    """The subscriptions of `connected` and `subscribed`."""
    return [
        SubscriptionState(
            subject=str(state.get("subject", "")),
            seq=int(state.get("seq", 0)),
            recovered=state.get("recovered"),
            reason=str(state.get("reason", "")),
        )
        for state in frame.get("subscriptions") or ()
    ]


def read_refusal(error: Mapping[str, Any]) -> Refused:
    """A refusal, from an `error` frame or from an HTTP answer."""
    generation = error.get("generation")
    return Refused(
        code=str(error.get("code", "CODE_UNSPECIFIED")),
        message=str(error.get("message", "")),
        retry_after_ms=int(error.get("retryAfterMs", 0)),
        generation=None if generation is None else int(generation),
        subject=str(error.get("subject", "")),
    )


def read_limits(frame: Mapping[str, Any]) -> Limits:
    """`limits` of `connected`."""
    limits = frame.get("limits") or {}
    return Limits(
        content_bytes_max=int(limits.get("contentBytesMax", 0)),
        frame_bytes_max=int(limits.get("frameBytesMax", 0)),
        headers_bytes_max=int(limits.get("headersBytesMax", 0)),
        subscriptions_max=int(limits.get("subscriptionsMax", 0)),
        publishes_per_s=int(limits.get("publishesPerS", 0)),
        dedupe_window_ms=int(limits.get("dedupeWindowMs", 0)),
    )


def read_published(frame: Mapping[str, Any]) -> Published:
    """The answer to a publish."""
    return Published(
        seq=int(frame.get("seq", 0)),
        epoch=int(frame.get("epoch", 0)),
        duplicate=bool(frame.get("duplicate", False)),
    )


def claims_of(token: str) -> Mapping[str, Any]:
    """The claims of a JWT, unverified; none if it is no JWT."""
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        claims = orjson.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return {}
    return claims if isinstance(claims, dict) else {}


def expiry_of(token: str) -> float | None:
    """`exp` of a JWT, in seconds since 1970, unverified; None if it is not to be found."""
    expiry = claims_of(token).get("exp")
    return float(expiry) if isinstance(expiry, int | float) else None
