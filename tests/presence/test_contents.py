"""Which messages a notification shows, and what is remembered of them."""

from onward.coordinator.v1 import coordinator_pb2
from onward.types.v1 import entry_pb2

from services.presence.contents import BYTES_MAX, Contents, newest_seqs, within_bytes
from services.presence.notifications import Span


def message(seq: int, size: int = 1) -> entry_pb2.Message:
    content = entry_pb2.Content(text="x" * size)
    return entry_pb2.Message(subject="/a", seq=seq, content=content)


class FakeReader:
    """A log of messages 1 to 50."""

    def __init__(self) -> None:
        self.reads: list[tuple[int, int]] = []

    async def messages(self, subject, after, limit, bytes_max=0):
        self.reads.append((after, limit))
        found = range(after + 1, min(after + limit, 50) + 1)
        deliveries = [coordinator_pb2.Delivery(pos=n, message=message(n)) for n in found]
        return coordinator_pb2.ReadMessagesResponse(messages=deliveries, head=50)


def test_the_newest_ten_are_shown_oldest_first():
    spans = [Span(n, n, n) for n in range(1, 15)]
    assert newest_seqs(spans) == list(range(5, 15))


def test_a_long_span_gives_its_last_ones():
    assert newest_seqs([Span(1, 1, 1), Span(2, 500, 500)]) == list(range(491, 501))


def test_messages_far_apart_are_not_looked_for():
    assert newest_seqs([Span(1, 1, 1), Span(5_000, 5_000, 1)]) == [5_000]
    assert newest_seqs([]) == []


def test_older_messages_are_left_out_where_bytes_end_and_the_newest_never_is():
    half = BYTES_MAX // 2
    assert [m.seq for m in within_bytes([message(n, half) for n in (1, 2, 3)])] == [3]
    assert [m.seq for m in within_bytes([message(1, 9), message(2, 2 * BYTES_MAX)])] == [2]


def test_what_is_remembered_is_not_read(run):
    reader = FakeReader()
    contents = Contents(reader)
    contents.remember(message(3))
    found = run(contents.newest("/a", [Span(3, 3, 3)]))
    assert ([m.seq for m in found], reader.reads) == ([3], [])


def test_what_is_not_remembered_is_read_at_once_with_what_lies_between(run):
    reader = FakeReader()
    found = run(Contents(reader).newest("/a", [Span(3, 3, 3), Span(7, 8, 8)]))
    assert ([m.seq for m in found], reader.reads) == ([3, 7, 8], [(2, 6)])


def test_what_the_log_does_not_have_is_left_out(run):
    found = run(Contents(FakeReader()).newest("/a", [Span(49, 60, 60)]))
    assert [m.seq for m in found] == []


def test_what_is_remembered_is_bounded(run):
    contents = Contents(FakeReader())
    for seq in range(10_000):
        contents.remember(message(seq))
    assert len(contents._remembered) == 4_096
    for seq in range(300):
        contents.remember(message(seq + 20_000, 64 * 1024))
    assert contents._bytes <= 8 * 1024 * 1024
