"""Mistakes in presence that a run must find; `mistakes` says what they are for."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from onward.types.v1 import entry_pb2

from services.presence import claims
from services.presence.handovers import Backlog, Handovers
from services.presence.plugins import Description
from services.presence.processing import Part, Processing, _contiguous
from services.presence.servicer import PresenceServicer
from services.presence.state import Message, Send
from services.presence.store import Cursor, Transaction
from services.presence.succession import Succession
from services.presence.term_rows import TermTables
from services.presence.timers import Timers


@contextmanager
def closed_terms_commit() -> Iterator[None]:
    """Who writes finds its term open, whoever has closed it."""

    def open_terms(self: TermTables) -> dict[int, str]:
        return {self.mine.term: "", **former(self)}

    former = TermTables.open_terms
    with patch.object(TermTables, "open_terms", open_terms):
        yield


@contextmanager
def rivals_are_not_closed() -> Iterator[None]:
    """Who takes a partition leaves the term that had it open."""

    def claim(self: TermTables, epochs: Mapping[int, int]) -> frozenset[int]:
        with patch.object(TermTables, "close_terms", lambda self, terms: None):
            return former(self, epochs)

    former = TermTables.claim
    with patch.object(TermTables, "claim", claim):
        yield


@contextmanager
def handovers_are_forgotten() -> Iterator[None]:
    """Who takes a partition does not go on with the handovers of its users."""

    def claim(self: TermTables, epochs: Mapping[int, int]) -> frozenset[int]:
        taken = former(self, epochs)
        for partition in taken:
            self.db.execute("DELETE FROM handovers WHERE partition = ?", (partition,))
        return taken

    former = TermTables.claim
    with patch.object(TermTables, "claim", claim):
        yield


class _Late(Part):
    """Entries whose cursor has moved already."""

    stood: Cursor


@contextmanager
def cursor_on_its_own() -> Iterator[None]:
    """The cursor moves in one transaction, and what the entries do is another."""

    async def take(self: PresenceServicer, log_id: str, chunk: Sequence[Part]) -> dict[int, int]:
        def move(tx: Transaction) -> list[Part]:
            late = []
            for part in chunk:
                one = _Late(*part)
                one.stood = tx.cursor(part.partition)
                new = _contiguous(part.entries, one.stood.pos)
                mine = part.partition in tx.mine.partitions
                if new and mine and part.epoch >= one.stood.epoch:
                    tx.put_cursor(part.partition, Cursor(new[-1].pos, part.epoch))
                late.append(one)
            return late

        return await take_chunk(self, log_id, await self._store.write(move))

    def apply(self: Processing, tx: Any, part: Any, *others: Any) -> Cursor:
        tx._cursors[part.partition] = part.stood
        return apply_part(self, tx, part, *others)

    take_chunk, apply_part = PresenceServicer._take_chunk, Processing._apply
    with (
        patch.object(PresenceServicer, "_take_chunk", take),
        patch.object(Processing, "_apply", apply),
    ):
        yield


@contextmanager
def nothing_is_taken_over() -> Iterator[None]:
    """What a closed term left to send stays there."""

    async def take_over(self: Succession) -> None:
        """Somebody else will."""

    with patch.object(Succession, "_take_over", take_over):
        yield


@contextmanager
def backlog_before_offline() -> Iterator[None]:
    """The log is read up to a head that was found before the end of the grace was committed."""
    heads: dict[str, int] = {}

    async def graces(self: Timers) -> float:
        for due in await self._store.read(lambda tx: tx.graces_due(100)):
            user = due.user
            state = await self._store.read(lambda tx, user=user: tx.load_user(user))
            for subject in sorted({follow.subject for follow in state.follows.values()}):
                heads[subject] = (await self._reader.messages(subject, 0, 1)).head
        return await end_graces(self)

    async def read(self: Handovers, subject: str, after: int, since: float) -> Backlog:
        def known(message: entry_pb2.Message) -> bool:
            return message.seq <= heads.get(subject, message.seq)

        found = await read_log(self, subject, after, since)
        messages = [message for message in found.messages if known(message)]
        return replace(found, messages=messages, positions=found.positions[: len(messages)])

    end_graces, read_log = Timers._graces, Handovers._read
    with patch.object(Timers, "_graces", graces), patch.object(Handovers, "_read", read):
        yield


@contextmanager
def dead_edges_overlooked() -> Iterator[None]:
    """Clients of an edge that died stay online, and wait for nothing."""

    async def sweep(self: Timers) -> float:
        return 60.0

    with patch.object(Timers, "_sweep", sweep):
        yield


@contextmanager
def no_check_at_send() -> Iterator[None]:
    """What is due is sent, whatever was acknowledged since."""

    def may_send(_: Any, messages: Sequence[Message], *__: Any) -> Send:
        return Send(tuple(messages), ())

    with patch.object(claims, "may_send", may_send):
        yield


@contextmanager
def doubt_is_repeated() -> Iterator[None]:
    """What may have been sent is sent again, also where that is for nobody to do."""
    with patch.object(Description, "repeats_unknown", lambda self, scheme: True):
        yield


PRESENCE_MISTAKES = (
    closed_terms_commit,
    rivals_are_not_closed,
    cursor_on_its_own,
    nothing_is_taken_over,
    backlog_before_offline,
    dead_edges_overlooked,
    no_check_at_send,
    handovers_are_forgotten,
    doubt_is_repeated,
)
