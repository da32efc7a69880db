"""What a notification is about: its newest messages, read when it is sent.

They are read from the log and not kept with the notification, because a message is the same for
all its recipients: the log holds it once, the store of presence would hold it once for each of a
thousand. What was just accepted for somebody who waits is remembered here, bounded, so that the
usual notification needs no read at all. A message never changes, so what is remembered is right.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from onward.types.v1 import entry_pb2

from services.presence.log_reader import LogReader
from services.presence.notifications import Span

# What the contract allows in one delivery.
MESSAGES_MAX = 10
# Beyond this many bytes older messages are left out, so that a batch stays far below what a gRPC
# message may be.
BYTES_MAX = 128 * 1024
_REMEMBERED_MAX = 4_096
_REMEMBERED_BYTES_MAX = 8 * 1024 * 1024
# Own messages are not counted as members, so the newest ten may lie far apart; they are looked
# for in this many messages at most.
_READ_SPAN_MAX = 1_000
_PAGES_MAX = 4


class Contents:
    """The newest messages of notifications. Remembers at most 4,096 messages in 8 MiB."""

    def __init__(self, reader: LogReader) -> None:
        self._reader = reader
        # Each with its size in bytes.
        self._remembered: OrderedDict[tuple[str, int], tuple[entry_pb2.Message, int]] = (
            OrderedDict()
        )
        self._bytes = 0

    def remember(self, message: entry_pb2.Message) -> None:
        """Keep a message that is likely to be sent soon; the oldest kept one makes room."""
        key = (message.subject, message.seq)
        if key in self._remembered:
            return
        size = message.ByteSize()
        self._remembered[key] = message, size
        self._bytes += size
        while len(self._remembered) > _REMEMBERED_MAX or self._bytes > _REMEMBERED_BYTES_MAX:
            _, (_, dropped) = self._remembered.popitem(last=False)
            self._bytes -= dropped

    def remembered(self, subject: str, seq: int) -> entry_pb2.Message | None:
        """A message that is kept; None: it must be read."""
        found = self._remembered.get((subject, seq))
        return None if found is None else found[0]

    def size_at_hand(
        self,
        subject: str,
        spans: Sequence[Span],
        fresh: Mapping[tuple[str, int], entry_pb2.Message] | None = None,
    ) -> int | None:
        """The bytes of what `newest` would give; None: not all of it is remembered, or in `fresh`,
        by subject and seq: what is about to be remembered.

        May be asked on the store's thread: it only looks keys up.
        """
        fresh = fresh or {}
        size = 0
        for seq in newest_seqs(spans):
            found = self._remembered.get((subject, seq))
            if found is not None:
                size += found[1]
            elif (subject, seq) in fresh:
                size += fresh[subject, seq].ByteSize()
            else:
                return None
        return size

    async def newest(self, subject: str, spans: Sequence[Span]) -> list[entry_pb2.Message]:
        """The newest messages of `spans`, oldest first; fewer if the log has not kept them.

        Raises Unavailable if the log cannot be read now.
        """
        wanted = newest_seqs(spans)
        if not wanted:
            return []
        if any((subject, seq) not in self._remembered for seq in wanted):
            await self._read(subject, wanted[0] - 1, wanted[-1])
        found = [self._remembered.get((subject, seq)) for seq in wanted]
        return within_bytes([one[0] for one in found if one is not None])

    async def _read(self, subject: str, after: int, last: int) -> None:
        for _ in range(_PAGES_MAX):
            response = await self._reader.messages(subject, after, last - after)
            for delivery in response.messages:
                self.remember(delivery.message)
            if not response.messages or response.messages[-1].message.seq >= last:
                return
            after = response.messages[-1].message.seq


def newest_seqs(spans: Sequence[Span]) -> list[int]:
    """The last seqs of `spans`, in order: at most ten, none far behind the newest."""
    if len(spans) == 1 and spans[0].from_seq == spans[0].to_seq:
        return [spans[0].to_seq]
    seqs: list[int] = []
    for span in sorted(spans, key=lambda span: span.to_seq, reverse=True):
        for seq in range(span.to_seq, span.from_seq - 1, -1):
            if len(seqs) == MESSAGES_MAX or (seqs and seq <= seqs[0] - _READ_SPAN_MAX):
                return seqs[::-1]
            seqs.append(seq)
    return seqs[::-1]


def within_bytes(messages: Sequence[entry_pb2.Message]) -> list[entry_pb2.Message]:
    """The newest of `messages` that fit together in `BYTES_MAX`, oldest first."""
    kept: list[entry_pb2.Message] = []
    size = 0
    for message in reversed(messages):
        size += message.ByteSize()
        if kept and size > BYTES_MAX:
            break
        kept.append(message)
    return kept[::-1]
