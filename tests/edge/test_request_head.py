"""What is no HTTP request is known by its first bytes, and a head has a bound."""

import pytest

from services.edge.request_head import HEAD_BYTES_MAX, Head, judge_head

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def judged(data: bytes, *cuts: int) -> list[Head]:
    """What is said of growing beginnings of `data`, as long as it is unfinished."""
    verdicts: list[Head] = []
    seen = 0
    for end in (*cuts, len(data)):
        verdicts.append(judge_head(data[:end], seen))
        if verdicts[-1] is not Head.UNFINISHED:
            break
        seen = end
    return verdicts


@pytest.mark.parametrize("cut", range(1, len(GET)))
def test_a_head_is_complete_wherever_it_is_cut(cut: int) -> None:
    assert judged(GET, cut) == [Head.UNFINISHED, Head.COMPLETE]
    assert judged(GET, *range(1, len(GET)))[-1] is Head.COMPLETE


def test_what_follows_the_head_does_not_count() -> None:
    assert judged(GET + b"x" * 100_000) == [Head.COMPLETE]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_methods_are_known_from_their_first_byte(method: str) -> None:
    request = f"{method} / HTTP/1.1\r\n\r\n".encode()
    assert judged(request, *range(1, len(request)))[-1] is Head.COMPLETE


@pytest.mark.parametrize(
    ("data", "after"),
    [
        (b"\x16\x03\x01\x02\x00", 1),
        (b"\x00", 1),
        (b"get / HTTP/1.1", 1),
        (b"GETX / HTTP/1.1", 4),
        (b"\r\nGET / HTTP/1.1", 1),
        (b"SSH-2.0-OpenSSH", 1),
        (b"PRI * HTTP/2.0", 2),
        (b"OPTIONSX", 8),
    ],
)
def test_what_can_be_no_request_is_garbage_as_soon_as_it_shows(data: bytes, after: int) -> None:
    verdicts = judged(data, *range(1, len(data)))
    assert verdicts == [Head.UNFINISHED] * (after - 1) + [Head.GARBAGE]


def test_a_head_has_so_many_bytes() -> None:
    start = b"GET / HTTP/1.1\r\nX: "
    largest = start + b"x" * (HEAD_BYTES_MAX - len(start)) + b"\r\n\r\n"
    assert judged(largest) == [Head.COMPLETE]
    assert judged(largest.replace(b"X", b"XX")) == [Head.TOO_LARGE]
    assert judged(largest[: HEAD_BYTES_MAX + 1]) == [Head.TOO_LARGE]
    assert judged(largest[:HEAD_BYTES_MAX]) == [Head.UNFINISHED]
