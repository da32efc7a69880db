"""The pure WebSocket core: what is accepted, what breaks the protocol and with which code."""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.edge import websocket
from services.edge.mask import unmask, unmask_slowly
from services.edge.websocket import (
    BinaryMessage,
    Closed,
    Event,
    Parser,
    Ping,
    Pong,
    TextMessage,
    Violation,
)
from tests.edge.frames import BINARY, CLOSE, PING, PONG, TEXT, client_frame, close_payload

EURO = "€".encode()
UNKNOWN_OPCODES = [3, 4, 5, 6, 7, 11, 12, 13, 14, 15]

VIOLATIONS: dict[str, tuple[bytes, int]] = {
    "an unmasked text": (client_frame(TEXT, b"hi", key=None), 1002),
    "an unmasked ping": (client_frame(PING, key=None), 1002),
    "the first reserved bit": (client_frame(TEXT, b"hi", reserved=0x40), 1002),
    "the second reserved bit": (client_frame(TEXT, b"hi", reserved=0x20), 1002),
    "the third reserved bit": (client_frame(PING, b"", reserved=0x10), 1002),
    "a fragmented ping": (client_frame(PING, fin=False), 1002),
    "a fragmented close": (client_frame(CLOSE, close_payload(1000), fin=False), 1002),
    "a ping of 126 bytes": (client_frame(PING, b"x" * 126), 1002),
    "a pong with a long length": (client_frame(PONG, b"x", length_form=16), 1002),
    "a close of 126 bytes": (client_frame(CLOSE, close_payload(1000, b"x" * 124)), 1002),
    "a continuation of nothing": (client_frame(0, b"hi"), 1002),
    "a text within a message": (client_frame(TEXT, b"a", fin=False) + client_frame(TEXT), 1002),
    "a binary within a text": (client_frame(TEXT, b"a", fin=False) + client_frame(BINARY), 1002),
    "7 bits of length in 16": (client_frame(TEXT, b"hi", length_form=16), 1002),
    "7 bits of length in 64": (client_frame(TEXT, b"hi", length_form=64), 1002),
    "16 bits of length in 64": (client_frame(TEXT, b"x" * 126, length_form=64), 1002),
    "a negative length": (b"\x81\xff" + b"\xff" * 8, 1002),
    "a frame too big": (b"\x82\xff" + (1001).to_bytes(8, "big"), 1002),
    "a close code of one byte": (client_frame(CLOSE, b"\x03"), 1002),
    "invalid UTF-8": (client_frame(TEXT, b"\xff"), 1007),
    "UTF-8 cut short": (client_frame(TEXT, EURO[:2]), 1007),
    "a surrogate": (client_frame(TEXT, b"\xed\xa0\x80"), 1007),
    "invalid UTF-8 in a close reason": (client_frame(CLOSE, close_payload(1000, b"\xff")), 1007),
    "a message too big": (client_frame(TEXT, b"x" * 1001), 1009),
    "a length beyond all bounds": (b"\x81\xff" + (1 << 62).to_bytes(8, "big"), 1009),
    "fragments too big together": (
        client_frame(TEXT, b"x" * 600, fin=False) + client_frame(0, b"x" * 401),
        1009,
    ),
    **{f"opcode {n}": (client_frame(n, b""), 1002) for n in UNKNOWN_OPCODES},
    **{
        f"close code {code}": (client_frame(CLOSE, close_payload(code)), 1002)
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65535)
    },
}


def parse(data: bytes, bytes_max: int = 1000) -> list[Event]:
    return Parser(bytes_max).feed(data)


@pytest.mark.parametrize("name", VIOLATIONS)
def test_a_violation_is_told_with_its_code_and_ends_the_connection(name: str) -> None:
    data, code = VIOLATIONS[name]
    parser = Parser(1000)
    events = parser.feed(data)
    assert [type(event) for event in events] == [Violation]
    assert isinstance(events[0], Violation)
    assert events[0].code == code
    assert 0 < len(events[0].reason.encode()) <= websocket.REASON_BYTES_MAX
    assert parser.feed(client_frame(TEXT, b"more")) == []


@pytest.mark.parametrize("name", VIOLATIONS)
def test_a_violation_is_found_byte_by_byte_too(name: str) -> None:
    data, code = VIOLATIONS[name]
    parser = Parser(1000)
    events = [event for i in range(len(data)) for event in parser.feed(data[i : i + 1])]
    assert [type(event) for event in events] == [Violation]
    assert isinstance(events[0], Violation)
    assert events[0].code == code


def test_what_came_whole_before_a_violation_is_handed_over() -> None:
    data = client_frame(TEXT, b"one") + client_frame(TEXT, b"\xff") + client_frame(TEXT, b"two")
    events = parse(data)
    assert events[0] == TextMessage(b"one")
    assert [type(event) for event in events] == [TextMessage, Violation]


def test_a_size_is_refused_by_its_header_alone() -> None:
    header = client_frame(TEXT, b"x" * 1001)[:4]
    assert [type(event) for event in parse(header)] == [Violation]


def test_invalid_text_is_refused_at_the_fragment_that_shows_it() -> None:
    parser = Parser()
    assert parser.feed(client_frame(TEXT, EURO[:1], fin=False)) == []
    assert [type(event) for event in parser.feed(client_frame(0, b"x", fin=False))] == [Violation]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 500_000])
def test_every_form_of_length_is_read(size: int) -> None:
    assert parse(client_frame(BINARY, b"x" * size), 500_000) == [BinaryMessage(b"x" * size)]


def test_the_limit_itself_is_allowed() -> None:
    whole = client_frame(TEXT, b"x" * 1000)
    parts = client_frame(TEXT, b"x" * 600, fin=False) + client_frame(0, b"x" * 400)
    assert parse(whole + parts) == [TextMessage(b"x" * 1000)] * 2


def test_fragments_become_one_message() -> None:
    data = (
        client_frame(TEXT, b"a", fin=False)
        + client_frame(0, b"", fin=False)
        + client_frame(0, b"b", fin=False)
        + client_frame(0, b"c")
    )
    assert parse(data) == [TextMessage(b"abc")]


def test_a_character_may_be_cut_by_fragments() -> None:
    data = client_frame(TEXT, EURO[:1], fin=False) + client_frame(0, EURO[1:])
    assert parse(data) == [TextMessage(EURO)]


def test_a_fragmented_text_must_not_end_within_a_character() -> None:
    data = client_frame(TEXT, b"a", fin=False) + client_frame(0, EURO[:2])
    events = parse(data)
    assert [event.code for event in events if isinstance(event, Violation)] == [1007]


def test_a_binary_message_may_hold_anything() -> None:
    data = client_frame(BINARY, b"\xff", fin=False) + client_frame(0, b"\xfe")
    assert parse(data) == [BinaryMessage(b"\xff\xfe")]


def test_control_frames_come_between_fragments_in_their_order() -> None:
    data = (
        client_frame(TEXT, b"a", fin=False)
        + client_frame(PING, b"1")
        + client_frame(0, b"b", fin=False)
        + client_frame(PONG, b"2")
        + client_frame(0, b"c")
        + client_frame(TEXT, b"next")
    )
    assert parse(data) == [Ping(b"1"), Pong(b"2"), TextMessage(b"abc"), TextMessage(b"next")]


def test_a_close_between_fragments_ends_the_connection() -> None:
    data = client_frame(TEXT, b"a", fin=False) + client_frame(CLOSE, close_payload(1001))
    assert parse(data + client_frame(0, b"b")) == [Closed(1001, "")]


def test_a_close_frame_may_be_empty() -> None:
    assert parse(client_frame(CLOSE)) == [Closed(websocket.CODE_ABSENT, "")]


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 4000, 4999])
def test_a_close_code_and_reason_are_read(code: int) -> None:
    data = client_frame(CLOSE, close_payload(code, "bye €".encode()))
    assert parse(data) == [Closed(code, "bye €")]


def test_nothing_after_a_close_frame_is_handed_over() -> None:
    parser = Parser()
    assert parser.feed(client_frame(CLOSE) + client_frame(TEXT, b"x")) == [Closed(1005, "")]
    assert parser.feed(client_frame(PING)) == []


FRAMES = [
    (websocket.text_frame, TEXT),
    (websocket.binary_frame, BINARY),
    (websocket.ping_frame, PING),
    (websocket.pong_frame, PONG),
]


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
@pytest.mark.parametrize(("build", "opcode"), FRAMES)
def test_a_built_frame_is_a_clients_without_its_mask(build, opcode, size) -> None:  # type: ignore[no-untyped-def]
    if opcode in (PING, PONG) and size > 125:
        return
    assert build(b"x" * size) == client_frame(opcode, b"x" * size, key=None)


def test_a_close_frame_is_built_with_and_without_a_code() -> None:
    bye = close_payload(4000, "tschüß".encode())
    assert websocket.close_frame(4000, "tschüß") == client_frame(CLOSE, bye, key=None)
    assert websocket.close_frame(1005) == client_frame(CLOSE, key=None)


@given(st.binary(min_size=4, max_size=4), st.binary(max_size=100))
def test_both_ways_to_unmask_agree(key: bytes, payload: bytes) -> None:
    expected = bytes(byte ^ key[i % 4] for i, byte in enumerate(payload))
    fast, slow = bytearray(payload), bytearray(payload)
    unmask(key, fast)
    unmask_slowly(key, slow)
    assert bytes(fast) == bytes(slow) == expected


good_frames = st.one_of(
    st.builds(client_frame, st.just(TEXT), st.text(max_size=300).map(str.encode)),
    st.builds(client_frame, st.just(BINARY), st.binary(max_size=300)),
    st.builds(client_frame, st.sampled_from([PING, PONG]), st.binary(max_size=125)),
    st.lists(st.binary(max_size=40), min_size=2, max_size=4).map(
        lambda parts: (
            client_frame(BINARY, parts[0], fin=False)
            + b"".join(client_frame(0, part, fin=False) for part in parts[1:-1])
            + client_frame(0, parts[-1])
        )
    ),
)
any_frames = st.one_of(
    good_frames,
    st.builds(
        client_frame,
        st.integers(0, 15),
        st.binary(max_size=300),
        fin=st.booleans(),
        reserved=st.sampled_from([0, 0, 0, 0, 0x10, 0x40]),
        key=st.one_of(st.binary(min_size=4, max_size=4), st.none()),
        length_form=st.sampled_from([None, None, None, 64]),
    ),
    st.binary(max_size=20),
)
cuts = st.lists(st.integers(1, 64), min_size=1, max_size=20)


def feed_cut(parser: Parser, data: bytes, sizes: list[int]) -> list[Event]:
    events: list[Event] = []
    at = turn = 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        events += parser.feed(data[at : at + size])
        at += size
        turn += 1
    return events


@settings(max_examples=800, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(any_frames, max_size=8).map(b"".join), cuts)
def test_any_bytes_mean_the_same_wherever_they_are_cut(data: bytes, sizes: list[int]) -> None:
    whole = parse(data, 400)
    assert feed_cut(Parser(400), data, sizes) == whole
    ends = [isinstance(event, Closed | Violation) for event in whole]
    assert not any(ends[:-1])


@settings(max_examples=200, deadline=None)
@given(st.lists(good_frames, max_size=6), cuts)
def test_good_frames_never_break_the_protocol(frames: list[bytes], sizes: list[int]) -> None:
    events = feed_cut(Parser(400 * 4), b"".join(frames), sizes)
    assert len(events) == len(frames)
    assert not any(isinstance(event, Violation) for event in events)


@settings(max_examples=400, deadline=None)
@given(st.lists(good_frames, min_size=1, max_size=4).map(b"".join), st.integers())
def test_mutated_frames_neither_crash_nor_leave_the_bounds(data: bytes, seed: int) -> None:
    dice = random.Random(seed)
    for _ in range(20):
        mutated = bytearray(data)
        for _ in range(dice.randint(1, 4)):
            mutated[dice.randrange(len(mutated))] = dice.randrange(256)
        for event in parse(bytes(mutated), 2000):
            if isinstance(event, TextMessage):
                event.payload.decode()
            if isinstance(event, TextMessage | BinaryMessage | Ping | Pong):
                assert len(event.payload) <= 2000


def test_what_may_not_be_read_yet_is_held_and_read_later() -> None:
    frames = [client_frame(TEXT, b"%d" % number) for number in range(5)]
    parser = Parser()
    parser.frames_left = 2
    assert parser.feed(b"".join(frames)[:-1]) == [TextMessage(b"0"), TextMessage(b"1")]
    assert parser.unfinished == len(parser.held) == len(b"".join(frames[2:])) - 1
    assert parser.feed(frames[4][-1:]) == []
    parser.frames_left = 2
    assert parser.feed(b"") == [TextMessage(b"2"), TextMessage(b"3")]
    parser.frames_left = 2
    assert parser.feed(b"") == [TextMessage(b"4")]
    assert (parser.held, parser.frames_left, parser.messages) == (b"", 1, 5)


def test_not_much_more_than_its_bound_is_read_at_once() -> None:
    frames = [client_frame(TEXT, b"x" * 10_000) for _ in range(10)]
    parser = Parser()
    assert len(parser.feed(b"".join(frames))) == 4
    assert [len(parser.feed(b"")) for _ in range(3)] == [4, 2, 0]


def test_a_message_has_so_many_fragments() -> None:
    first = client_frame(TEXT, b"a", fin=False)
    further = client_frame(0, b"", fin=False)
    last = client_frame(0, b"z")
    good = first + further * (websocket.FRAGMENTS_MAX - 2) + last
    assert parse(good + good) == [TextMessage(b"az")] * 2
    [violation] = parse(first + further * websocket.FRAGMENTS_MAX)
    assert isinstance(violation, Violation)
    assert violation.code == 1008


def test_a_parser_that_was_stopped_keeps_nothing() -> None:
    parser = Parser()
    parser.feed(client_frame(TEXT, b"x" * 1000, fin=False) + client_frame(0, b"y" * 1000)[:500])
    assert parser.unfinished > 1400
    parser.stop()
    assert parser.unfinished == 0
    assert parser.feed(client_frame(TEXT, b"more")) == []
