"""Whether a person looks at the client, and when others are told of it. Pure.

A session begins active. What changes becomes one presence event, at most one in `pause_s`; of
the changes meanwhile the newest is told, and whoever asked for one of them is answered with it.
Drive it: `ask`, then `unchanged`; while `due`, `tell` and append the event; then `recorded` or
`refused`.
"""


class Activity:
    """The activity of one session. Frames are named by their ids."""

    __slots__ = ("_asked", "_free_at", "_telling", "_told", "_wanted")

    def __init__(self) -> None:
        self._told = True  # as others know it
        self._wanted = True
        self._asked: list[str] = []  # frames that wait
        self._telling: list[str] | None = None  # frames whose event is on its way
        self._free_at = 0.0  # no further event before then

    @property
    def waiting(self) -> int:
        """Frames that wait for their event."""
        return len(self._asked)

    def ask(self, frame_id: str, active: bool) -> None:
        """The client says so."""
        self._wanted = active
        self._asked.append(frame_id)

    def unchanged(self) -> list[str]:
        """Frames to be answered without an event: others know it so."""
        if self._telling is not None or self._wanted != self._told:
            return []
        frames, self._asked = self._asked, []
        return frames

    def due(self, now: float) -> bool:
        """Whether an event may be appended now."""
        free = self._telling is None and now >= self._free_at
        return free and bool(self._asked) and self._wanted != self._told

    def tell(self, now: float, pause_s: float) -> bool:
        """What the event says; further ones wait `pause_s`."""
        self._telling, self._asked = self._asked, []
        self._free_at = now + pause_s
        return self._wanted

    def recorded(self) -> list[str]:
        """The event is durable: its frames."""
        self._told = not self._told
        return self.refused()

    def refused(self) -> list[str]:
        """The event was turned down: its frames."""
        frames, self._telling = self._telling or [], None
        return frames
