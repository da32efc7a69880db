"""Whole frames for the wire: a codec's JSON in a WebSocket frame, ready to be sent to anybody."""

from onward.client.v1 import client_pb2
from onward.coordinator.v1 import coordinator_pb2
from onward.types.v1 import entry_pb2

from services.edge import codec
from services.edge.channel import Entry
from services.edge.websocket import text_frame

Kind = client_pb2.Message.Kind


def entry_of(delivery: coordinator_pb2.Delivery) -> Entry:
    """The message, encoded; it keeps nothing of the delivery alive."""
    message = delivery.message
    before, after = codec.encode_message(message)
    live = text_frame(before + b"LIVE" + after)
    return Entry(message.seq, delivery.pos, live, before, after)


def transient_frame(message: entry_pb2.Message) -> bytes:
    """A transient message: its seq is 0."""
    before, after = codec.encode_message(message)
    return text_frame(before + b"TRANSIENT" + after)


def replay_frame(entry: Entry, kind: "Kind.ValueType") -> bytes:
    """The message as of another kind than LIVE."""
    return text_frame(entry.before + Kind.Name(kind).encode() + entry.after)


def server_frame(frame: client_pb2.ServerFrame) -> bytes:
    """Any other frame."""
    return text_frame(codec.encode(frame))
