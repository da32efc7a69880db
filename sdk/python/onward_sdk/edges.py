"""Which edge to try, and how long to wait before: a pure core.

Knows addresses and weights; must not know sockets, clocks or chance. Drive it with `choose` before
each attempt, then `failed` or `worked`. Chance comes in as a number from 0 up to, not including, 1.
"""

from collections.abc import Iterable
from dataclasses import dataclass

BACKOFF_FIRST_S = 0.2
BACKOFF_MAX_S = 20.0


@dataclass(frozen=True, slots=True)
class Edge:
    """Where an edge is (`http://host:port`), and how often to choose it next to the others."""

    url: str
    weight: float = 1.0


class Edges:
    """A list of edges. One that failed is set aside until all have failed; then all are tried again
    but the last to fail, which is likely to fail still: it may be the one that is stopping now."""

    def __init__(self, edges: Iterable[str | Edge]) -> None:
        self._edges = [Edge(edge) if isinstance(edge, str) else edge for edge in edges]
        if not self._edges:
            raise ValueError("at least one edge is needed")
        self._set_aside: dict[str, None] = {}  # the last to fail comes last

    def __len__(self) -> int:
        return len(self._edges)

    @property
    def exhausted(self) -> bool:
        """True after every edge has failed; the next choice begins anew."""
        return len(self._set_aside) == len(self._edges)

    def choose(self, chance: float) -> str:
        """The next edge to try, by weight."""
        if self.exhausted:
            last = next(reversed(self._set_aside))
            self._set_aside = {last: None} if len(self) > 1 else {}
        candidates = [edge for edge in self._edges if edge.url not in self._set_aside]
        at = chance * sum(edge.weight for edge in candidates)
        for edge in candidates:
            at -= edge.weight
            if at < 0:
                return edge.url
        return candidates[-1].url

    def failed(self, url: str) -> None:
        """Sets an edge aside: it could not be reached, or is stopping."""
        self._set_aside.pop(url, None)
        self._set_aside[url] = None

    def worked(self, url: str) -> None:
        """An edge opened a session."""
        self._set_aside.pop(url, None)


def backoff_s(failures: int, chance: float) -> float:
    """How long to wait after so many failures in a row (from 1): full jitter, doubling."""
    assert failures >= 1
    return chance * min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(failures - 1, 16))
