import json
from typing import Any

import orjson
import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st
from onward.client.v1 import client_pb2
from onward.types.v1 import entry_pb2, refusal_pb2

from services.chassis.refusals import Code, code_name, refuse
from services.edge import codec

ClientFrame, ServerFrame = client_pb2.ClientFrame, client_pb2.ServerFrame
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def refused(text: bytes) -> tuple[str, str]:
    """The code and the id of the error that `text` is answered with."""
    frame = codec.decode(text)
    assert isinstance(frame, ServerFrame), frame
    return code_name(frame.error), frame.id


@pytest.mark.parametrize(
    ("text", "code", "frame_id"),
    [
        (b"", "FRAME_MALFORMED", ""),
        (b"{", "FRAME_MALFORMED", ""),
        (b"[]", "FRAME_MALFORMED", ""),
        (b'"publish"', "FRAME_MALFORMED", ""),
        (b'{"id":7,"publish":{}}', "FRAME_MALFORMED", ""),
        (b'{"id":"' + b"x" * 65 + b'"}', "FRAME_MALFORMED", ""),
        (b'{"id":"1"}', "FRAME_UNKNOWN", "1"),
        (b"{}", "FRAME_UNKNOWN", ""),
        (b'{"id":"1","dance":{}}', "FRAME_UNKNOWN", "1"),
        (b'{"id":"1","publish":null}', "FRAME_UNKNOWN", "1"),
        (b'{"id":"1","dance":{},"ack":{"positions":[]}}', "FRAME_UNKNOWN", "1"),
        (b'{"id":"1","publish":[]}', "FRAME_MALFORMED", "1"),
        (b'{"id":"1","connect":[]}', "FRAME_MALFORMED", "1"),
        (b'{"id":"1","publish":{"subject":1}}', "FRAME_MALFORMED", "1"),
        (b'{"id":"1","publish":{"subject":"/a","colour":"red"}}', "FRAME_MALFORMED", "1"),
        (b'{"id":"1","publish":{"text":"a","data":"YQ=="}}', "FRAME_MALFORMED", "1"),
        (b'{"id":"1","publish":{"headers":{"a":1}}}', "FRAME_MALFORMED", "1"),
        (b'{"id":"1","publish":{},"dance":{}}', "FRAME_MALFORMED", "1"),
        (b'{"id":"1","publish":{},"logout":{}}', "FRAME_MALFORMED", "1"),
        (b'{"id":"1","connect":{"acknowledges":"SOMEHOW"}}', "FRAME_MALFORMED", "1"),
        (b'{"id":"1","connect":{"lastGeneration":"-1"}}', "FRAME_MALFORMED", "1"),
        (b'{"ack":{"positions":[{"subject":"/a","seq":"99999999999999999999"}]}}',
         "FRAME_MALFORMED", ""),
        (b'{"ack":{"positions":[{"subject":"/a","seq":"one"}]}}', "FRAME_MALFORMED", ""),
        (b'{"publish":{"text":"\\ud800"}}', "FRAME_MALFORMED", ""),
        (b"[" * 100_000, "FRAME_MALFORMED", ""),
        (b'{"subscribe":' * 900 + b"1" + b"}" * 900, "FRAME_MALFORMED", ""),
    ],
)  # fmt: skip
def test_what_is_no_frame_is_refused_with_its_id(text: bytes, code: str, frame_id: str) -> None:
    assert refused(text) == (code, frame_id)


def test_a_refusal_quotes_nothing_of_the_frame() -> None:
    answer = codec.decode(b'{"id":"1","connect":{"token":"hunter2","clientId":3}}')
    assert b"hunter2" not in answer.SerializeToString()


def test_an_ack_alone_and_one_that_rides_are_frames() -> None:
    alone = codec.decode(b'{"ack":{"positions":[{"subject":"/a","seq":"7"}]}}')
    riding = codec.decode(b'{"id":"1","logout":{},"ack":{"positions":[{"subject":"/a","seq":7}]}}')
    position = client_pb2.Position(subject="/a", seq=7)
    assert alone == ClientFrame(ack=client_pb2.Ack(positions=[position]))
    assert riding == ClientFrame(
        id="1", logout=client_pb2.Logout(), ack=client_pb2.Ack(positions=[position])
    )


def test_absent_and_empty_subscriptions_differ() -> None:
    absent = codec.decode(b'{"id":"1","connect":{"clientId":"c"}}')
    empty = codec.decode(b'{"id":"1","connect":{"clientId":"c","subscriptions":{"list":[]}}}')
    none = codec.decode(b'{"id":"1","connect":{"clientId":"c","subscriptions":{}}}')
    assert isinstance(absent, ClientFrame) and not absent.connect.HasField("subscriptions")
    assert isinstance(empty, ClientFrame) and empty.connect.HasField("subscriptions")
    assert empty == none


def as_json(frame: client_pb2.ServerFrame) -> Any:
    return json.loads(codec.encode(frame))


def test_zero_values_are_printed_but_not_what_is_unset() -> None:
    state = client_pb2.SubscriptionState
    connected = client_pb2.Connected(
        subscriptions=[
            state(subject="/a", recovered=False, reason=state.TRIMMED),
            state(subject="/b", recovered=True),
            state(subject="/c"),
        ]
    )
    value = as_json(ServerFrame(id="1", connected=connected))["connected"]
    assert value["generation"] == "0" and value["pingIntervalMs"] == 0
    assert value["endpointsGone"] == []
    assert value["subscriptions"] == [
        {"subject": "/a", "seq": "0", "recovered": False, "reason": "TRIMMED"},
        {"subject": "/b", "seq": "0", "recovered": True},
        {"subject": "/c", "seq": "0"},
    ]


def test_an_answer_to_nobody_has_no_id_and_done_is_empty() -> None:
    assert as_json(ServerFrame(id="1", done=client_pb2.Done())) == {"id": "1", "done": {}}
    error = as_json(ServerFrame(error=refuse(Code.RATE_LIMITED, "Slower.", 30)))
    assert error == {"error": {"code": "RATE_LIMITED", "message": "Slower.", "retryAfterMs": 30}}
    gap = as_json(ServerFrame(gap=client_pb2.Gap(subject="/a", from_seq=1, to_seq=2)))
    assert gap == {"gap": {"subject": "/a", "fromSeq": "1", "toSeq": "2"}}


def test_the_generation_of_a_refusal_is_printed_if_set_also_zero() -> None:
    refusal = refuse(Code.STALE_SESSION, "Newer.")
    refusal.generation = 0
    assert as_json(ServerFrame(id="1", error=refusal))["error"]["generation"] == "0"


def test_content_that_looks_like_an_enum_is_left_alone() -> None:
    frame = ServerFrame(connected=client_pb2.Connected(user="REASON_UNSPECIFIED"))
    assert as_json(frame)["connected"]["user"] == "REASON_UNSPECIFIED"


publishes = st.fixed_dictionaries(
    {"subject": texts},
    optional={
        "text": texts,
        "contentType": texts,
        "publicationId": texts,
        "headers": st.dictionaries(texts, texts, max_size=3),
        "retain": st.booleans(),
        "transient": st.booleans(),
    },
)
acks = st.fixed_dictionaries(
    {
        "positions": st.lists(
            st.fixed_dictionaries({"subject": texts, "seq": st.integers(0, 2**64 - 1).map(str)}),
            max_size=4,
        )
    }
)


@given(
    st.fixed_dictionaries({}, optional={"id": st.text("ab", max_size=3)}),
    st.one_of(st.fixed_dictionaries({"publish": publishes}), st.fixed_dictionaries({"ack": acks})),
)
@settings(max_examples=120, deadline=None)
def test_the_hand_written_way_up_equals_json_format(head: dict[str, Any], body: Any) -> None:
    value = head | body
    assert codec.decode(orjson.dumps(value)) == json_format.ParseDict(value, ClientFrame())


@given(
    texts,
    st.integers(0, 2**64 - 1),
    st.one_of(st.none(), texts, st.binary(max_size=20)),
    texts,
    st.dictionaries(texts, texts, max_size=3),
    st.one_of(st.none(), st.integers(0, 4_000_000_000_000)),
    st.sampled_from(["LIVE", "RECOVERED", "HISTORY", "SNAPSHOT"]),
)
@settings(max_examples=120, deadline=None)
def test_the_hand_written_message_equals_json_format(
    subject: str,
    seq: int,
    body: str | bytes | None,
    publisher: str,
    headers: dict[str, str],
    accepted_ms: int | None,
    kind: str,
) -> None:
    stored = entry_pb2.Message(subject=subject, seq=seq, epoch=seq // 2, publisher=publisher)
    told = client_pb2.Message(
        subject=subject,
        seq=seq,
        epoch=seq // 2,
        publisher=publisher,
        headers=headers,
        content_type=publisher,
        kind=client_pb2.Message.Kind.Value(kind),
    )
    stored.content.headers.update(headers)
    stored.content.content_type = publisher
    if isinstance(body, str):
        stored.content.text = told.text = body
    elif body is not None:
        stored.content.data = told.data = body
    if accepted_ms is not None:
        stored.accepted_at.FromMilliseconds(accepted_ms)
        told.accepted_at.FromMilliseconds(accepted_ms)
    before, after = codec.encode_message(stored)
    expected = json_format.MessageToDict(
        ServerFrame(message=told), always_print_fields_with_no_presence=True
    )
    del expected["id"]
    assert json.loads(before + kind.encode() + after) == expected


@given(
    texts,
    texts,
    st.sampled_from([1, 18, 28]),
    st.integers(0, 2**32 - 1),
    st.sampled_from([{}, {"generation": 7}, {"subject": "/a"}]),
)
@settings(max_examples=100, deadline=None)
def test_the_hand_written_error_equals_json_format(
    frame_id: str, message: str, code: Any, retry_after_ms: int, more: dict[str, Any]
) -> None:
    error = refusal_pb2.Refusal(code=code, message=message, retry_after_ms=retry_after_ms, **more)
    frame = ServerFrame(id=frame_id, error=error)
    expected = json_format.MessageToDict(frame, always_print_fields_with_no_presence=True)
    if not frame_id:
        del expected["id"]
    assert as_json(frame) == expected


@given(texts, st.integers(0, 2**64 - 1), st.booleans())
@settings(max_examples=100, deadline=None)
def test_the_hand_written_published_equals_json_format(
    frame_id: str, seq: int, duplicate: bool
) -> None:
    published = client_pb2.Published(seq=seq, epoch=seq, duplicate=duplicate)
    frame = ServerFrame(id=frame_id, published=published)
    expected = json_format.MessageToDict(frame, always_print_fields_with_no_presence=True)
    if not frame_id:
        del expected["id"]
    assert as_json(frame) == expected
