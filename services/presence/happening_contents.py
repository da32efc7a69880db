"""The messages that happenings name: from memory if they were just accepted, else from the log.

Happenings name messages and do not keep them, as the log holds each once. What a Report brought is
remembered for a moment, bounded, as an extension that keeps up is told of it next. What the log
does not have any more is told as None.
"""

from collections.abc import Mapping, Sequence

from onward.types.v1 import entry_pb2

from services.presence.contents import Contents
from services.presence.log_reader import LogReader

# Of one look at the log, together; one message is always read.
_BYTES_MAX = 1024 * 1024


class HappeningContents:
    """Reads messages by subject and seq."""

    def __init__(self, reader: LogReader) -> None:
        self._reader = reader
        self._memory = Contents(reader)

    def remember(self, message: entry_pb2.Message) -> None:
        """A message was just accepted."""
        self._memory.remember(message)

    async def read(
        self, wanted: Sequence[tuple[str, int]]
    ) -> Mapping[tuple[str, int], entry_pb2.Message | None]:
        """The first of these messages, at least one; None: trimmed. Raises Unavailable if the log
        cannot be read now, LogReplaced if it is another."""
        found: dict[tuple[str, int], entry_pb2.Message | None] = {}
        size = 0
        for subject, seq in wanted:
            if (subject, seq) not in found:
                message = self._memory.remembered(subject, seq)
                if message is not None:
                    found[subject, seq] = message
                else:
                    last = max(n for name, n in wanted if name == subject)
                    found |= await self._read(subject, seq, last)
            one = found[subject, seq]
            size += one.ByteSize() if one is not None else 0
            if size >= _BYTES_MAX:
                break
        return found

    async def _read(
        self, subject: str, first: int, last: int
    ) -> dict[tuple[str, int], entry_pb2.Message | None]:
        """Messages from `first` on, as many as come at once; what is missing below them is gone."""
        response = await self._reader.messages(subject, first - 1, last - first + 1, _BYTES_MAX)
        found: dict[tuple[str, int], entry_pb2.Message | None] = {
            (subject, one.message.seq): one.message for one in response.messages
        }
        # What presence was told of was committed, so what the log does not have was trimmed.
        kept_from = response.messages[0].message.seq if response.messages else last + 1
        return {(subject, seq): None for seq in range(first, min(kept_from, last + 1))} | found
