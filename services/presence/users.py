"""What backends, and users themselves, have done to users: follows, endpoints, profiles, an end.

What clients follow ends in the log, where the owner of the user's partition keeps it too; presence
ends it when it comes to that entry, which is waited for. What backends have added ends here.

Each call is done in transactions of bounded size, of which every one is whole; so a call that ends
half-way may be repeated. A follow is committed with a handover row. Where the subject's head has
not moved since it was read, there is nothing to decide, and the rows of a whole batch go at once;
else they are left to `handovers`.

Knows the store, the log reader and the cores. Must not know gRPC. To drive it: await its calls;
they raise `wishes.TooMany` where a bound is reached, and faults.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TypeVar

from services.chassis import logs
from services.chassis.errors import Fault, Unavailable
from services.presence import backend, metrics
from services.presence.endpoint_rows import moves
from services.presence.events import revoke
from services.presence.happenings import tells_of
from services.presence.log_owner import Ended, LogOwner
from services.presence.log_reader import LogReader
from services.presence.outbox import News, Outbox
from services.presence.profile import NO_PROFILE, Profile
from services.presence.recording import Recording
from services.presence.state import BACKEND, Effect, Handover, PutHandover, UserState
from services.presence.store import Store, Transaction
from services.presence.user_data import UserLimits
from services.presence.wishes import TooMany

log = logs.get(__name__)

T = TypeVar("T")

_USERS_AT_ONCE = 200
# Follows begun in one transaction; and ended, each of which is read by itself.
_FOLLOWS_AT_ONCE = 1_000
_ENDS_AT_ONCE = 200
_ERASED_AT_ONCE = 500
# Happenings looked at in one transaction, of anybody; each may list thousands of subjects.
_HAPPENINGS_AT_ONCE = 200
_READS_AT_ONCE = 8
_CALLS_AT_ONCE = 32
# Behind every message: the answer is the head alone.
_BEHIND = (1 << 63) - 1
# How long the end of a user waits for what is under way; whoever asked then asks again.
_CAUGHT_UP_WAIT_S = 3.0
_SENT_WAIT_S = 5.0
_LOOK_EVERY_S = 0.05


class Users:
    """Changes users; `tell(news)` after each commit."""

    def __init__(
        self,
        store: Store,
        reader: LogReader,
        log_owner: LogOwner,
        outbox: Outbox,
        limits: UserLimits,
        tell: Callable[[News], None],
    ) -> None:
        self._store = store
        self._reader = reader
        self._log_owner = log_owner
        self._outbox = outbox
        self._limits = limits
        self._tell = tell

    # -- follows ------------------------------------------------------------------------------

    async def follow(
        self, users: Sequence[str], subjects: Sequence[str], client_id: str = BACKEND
    ) -> int:
        """Has each of the users follow each of the subjects, as BACKEND or SELF says; how many
        follows are new."""
        heads = await self._heads(subjects)
        made: list[tuple[str, Handover]] = []
        for some_users, some_subjects in _blocks(users, subjects):
            bases = {subject: heads[subject] for subject in some_subjects}
            made += await self._store.write(
                partial(self._follow, users=some_users, bases=bases, client_id=client_id)
            )
        metrics.backend_follows.labels("added").inc(len(made))
        await self._settle(made)
        return len(made)

    def _follow(
        self, tx: Transaction, users: Sequence[str], bases: Mapping[str, int], client_id: str
    ) -> list[tuple[str, Handover]]:
        tx.lock(users)
        had = dict(tx.followed_without_client(users))
        effects_of: dict[str, list[Effect]] = {user: [] for user in users}
        made: list[tuple[str, Handover]] = []
        for subject, base in bases.items():
            states = tx.load_followers(users, subject)
            for user in users:
                effects = backend.follow(states[user], subject, base, tx.now(), client_id)
                new = [(user, e.handover) for e in effects if isinstance(e, PutHandover)]
                had[user] = had.get(user, 0) + len(new)
                if new and had[user] > self._limits.follows_max:
                    most = f"at most {self._limits.follows_max} subjects"
                    raise TooMany("follows", f"A user follows {most} without a client.")
                effects_of[user] += effects
                made += new
        self._write_all(tx, effects_of, News())
        return made

    def _write_all(
        self, tx: Transaction, effects_of: Mapping[str, Sequence[Effect]], news: News
    ) -> None:
        """Write what cores want of subjects that have nothing to do with one another. What can be
        seen of a user lists all their subjects, so it is recorded once for each user."""
        recording = Recording(tx)
        for user, effects in effects_of.items():
            self._write(tx, recording, user, effects, news)
        recording.write()

    def _write(
        self,
        tx: Transaction,
        recording: Recording,
        user: str,
        effects: Sequence[Effect],
        news: News,
    ) -> None:
        """Write a core's effects, and record what extensions are to be told of them."""
        if effects and tx.is_observed():
            recording.user(tx.load_user(user), effects)
        self._outbox.write(tx, user, effects, news=news)

    async def _settle(self, made: Sequence[tuple[str, Handover]]) -> None:
        """End the handovers of new follows that have nothing to decide; leave the others."""
        subjects = list(dict.fromkeys(row.key.subject for _, row in made))
        try:
            heads = await self._heads(subjects)
            settled = [one for one in made if backend.is_settled(one[1], heads[one[1].key.subject])]
            for page in _pages(settled, _FOLLOWS_AT_ONCE):
                await self._store.write(partial(_drop_settled, page=page))
        except Fault as fault:
            # The follows are committed. Whoever owns the users' partitions finds their handovers.
            log.warning("follows_unsettled", fault=type(fault).__name__)
            settled = []
        if len(settled) < len(made):
            self._tell(News(handovers=True))

    async def _heads(self, subjects: Sequence[str]) -> dict[str, int]:
        at_once = asyncio.Semaphore(_READS_AT_ONCE)

        async def head(subject: str) -> int:
            async with at_once:
                return (await self._reader.messages(subject, _BEHIND, 1)).head

        reads = [asyncio.create_task(head(subject)) for subject in subjects]
        try:
            return dict(zip(subjects, await asyncio.gather(*reads), strict=True))
        finally:
            for read in reads:
                read.cancel()

    async def unfollow(
        self, users: Sequence[str], subjects: Sequence[str], everywhere: bool
    ) -> int:
        """Ends what backends have added, or all follows of these subjects; how many."""
        core = revoke if everywhere else backend.unfollow
        ended = await self._end_in_log(users, subjects) if everywhere else 0
        pairs = [(user, subject) for user in users for subject in subjects]
        for page in _pages(pairs, _ENDS_AT_ONCE):
            ended += await self._end(page, core, "")
        metrics.backend_follows.labels("removed").inc(ended)
        return ended

    async def revoke(self, user: str, subject: str) -> int:
        """Ends all follows of the subject (empty: of all), and cancels what was to be sent of it;
        how many follows were ended."""
        reason = "REVOKED"
        ended = await self._end_in_log([user], [subject] if subject else [])
        if subject:
            return ended + await self._end([(user, subject)], revoke, reason)
        after = ""
        while page := await self._store.read(_followed_page(user, after)):
            ended += await self._end([(user, one) for one in page], revoke, reason)
            after = page[-1]

        def cancel(tx: Transaction) -> None:
            tx.lock([user])
            tx.cancel_deliveries_of(user, None, reason)

        await self._store.write(cancel)
        return ended

    async def _end_in_log(self, users: Sequence[str], subjects: Sequence[str]) -> int:
        """Ends what the users' clients follow; returns how many, once presence has come to it."""
        at_once = asyncio.Semaphore(_CALLS_AT_ONCE)

        async def end(user: str) -> Ended:
            async with at_once:
                return await self._log_owner.end_follows(user, subjects)

        calls = [asyncio.create_task(end(user)) for user in users]
        try:
            ended = await asyncio.gather(*calls)
        finally:
            for call in calls:
                call.cancel()
        await self._caught_up(ended)
        return sum(one.follows for one in ended)

    async def _end(
        self,
        pairs: Sequence[tuple[str, str]],
        core: Callable[[UserState, Sequence[str]], list[Effect]],
        reason: str,
    ) -> int:
        """Ends follows of (user, subject); with a reason, what was to be sent of it is cancelled.
        Returns how many."""
        news, ended = News(), 0

        def work(tx: Transaction) -> None:
            nonlocal ended
            tx.lock({user for user, _ in pairs})
            effects_of: dict[str, list[Effect]] = defaultdict(list)
            for user, subject in pairs:
                effects = core(tx.load_user(user, subject), [subject])
                effects_of[user] += effects
                ended += sum(isinstance(effect, PutHandover) for effect in effects)
            self._write_all(tx, effects_of, news)
            if reason:
                for user, subject in pairs:
                    tx.cancel_deliveries_of(user, subject, reason)

        await self._store.write(work)
        self._tell(news)
        return ended

    # -- endpoints ----------------------------------------------------------------------------

    async def add_endpoint(self, user: str, uri: str) -> None:
        """Registers an external token for the user; one that moves leaves its former user."""

        def work(tx: Transaction) -> None:
            tokens = {uri} if moves(uri) else set()
            tx.lock({user, *(tx.users_of([uri]) if tokens else ())}, tokens)
            state_now = tx.load_user(user, "")
            if uri not in state_now.endpoints and (
                len(state_now.endpoints) >= self._limits.endpoints_max
            ):
                most = f"at most {self._limits.endpoints_max} external tokens"
                raise TooMany("external tokens", f"A user has {most}; remove one.")
            recording = Recording(tx)
            effects = backend.add_endpoint(state_now, uri, tx.now())
            self._write(tx, recording, user, effects, News())
            recording.write()

        await self._store.write(work)

    async def remove_endpoint(self, user: str, uri: str) -> bool:
        """Removes an external token of the user; whether it was there."""

        def work(tx: Transaction) -> bool:
            tx.lock([user])
            recording = Recording(tx)
            effects = backend.remove_endpoint(tx.load_user(user, ""), uri)
            self._write(tx, recording, user, effects, News())
            recording.write()
            return bool(effects)

        return await self._store.write(work)

    # -- profiles -----------------------------------------------------------------------------

    async def change_profile(
        self, user: str, change: Callable[[Profile, float], Profile]
    ) -> tuple[Profile, Profile, float]:
        """The profile before and after `change(profile, now)`, and when that was. What `change`
        raises leaves it as it is. What was put off is looked at again."""

        def work(tx: Transaction) -> tuple[Profile, Profile, float]:
            tx.lock([user])
            before = tx.profiles([user]).get(user, NO_PROFILE)
            after = change(before, tx.now())
            if after != before:
                tx.put_profile(user, after)
                tx.wake_deferred(user)
            return before, after, tx.now()

        before, after, now = await self._store.write(work)
        if after != before:
            self._tell(News(deliveries=True))
        return before, after, now

    # -- the end of a user --------------------------------------------------------------------

    async def erase(self, user: str) -> None:
        """Forgets the user. Raises Unavailable while something of the user is under way.

        The user's sessions are ended first, and the log's owner forgets the clients. Registers go
        too: all that they guard against are events of former sessions. What stands in the log
        before this moment is waited for, and has taken effect; what comes later is written by a
        session that could not be ended or is new, whose user is not gone.
        """
        ended = await self._log_owner.forget(user)
        await self._caught_up([ended])
        await self._erase_happenings(user, ended.partition)
        await self._store.write(partial(_tell_of_end, user=user))
        clock = asyncio.get_running_loop()
        until = clock.time() + _SENT_WAIT_S
        erased = 0
        while True:
            while gone := await self._store.write(partial(_erase, user=user)):
                erased += gone
            if not await self._store.read(lambda tx: tx.is_being_sent(user)):
                break
            # Whoever sends writes what came of it, so those rows can go only after that.
            if clock.time() >= until:
                raise Unavailable("something is being sent to the user; try again")
            await asyncio.sleep(_LOOK_EVERY_S)
        metrics.forgotten.labels("user").inc()
        log.info("user_erased", rows=erased)

    async def _erase_happenings(self, user: str, partition: int) -> None:
        """Delete what extensions were to be told of the user; the end is told after that."""
        after = 0

        def erase_page(tx: Transaction) -> int:
            page = tx.presence_after(partition, after, _HAPPENINGS_AT_ONCE)
            if numbers := [number for number, payload in page if tells_of(payload, user)]:
                tx.drop_happenings(partition, numbers)
            return page[-1][0] if len(page) == _HAPPENINGS_AT_ONCE else 0

        while last := await self._store.write(erase_page):
            after = last

    async def _caught_up(self, ended: Sequence[Ended]) -> None:
        """Wait until what stands in the log up to there has taken effect."""
        awaited: dict[int, int] = {}
        for one in ended:
            awaited[one.partition] = max(one.pos, awaited.get(one.partition, 0))
        clock = asyncio.get_running_loop()
        until = clock.time() + _CAUGHT_UP_WAIT_S
        while awaited := await self._store.read(partial(_not_reached, awaited=awaited)):
            if clock.time() >= until:
                raise Unavailable("presence has not come to what the user did last; try again")
            await asyncio.sleep(_LOOK_EVERY_S)


def _not_reached(tx: Transaction, awaited: Mapping[int, int]) -> dict[int, int]:
    return {partition: pos for partition, pos in awaited.items() if tx.cursor(partition).pos < pos}


def _pages(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for at in range(0, len(items), size):
        yield items[at : at + size]


def _blocks(
    users: Sequence[str], subjects: Sequence[str]
) -> Iterator[tuple[Sequence[str], Sequence[str]]]:
    """All of (users × subjects), in blocks of as many as one transaction may begin; each user in
    as few of them as can be."""
    for some_subjects in _pages(subjects, _FOLLOWS_AT_ONCE):
        at_once = min(_USERS_AT_ONCE, max(1, _FOLLOWS_AT_ONCE // len(some_subjects)))
        for some_users in _pages(users, at_once):
            yield some_users, some_subjects


def _drop_settled(tx: Transaction, page: Sequence[tuple[str, Handover]]) -> None:
    tx.lock({user for user, _ in page})
    tx.drop_settled(page)


def _followed_page(user: str, after: str) -> Callable[[Transaction], list[str]]:
    """Reads the next subjects that the user follows."""
    return lambda tx: list(
        dict.fromkeys(one.subject for one in tx.followed(user, after, _ENDS_AT_ONCE))
    )


def _tell_of_end(tx: Transaction, user: str) -> None:
    """Have extensions told that nothing is left of the user, before it is so."""
    tx.lock([user])
    recording = Recording(tx)
    if tx.is_observed():
        recording.user(whole := tx.load_user(user), backend.erased(whole))
    recording.write()


def _erase(tx: Transaction, user: str) -> int:
    tx.lock([user])
    return tx.erase_page(user, _ERASED_AT_ONCE)
