"""Mistakes that the checker must find: one changed place each, and a scenario that provokes it.

`stretch` makes a moment last that is too short to hit; it stands in the tree with the mistake and
in the one without, which must pass.
"""

from dataclasses import dataclass

from tests.faults import scenarios
from tests.faults.scene import Scenario
from tests.faults.tree import Edit

PRESENCE, COORDINATOR, EDGE = "services/presence", "services/coordinator", "services/edge"
LEASE = "services/chassis/lease.py"


@dataclass(frozen=True, slots=True)
class Mutation:
    """`rules`: at least one of these is found broken."""

    rules: frozenset[str]
    scenario: Scenario
    mistake: tuple[Edit, ...]
    stretch: tuple[Edit, ...] = ()


_EACH_PIECE = """        for chunk in chunks(request.partitions, self._entries_max):
"""


def _wait_before(condition: str, seconds: float) -> Edit:
    """Presence waits before it takes entries of which the condition holds for one, `e`."""
    return Edit(
        f"{PRESENCE}/servicer.py",
        _EACH_PIECE,
        _EACH_PIECE
        + f"""            if any({condition} for part in chunk for e in part.entries):
                await asyncio.sleep({seconds})
""",
    )


def _n1(scenario: Scenario, *mistake: Edit, stretch: tuple[Edit, ...] = ()) -> Mutation:
    return Mutation(frozenset({"N1"}), scenario, mistake, stretch)


def _n3(scenario: Scenario, *mistake: Edit) -> Mutation:
    return Mutation(frozenset({"N3"}), scenario, mistake)


MUTATIONS = {
    # With a file for a log there is no rival that the fence would have to keep out: one process at
    # a time can open it, whatever etcd says.
    "no fence": Mutation(
        frozenset({"L1", "L2", "L4"}),
        scenarios.RIVALS,
        (
            Edit(
                f"{COORDINATOR}/postgres_reads.py",
                """Facts(Part(*part)) for p, *part in rows if part[0] == terms[p]}""",
                """Facts(Part(terms[p], *part[1:])) for p, *part in rows}""",
            ),
            Edit(
                f"{COORDINATOR}/postgres_fence.py",
                """        "WHERE parts.epoch = b.epoch AND parts.tail = b.tail "
""",
                """        "WHERE parts.tail = b.tail "
""",
            ),
            Edit(
                f"{COORDINATOR}/postgres_fence.py",
                """parts.p = b.p AND parts.epoch = b.epoch AND parts.tail = b.tail """,
                """parts.p = b.p AND parts.tail = b.tail """,
            ),
        ),
        # Nobody stops by himself, so that the fence alone is left.
        stretch=(
            Edit(LEASE, "if boottime() < self.valid_until and not self.", "if not self."),
            Edit(LEASE, "min(pause_s, self.valid_until - boottime())", "pause_s"),
        ),
    ),
    "acceptance before commit": Mutation(
        frozenset({"L1", "L2"}),
        scenarios.KILLED_ONCE_ACCEPTED,
        (
            Edit(
                f"{COORDINATOR}/sqlite_store.py",
                """                connection.execute("BEGIN IMMEDIATE")
                result = work(connection, *arguments)
                connection.execute("COMMIT")
                return result
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
""",
                """                if connection.in_transaction:
                    connection.execute("COMMIT")
                connection.execute("BEGIN IMMEDIATE")
                return work(connection, *arguments)
            finally:
                pass
""",
            ),
        ),
    ),
    "cursor outside the transaction": _n1(
        scenarios.PRESENCE_KILLED_WHILE_IT_DECIDES,
        Edit(
            f"{PRESENCE}/processing.py",
            """        new = _contiguous(part.entries, cursor.pos)
""",
            """        new = _contiguous(part.entries, cursor.pos)
        if new:
            tx.put_cursor(partition, Cursor(new[-1].pos, epoch))
            tx.db.execute("COMMIT")
            tx.db.execute("BEGIN IMMEDIATE")
""",
        ),
        stretch=(
            Edit(
                f"{PRESENCE}/processing.py",
                """        kinds: Counter[str] = Counter()
""",
                """        kinds: Counter[str] = Counter()
        if any(e.HasField("message") for e in new):
            __import__("time").sleep(0.4)
""",
            ),
        ),
    ),
    "cancel on return": _n1(
        scenarios.RETURNS_AND_DIES_UNREAD,
        Edit(
            f"{PRESENCE}/user_rows.py",
            """            case state.DropWaiting(subject, client_id):
""",
            """            case state.DropWaiting(subject, client_id):
                self.db.execute(
                    "UPDATE deliveries SET state = 'cancelled', due_at = NULL, held = 0,"
                    " reason = 'ACKNOWLEDGED' WHERE user = ? AND subject = ?"
                    " AND due_at IS NOT NULL",
                    (user, subject),
                )
""",
        ),
    ),
    "no base": _n1(
        scenarios.A_SECOND_CLIENT_COMES_LATER,
        Edit(
            f"{PRESENCE}/cover.py",
            """    if follow.subject != message.subject or follow.base >= message.seq:
        return False
    if message.seq""",
            """    if follow.subject != message.subject:
        return False
    if message.seq""",
        ),
    ),
    "no check at send": _n3(
        scenarios.RETURNS_AND_READS,
        Edit(
            f"{PRESENCE}/sending.py",
            """    left = tuple(m for m in messages if not cover.is_acknowledged(state, m))
""",
            """    left = tuple(messages)
    return Send(left)
""",
        ),
    ),
    "backlog read before offline is committed": _n1(
        scenarios.DIES_UNDER_LOAD,
        Edit(
            f"{PRESENCE}/timers.py",
            """        await self._note_tails(due)
""",
            """        await self._note_tails(due)
        early = self._reader.__dict__.setdefault("early", {})
        for one in due:
            user = await self._store.read(lambda tx: tx.load_user(one.user))
            for follow in user.follows.values():
                early[follow.subject] = await self._reader.messages(
                    follow.subject, follow.acked, 1_000, 1 << 20
                )
""",
        ),
        Edit(
            f"{PRESENCE}/handovers.py",
            """            response = await self._reader.messages(
                subject, after, self._messages_max, _READ_BYTES_MAX
            )
""",
            """            response = self._reader.early.pop(subject)
""",
        ),
        stretch=(
            Edit(
                f"{PRESENCE}/timers.py",
                """        behind = 0
        for page in _pages(due):
""",
                """        behind = 0
        await asyncio.sleep(0.5 if due else 0.0)
        for page in _pages(due):
""",
            ),
        ),
    ),
    "no handover row": _n1(
        scenarios.PRESENCE_KILLED_IN_A_HANDOVER,
        Edit(
            f"{PRESENCE}/term_rows.py",
            """        self.db.execute("DELETE FROM meta WHERE name = 'unplaced'")
""",
            """        self.db.execute("DELETE FROM meta WHERE name = 'unplaced'")
        self.db.execute("DELETE FROM handovers")
""",
        ),
        stretch=(
            Edit(
                f"{PRESENCE}/handovers.py",
                """        backlog = await self._read(""",
                """        await asyncio.sleep(1.0)
        backlog = await self._read(""",
            ),
        ),
    ),
    "ended follows forgotten": _n3(
        scenarios.READS_AND_UNSUBSCRIBES,
        Edit(
            f"{PRESENCE}/change.py",
            """        self.put_follow(replace(self.raise_to_marks(key), ended=True))
""",
            """        base = self._follows[key].base
        self.put_follow(replace(self._follows[key], ended=True, acked=base, acked_pos=0))
""",
        ),
    ),
    "a mark that counts sessions whose end presence has not processed": _n1(
        scenarios.DIES_WHILE_PRESENCE_STANDS_STILL,
        Edit(
            f"{EDGE}/marks.py",
            """        for ended in self._ended.values():
            for partition, floor""",
            """        for ended in ():
            for partition, floor""",
        ),
        stretch=(_wait_before('e.presence.HasField("disconnected")', 2.0),),
    ),
    "the round stamp ignored": _n1(
        scenarios.RETURNS_AFTER_OTHERS_HAVE_READ,
        Edit(
            f"{PRESENCE}/cover.py",
            """    if mark is None or mark.round <= follow.round:
""",
            """    if mark is None:
""",
        ),
    ),
    "a sweep that runs once": _n1(
        scenarios.COMES_AS_ITS_EDGE_DIES,
        Edit(
            f"{PRESENCE}/timers.py",
            """                behind |= await self._sweep_edge(edge_id)
""",
            """                swept = self.__dict__.setdefault("swept", set())
                if edge_id not in swept:
                    late = await self._sweep_edge(edge_id)
                    behind |= late
                    if not late:
                        swept.add(edge_id)
""",
        ),
        stretch=(
            _wait_before('e.presence.HasField("connected") and e.presence.user == "late"', 7.0),
        ),
    ),
    "a hold end that ignores marks": _n3(
        scenarios.RETURNS_AND_READS,
        Edit(
            f"{PRESENCE}/sending.py",
            """    left = tuple(m for m in messages if not cover.is_acknowledged(state, m))
""",
            """    left = tuple(
        m
        for m in messages
        if not any(
            f.base < m.seq and (m.seq <= f.acked or m.pos <= f.acked_pos)
            for f in state.follows.values()
        )
    )
""",
        ),
    ),
    "no recovery of sending": _n1(
        scenarios.PRESENCE_KILLED_WHILE_IT_SENDS,
        Edit(
            f"{PRESENCE}/outbox_rows.py",
            """                for left in ("d.due_at IS NOT NULL", "d.state = 'sending'")
""",
            """                for left in ("d.due_at IS NOT NULL", "d.state = 'lost'")
""",
        ),
    ),
}
