"""Mistakes that a run must find: each makes the system break one of its promises, if rarely.

A run that finds none of them in its seeds has not looked. Each is a patch of the code under trial,
or of what the simulated store promises; `made` is in force while it is entered.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from unittest.mock import PropertyMock, patch

from services.chassis.errors import StoreFull, Unavailable
from services.coordinator.committer import Committer
from services.coordinator.early_requests import Early, EarlyRequests
from services.coordinator.holdings import Holdings
from services.edge.hub import Hub
from services.edge.outbox import Outbox, _Lane
from tests.simulation.log_store import Database, SimulatedStore
from tests.simulation.presence_mistakes import PRESENCE_MISTAKES


@contextmanager
def no_fence() -> Iterator[None]:
    """The store takes appends of any epoch."""
    with patch.object(Database, "fence", False):
        yield


@contextmanager
def no_fence_and_no_self_fence() -> Iterator[None]:
    """Nor does a coordinator stop by itself when its lease may have run out."""
    valid = PropertyMock(return_value=True)
    with no_fence(), patch.object(Holdings, "valid", valid):
        yield


@contextmanager
def acceptance_before_commit() -> Iterator[None]:
    """The publisher is told when the write is on its way."""

    async def append(
        self: SimulatedStore,
        stamp: Any,
        terms: Mapping[int, int],
        lookups: Any,
        decide: Callable[..., Any],
    ) -> frozenset[int]:
        facts = await self._ask(lambda: self._database.facts(terms, lookups))
        decided = {p: decide(p, facts[p]) for p in terms if p in facts}
        way = self._network.delay(self._name, "store")
        self._network.later(way, _written, self, terms, decided)
        return frozenset(terms) - frozenset(facts)

    with patch.object(SimulatedStore, "append", append):
        yield


def _written(store: SimulatedStore, terms: Any, decided: Any) -> None:
    if store._network.reachable(store._name, "store") and not store._network.down:
        with suppress(Unavailable, StoreFull):  # nobody is there to hear it
            store._database.write(terms, decided)


@contextmanager
def newer_before_older() -> Iterator[None]:
    """What is sent again goes the newest first."""
    rewind = _Lane.rewind

    def backwards(lane: _Lane) -> None:
        rewind(lane)
        lane.unsent.reverse()

    with patch.object(_Lane, "rewind", backwards):
        yield


@contextmanager
def early_turned_around() -> Iterator[None]:
    """What waited for a claim to take effect is taken up the newest first."""
    end = EarlyRequests.end

    def backwards(early: EarlyRequests, partitions: Iterable[int]) -> list[Early]:
        return end(early, partitions)[::-1]

    with patch.object(EarlyRequests, "end", backwards):
        yield


@contextmanager
def publications_forgotten() -> Iterator[None]:
    """A repeat is not known for one."""
    with patch.object(Database, "remembers", False):
        yield


@contextmanager
def unknown_is_done() -> Iterator[None]:
    """A commit of which no answer came counts as made."""
    settle = Committer._settle

    def hopeful(self: Committer, works: Any, deposed: Any, decisions: Any) -> None:
        settle(self, works, frozenset(), decisions)

    async def commit(self: SimulatedStore, *arguments: Any) -> frozenset[int]:
        try:
            return await append(self, *arguments)
        except Unavailable:  # as if it had said so
            return frozenset()

    append = SimulatedStore.append
    with (
        patch.object(Committer, "_settle", hopeful),
        patch.object(SimulatedStore, "append", commit),
    ):
        yield


@contextmanager
def never_sent_again() -> Iterator[None]:
    """A stream that breaks takes with it what was under way."""
    with patch.object(Outbox, "_rewind", lambda self, lane: None):
        yield


@contextmanager
def holes_overlooked() -> Iterator[None]:
    """What an edge may have missed while a partition changed hands is not looked for."""

    def watched(self: Hub, watched: Any) -> list[Any]:
        channel = self._channels.get(watched.subject)
        if channel is not None and channel.last >= 0:
            channel.last = max(channel.last, watched.head)
        return real(self, watched)

    real = Hub.watched
    with patch.object(Hub, "watched", watched):
        yield


MISTAKES = {
    made.__name__: made
    for made in (
        no_fence,
        no_fence_and_no_self_fence,
        acceptance_before_commit,
        newer_before_older,
        early_turned_around,
        publications_forgotten,
        unknown_is_done,
        never_sent_again,
        holes_overlooked,
        *PRESENCE_MISTAKES,
    )
}
