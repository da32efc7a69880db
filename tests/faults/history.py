"""The history of a run: JSON lines, one event each, in the order in which they were written.

`at` is CLOCK_MONOTONIC, which all processes of one machine share, so histories of several writers
can be put in one order. What the events are is told in `checker`.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Event = dict[str, Any]


class History:
    """Writes events to a file as they happen; nothing is kept in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("w", encoding="utf-8", buffering=1 << 16)

    def write(self, event: str, **fields: Any) -> None:
        """Append an event that happens now, unless `at` says when it happened."""
        line = json.dumps({"event": event, "at": time.monotonic(), **fields})
        self._file.write(line + "\n")

    def close(self) -> None:
        """After the last event."""
        self._file.close()


def read(path: Path) -> Iterator[Event]:
    """The events of a file, one at a time."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)
