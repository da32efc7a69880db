"""JSON of `onward.v1.json` to and from frames. The one module that knows JSON on the socket.

Knows the proto3 JSON mapping (https://protobuf.dev/programming-guides/json): lowerCamelCase,
64-bit integers as strings, bytes as base64. Must not know sockets, sessions, or what a frame
means. Frames down print zero values, except a field with presence that is not set, an empty `id`,
and an enum's UNSPECIFIED. The frequent frames (publish and ack up; message, published and error
down) are written by hand, and must equal what `json_format` makes of them; whatever the
hand-written paths do not recognise at once is left to `json_format`.
"""

from base64 import b64encode
from typing import Any, Final, NamedTuple

import orjson
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message as ProtoMessage
from onward.client.v1 import client_pb2
from onward.types.v1 import entry_pb2

from services.chassis.refusals import Code, code_name, refuse

ClientFrame = client_pb2.ClientFrame
ServerFrame = client_pb2.ServerFrame

FRAME_ID_BYTES_MAX: Final = 64
# Items of lists and members of objects in a frame, which take up to 6 microseconds each.
ENTRIES_MAX: Final = 10_000

_KINDS: Final = frozenset(
    name
    for field in ClientFrame.DESCRIPTOR.oneofs_by_name["frame"].fields
    for name in (field.name, field.json_name)
)
_PUBLISH_KEYS: Final = frozenset({"id", "publish"})
_ACK_KEYS: Final = frozenset({"id", "ack"})
_POSITION_KEYS: Final = frozenset({"subject", "seq"})
_PUBLISH_STRINGS: Final = {
    "subject": "subject",
    "text": "text",
    "contentType": "content_type",
    "publicationId": "publication_id",
}
_PUBLISH_BOOLS: Final = frozenset({"retain", "transient"})
_SEQ_DIGITS_MAX: Final = 18  # more might not fit 64 bits, and is left to json_format

# What json_format raises for input that is JSON but not of the schema. ParseError is what it
# documents; the others come from wrong types in places that it does not check.
_NOT_OF_SCHEMA: Final = (
    json_format.Error,
    AttributeError,
    KeyError,
    OverflowError,
    TypeError,
    ValueError,
    RecursionError,
)


class Encoded(NamedTuple):
    """A message's JSON around the word of its kind, so that one encoding serves every kind."""

    before: bytes
    after: bytes


def decode(text: bytes) -> client_pb2.ClientFrame | client_pb2.ServerFrame:
    """The frame in `text`; or the error to answer with, and in it the frame's id if it has one."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return _error("", Code.FRAME_MALFORMED, "The frame is no valid JSON.")
    if not isinstance(value, dict):
        return _error("", Code.FRAME_MALFORMED, "A frame is a JSON object.")
    return decode_value(value)


def decode_value(value: dict[str, Any]) -> client_pb2.ClientFrame | client_pb2.ServerFrame:
    """As `decode`, of an object that JSON was parsed to."""
    frame_id = value.get("id")
    if frame_id is None:
        frame_id = ""
    elif not isinstance(frame_id, str) or len(frame_id.encode()) > FRAME_ID_BYTES_MAX:
        return _error("", Code.FRAME_MALFORMED, "An id is a string of at most 64 bytes.")
    if value.keys() <= _PUBLISH_KEYS:
        frame = _fast_publish(frame_id, value.get("publish"))
    elif value.keys() <= _ACK_KEYS:
        frame = _fast_ack(frame_id, value.get("ack"))
    else:
        frame = None
    return frame or _decode_any(frame_id, value)


def encode(frame: client_pb2.ServerFrame) -> bytes:
    """The JSON text of a frame down."""
    if frame.WhichOneof("frame") == "published":
        published = frame.published
        head = b'"id":' + orjson.dumps(frame.id) + b"," if frame.id else b""
        return b'{%s"published":{"seq":"%d","epoch":"%d","duplicate":%s}}' % (
            head,
            published.seq,
            published.epoch,
            b"true" if published.duplicate else b"false",
        )
    if frame.WhichOneof("frame") == "error" and (error := _plain_error(frame)):
        return error
    value = json_format.MessageToDict(frame, always_print_fields_with_no_presence=True)
    if not frame.id:
        del value["id"]
    _drop_unspecified(frame, value)
    return orjson.dumps(value)


def _plain_error(frame: client_pb2.ServerFrame) -> bytes:
    """An error that any client can have us write often; empty: it is not plain."""
    error = frame.error
    if not error.code or error.HasField("generation") or error.HasField("subject"):
        return b""
    return b'{%s"error":{"code":"%s","message":%s,"retryAfterMs":%d}}' % (
        b'"id":' + orjson.dumps(frame.id) + b"," if frame.id else b"",
        code_name(error).encode(),
        orjson.dumps(error.message),
        error.retry_after_ms,
    )


def encode_message(message: entry_pb2.Message) -> Encoded:
    """The JSON text of a `message` frame, in two parts around its kind."""
    dumps = orjson.dumps
    content = message.content
    body = content.WhichOneof("body")
    rest = b""
    if body == "text":
        rest = b',"text":' + dumps(content.text)
    elif body == "data":
        rest = b',"data":"' + b64encode(content.data) + b'"'
    accepted_at = b""
    if message.HasField("accepted_at"):
        accepted_at = b',"acceptedAt":"%s"' % message.accepted_at.ToJsonString().encode()
    before = b'{"message":{"subject":%s,"seq":"%d","epoch":"%d","kind":"' % (
        dumps(message.subject),
        message.seq,
        message.epoch,
    )
    after = b'"%s,"contentType":%s,"publisher":%s%s,"headers":%s}}' % (
        rest,
        dumps(content.content_type),
        dumps(message.publisher),
        accepted_at,
        dumps(dict(content.headers)) if content.headers else b"{}",
    )
    return Encoded(before, after)


def _fast_publish(frame_id: str, value: Any) -> client_pb2.ClientFrame | None:
    """The frame, if it is plain; None leaves it to json_format."""
    if type(value) is not dict or not value:
        return None
    fields: dict[str, Any] = {}
    for key, item in value.items():
        name = _PUBLISH_STRINGS.get(key)
        if name is not None:
            if type(item) is not str:
                return None
            fields[name] = item
        elif key in _PUBLISH_BOOLS:
            if type(item) is not bool:
                return None
            fields[key] = item
        elif key == "headers":
            if type(item) is not dict or not all(type(v) is str for v in item.values()):
                return None
            fields[key] = item
        else:
            return None
    return ClientFrame(id=frame_id, publish=client_pb2.Publish(**fields))


def _fast_ack(frame_id: str, value: Any) -> client_pb2.ClientFrame | None:
    """The frame, if it is plain; None leaves it to json_format."""
    if type(value) is not dict or value.keys() != {"positions"}:
        return None
    positions = value["positions"]
    if type(positions) is not list:
        return None
    ack = client_pb2.Ack()
    for position in positions:
        if type(position) is not dict or position.keys() != _POSITION_KEYS:
            return None
        subject, seq = position["subject"], position["seq"]
        if type(subject) is not str or type(seq) is not str:
            return None
        if not (seq.isascii() and seq.isdigit()) or len(seq) > _SEQ_DIGITS_MAX:
            return None
        ack.positions.add(subject=subject, seq=int(seq))
    return ClientFrame(id=frame_id, ack=ack)


def _entries(value: Any) -> int:
    """How many items and members there are at any depth; not much beyond `ENTRIES_MAX`."""
    count = 0
    inner = [value]
    while inner and count <= ENTRIES_MAX:
        one = inner.pop()
        count += len(one)
        inner.extend(
            item
            for item in (one.values() if type(one) is dict else one)
            if type(item) is dict or type(item) is list
        )
    return count


def _decode_any(
    frame_id: str, value: dict[str, Any]
) -> client_pb2.ClientFrame | client_pb2.ServerFrame:
    kinds = [key for key in value if key in _KINDS and value[key] is not None]
    if not kinds:
        others = [key for key in value if key not in _KINDS and key not in _ACK_KEYS]
        if others or value.get("ack") is None:
            return _error(frame_id, Code.FRAME_UNKNOWN, "The frame has no kind that is known here.")
    elif len(kinds) > 1:
        return _error(frame_id, Code.FRAME_MALFORMED, "A frame has one kind.")
    if _entries(value) > ENTRIES_MAX:
        message = f"A frame has at most {ENTRIES_MAX} entries in its lists and objects."
        return _error(frame_id, Code.ARGUMENT_INVALID, message)
    frame = ClientFrame()
    try:
        # json_format takes an empty list for an empty message.
        if all(isinstance(value[kind], dict) for kind in kinds):
            json_format.ParseDict(value, frame)
            return frame
    except _NOT_OF_SCHEMA:
        pass  # Its words quote the input, which may hold tokens, so they are not passed on.
    what = f"The frame `{kinds[0]}`" if kinds else "The frame"
    return _error(frame_id, Code.FRAME_MALFORMED, f"{what} has a field that is not as agreed.")


def _error(frame_id: str, code: "Code.ValueType", message: str) -> client_pb2.ServerFrame:
    return ServerFrame(id=frame_id, error=refuse(code, message))


def _drop_unspecified(message: ProtoMessage, value: dict[str, Any]) -> None:
    """Removes from `value`, the printed `message`, every enum that says nothing."""
    for field in message.DESCRIPTOR.fields:
        printed = value.get(field.json_name)
        if printed is None:
            continue
        if field.type == FieldDescriptor.TYPE_ENUM:
            if getattr(message, field.name) == 0:
                del value[field.json_name]
        elif field.type == FieldDescriptor.TYPE_MESSAGE and isinstance(printed, dict):
            if field.is_repeated:
                continue  # a map
            _drop_unspecified(getattr(message, field.name), printed)
        elif field.type == FieldDescriptor.TYPE_MESSAGE and isinstance(printed, list):
            for item, part in zip(getattr(message, field.name), printed, strict=True):
                _drop_unspecified(item, part)
