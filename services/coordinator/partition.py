"""What the owner of a partition does with the requests that reach it. Pure.

Knows the partition's facts as the store has just read them; must not know streams, commits or
clocks. Its rules:

- Requests are decided in the order they came; what one did is a fact for the next.
- A message gets the next seq of its subject and the next pos of the partition. One whose
  (subject, publisher, publication id) is known is answered as the first was, and not appended;
  with other content it is refused.
- A message to be retained becomes, in the same commit, its subject's retained message, in place of
  the one before; one without content takes that away. It is a message like any other besides.
- A transient message is neither appended nor remembered: it is answered with seq 0, and relayed in
  its place between the others.
- A presence event whose (session, number) is known is answered as the first was.
- A mark is appended and never answered.
- A watch is answered with the head as it is between the requests around it; one of what cannot be
  a subject is not answered.
- The follows of a user's clients are ended by one entry for all of them, and the edges are told
  whether or not there were any: a session may have some that its register lacks. A user is
  forgotten client by client, as a client that was not seen for long is.
- While the store is full, what would have to be appended is refused; all else is answered.

Drive it: `lookup(requests)` says which facts are needed; `decide(term, requests, facts)` returns
effects, to be carried out **in their order, after the writes are durable**, and the writes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from google.protobuf.timestamp_pb2 import Timestamp
from onward.coordinator.v1 import coordinator_pb2
from onward.types.v1 import entry_pb2

from services.chassis.refusals import Code, Refusal, refuse
from services.chassis.subjects import subject_fault
from services.coordinator.bounds import event_refusal, invalid, publish_refusal, subject_refusal
from services.coordinator.effects import (
    Accept,
    Answer,
    Append,
    AwaitProcessed,
    Conclude,
    Deliver,
    Effect,
    End,
    EndFollows,
    EndWatch,
    Forget,
    ForgetUser,
    LogOutUser,
    Outcome,
    Relay,
    Replace,
    Request,
    StartWatch,
    TellClient,
)
from services.coordinator.registers import (
    Limits,
    Recorded,
    logout_of,
    record,
    revocation,
    without,
)
from services.coordinator.store import (
    MARK,
    MESSAGE,
    PRESENCE,
    EventKey,
    Facts,
    Head,
    LogRow,
    Lookup,
    Publication,
    PublicationKey,
    RecordedEvent,
    Register,
    Writes,
    publication_key,
)

FULL_RETRY_MS = 1_000
_FULL = "The log is full; nothing was accepted."


@dataclass(frozen=True, slots=True)
class Term:
    """Under which ownership, and when, is decided."""

    partition: int
    partitions: int
    epoch: int
    wall_ms: int
    limits: Limits = field(default_factory=Limits)
    full: bool = False  # the store can take nothing


@dataclass(frozen=True, slots=True)
class Decision:
    """Effects, in order; writes, which must be durable before any of them."""

    effects: list[Effect]
    writes: Writes


def lookup(requests: Sequence[Request]) -> Lookup:
    """The facts that `decide` needs for these requests."""
    subjects, publications, events, clients, users = set(), set(), set(), set(), set()
    for request in requests:
        body = request.body
        if isinstance(body, coordinator_pb2.Append):
            kind = body.WhichOneof("body")
            if kind == "publish":
                publish = body.publish
                if not publish.transient:
                    subjects.add(publish.subject)
                    publications.add(_publication_key(publish))
            elif kind == "presence":
                events.add(_event_key(body.presence))
                clients.add((body.presence.user, body.presence.client_id))
        elif isinstance(body, coordinator_pb2.Watch):
            subjects.add(body.subject)
        elif isinstance(body, coordinator_pb2.ReadClient | Forget):
            clients.add((body.user, body.client_id))
        elif isinstance(body, EndFollows | LogOutUser | ForgetUser):
            users.add(body.user)
            if isinstance(body, EndFollows):
                events.add(EventKey(body.call_id, 1))
    return Lookup(subjects, publications, events, clients, users)


def decide(term: Term, requests: Iterable[Request], facts: Facts) -> Decision:
    """Decide about requests to the owner of a partition, in order. `facts` is used up."""
    deciding = _Deciding(term, facts)
    for request in requests:
        deciding.take(request)
    return Decision(deciding.effects, deciding.writes)


class _Deciding:
    """The state between the requests of one decision: the facts, as they change."""

    def __init__(self, term: Term, facts: Facts) -> None:
        self.effects: list[Effect] = []
        self.writes = Writes()
        self._term = term
        self._facts = facts
        self._tail = facts.part.tail
        self._generation_floor = facts.part.generation_floor
        self._now = Timestamp()
        self._now.FromMilliseconds(term.wall_ms)
        self._entry = entry_pb2.Entry(
            partition=term.partition, epoch=term.epoch, appended_at=self._now
        )
        self._message_entry = entry_pb2.Entry()
        self._message_entry.CopyFrom(self._entry)
        self._message_entry.message.epoch = term.epoch
        self._message_entry.message.accepted_at.CopyFrom(self._now)

    def take(self, request: Request) -> None:
        origin, body = request.origin, request.body
        if isinstance(body, coordinator_pb2.Append):
            kind = body.WhichOneof("body")
            if kind == "publish":
                publish = body.publish
                if publish.transient:
                    self._relay(origin, body.request, publish)
                else:
                    self._publish(origin, body.request, publish)
            elif kind == "presence":
                self._presence(origin, body.request, body.presence)
            elif kind == "mark" and self._term.full:
                pass
            elif kind == "mark":
                entry = self._next_entry()
                entry.mark.CopyFrom(body.mark)
                self._append(MARK, entry)
            else:
                self._refuse(origin, body.request, invalid("An append has a body."))
        elif isinstance(body, coordinator_pb2.Watch):
            self._watch(origin, body.subject)
        elif isinstance(body, coordinator_pb2.ReadClient):
            self._read_client(origin, body)
        elif isinstance(body, Forget):
            self._forget(body)
        elif isinstance(body, EndFollows):
            self._end_follows(origin, body)
        elif isinstance(body, LogOutUser):
            self._log_out_user(origin, body.user)
        elif isinstance(body, ForgetUser):
            self._forget_user(origin, body.user)
        else:
            self.effects.append(EndWatch(origin, body.subject))

    def _publish(self, origin: int, request: int, publish: coordinator_pb2.Publish) -> None:
        key = _publication_key(publish)
        content = publish.content
        digest = _digest(content)
        known = self._facts.publications.get(key)
        if known is not None:
            if known.digest != digest:
                reused = "This publicationId was used here for other content."
                self._refuse(origin, request, refuse(Code.PUBLICATION_ID_REUSED, reused))
            else:
                self.effects.append(Accept(origin, request, known.seq, known.epoch, duplicate=True))
            return
        if self._term.full:
            self._refuse_full(origin, request)
            return
        subject = publish.subject
        fault = self._publish_refusal(subject, publish)
        if fault is not None:
            self._refuse(origin, request, fault)
            return
        floor = self._facts.part.seq_floor
        head = self._facts.heads.get(subject) or Head(floor, floor)
        seq = head.seq + 1
        entry = self._next_entry(self._message_entry)
        message = entry.message
        message.subject, message.seq, message.publisher = subject, seq, publish.publisher
        message.content.CopyFrom(content)
        publication = Publication(digest, seq, self._term.epoch)
        self._facts.heads[subject] = Head(seq, head.low)
        self._facts.publications[key] = publication
        self.writes.heads[subject] = seq
        self.writes.publications[key] = publication
        row = self._append(MESSAGE, entry, subject, seq)
        if publish.retain:
            self.writes.retained[subject] = row if _has_body(content) else None
        self.effects.append(Accept(origin, request, seq, self._term.epoch, duplicate=False))
        self.effects.append(Deliver(entry, len(row.entry)))

    def _relay(self, origin: int, request: int, publish: coordinator_pb2.Publish) -> None:
        fault = self._publish_refusal(publish.subject, publish)
        if fault is not None:
            self._refuse(origin, request, fault)
            return
        message = entry_pb2.Message(
            subject=publish.subject,
            epoch=self._term.epoch,
            accepted_at=self._now,
            publisher=publish.publisher,
            content=publish.content,
        )
        self.effects.append(Accept(origin, request, 0, self._term.epoch, duplicate=False))
        self.effects.append(Relay(message))

    def _presence(self, origin: int, request: int, event: entry_pb2.PresenceEvent) -> None:
        key = _event_key(event)
        known = self._facts.events.get(key)
        if known is not None:
            self._tell_recorded(origin, request, known)
            # A repeat comes by a new stream, whose edge may be waiting for presence.
            self.effects.append(AwaitProcessed(origin, known.pos))
            return
        if self._term.full:
            self._refuse_full(origin, request)
            return
        fault = event_refusal(event, self._term.partition, self._term.partitions)
        if fault is not None:
            self._refuse(origin, request, fault)
            return
        registers = self._facts.registers.setdefault(event.user, {})
        outcome = record(event, registers, self._term.limits, self._generation_floor)
        if isinstance(outcome, Refusal):
            self._refuse(origin, request, outcome)
            return
        entry = self._next_entry()
        entry.presence.CopyFrom(event)
        entry.presence.generation = outcome.generation
        if outcome.lost:
            _leave_out(entry.presence.connected, outcome.lost)
        recorded = RecordedEvent(entry.pos, outcome.generation)
        self._facts.events[key] = recorded
        self.writes.events[key] = recorded
        if outcome.register is not None:
            registers[event.client_id] = outcome.register
            self.writes.registers[(event.user, event.client_id)] = outcome.register
            self.writes.forgotten.discard((event.user, event.client_id))
        self._append(PRESENCE, entry)
        self._tell_recorded(origin, request, recorded)
        self._follow_up(origin, entry.pos, event, outcome)

    def _follow_up(
        self, origin: int, pos: int, event: entry_pb2.PresenceEvent, outcome: Recorded
    ) -> None:
        if outcome.replaced is not None:
            self.effects.append(Replace(*outcome.replaced))
        if outcome.ending:
            self.effects.append(AwaitProcessed(origin, pos))
        if outcome.lost:
            ending = coordinator_pb2.Ending(
                user=event.user, session_id=event.session_id, subjects=outcome.lost
            )
            self.effects.append(End(ending, (event.edge_id,)))

    def _watch(self, origin: int, subject: str) -> None:
        part = self._facts.part
        head = self._facts.heads.get(subject)
        if head is None:
            if subject_fault(subject) is not None:
                return
            head = Head(part.seq_floor, part.seq_floor)
        watched = coordinator_pb2.Watched(
            subject=subject,
            head=head.seq,
            floor=head.low,
            tail=self._tail,
            epoch=self._term.epoch,
        )
        self.effects.append(StartWatch(origin, watched))

    def _read_client(self, origin: int, body: coordinator_pb2.ReadClient) -> None:
        register = self._facts.registers.get(body.user, {}).get(body.client_id)
        state = coordinator_pb2.ClientState(request=body.request)
        if register is not None:
            state.generation = register.generation
            state.follows.extend(register.follows)
        self.effects.append(TellClient(origin, state))

    def _forget(self, body: Forget) -> None:
        registers = self._facts.registers.get(body.user, {})
        register = registers.get(body.client_id)
        if register is None or register.generation != body.generation or self._term.full:
            return
        self._drop(registers, register)

    def _drop(self, registers: dict[str, Register], register: Register) -> None:
        event = logout_of(register)
        newest = register.generation
        if event is not None:
            entry = self._next_entry()
            entry.presence.CopyFrom(event)
            newest = event.generation
            self._append(PRESENCE, entry)
        client = (register.user, register.client_id)
        del registers[register.client_id]
        self.writes.registers.pop(client, None)
        self.writes.forgotten.add(client)
        self._generation_floor = max(newest, self._generation_floor)
        self.writes.generation_floor = self._generation_floor

    def _end_follows(self, origin: int, body: EndFollows) -> None:
        registers = self._facts.registers.setdefault(body.user, {})
        changed = [one for one in registers.values() if without(one, body.subjects) != one]
        key, event = revocation(body.user, body.call_id, body.subjects)
        known = self._facts.events.get(key)
        if known is None and changed and self._term.full:
            self._conclude_full(origin)
            return
        ended, pos = 0, known.pos if known else self._tail
        if known is None and changed:
            for before in changed:
                after = without(before, body.subjects)
                ended += len(before.follows) - len(after.follows)
                registers[before.client_id] = after
                self.writes.registers[(body.user, before.client_id)] = after
            entry = self._next_entry()
            entry.presence.CopyFrom(event)
            pos = entry.pos
            self._facts.events[key] = self.writes.events[key] = RecordedEvent(pos, 0)
            self._append(PRESENCE, entry)
        # Again with a repeat: an owner that was deposed may have told nobody.
        self._end(coordinator_pb2.Ending(user=body.user, subjects=body.subjects), registers)
        self.effects.append(Conclude(origin, Outcome(ended, pos)))

    def _log_out_user(self, origin: int, user: str) -> None:
        registers = self._facts.registers.get(user, {})
        self._end(coordinator_pb2.Ending(user=user, logged_out=True), registers)
        there = sum(one.online for one in registers.values())
        self.effects.append(Conclude(origin, Outcome(there, self._tail)))

    def _forget_user(self, origin: int, user: str) -> None:
        registers = self._facts.registers.get(user, {})
        if registers and self._term.full:
            self._conclude_full(origin)
            return
        gone = list(registers.values())
        for register in gone:
            self._drop(registers, register)
        self.effects.append(Conclude(origin, Outcome(len(gone), self._tail)))

    def _end(self, ending: coordinator_pb2.Ending, registers: Mapping[str, Register]) -> None:
        edges = {one.edge_id for one in registers.values() if one.online}
        self.effects.append(End(ending, tuple(sorted(edges))))

    def _conclude_full(self, origin: int) -> None:
        full = refuse(Code.STORE_FULL, _FULL, FULL_RETRY_MS)
        self.effects.append(Conclude(origin, full))

    def _next_entry(self, like: entry_pb2.Entry | None = None) -> entry_pb2.Entry:
        # To copy what all have in common is faster than to set it anew.
        self._tail += 1
        entry = entry_pb2.Entry()
        entry.CopyFrom(like or self._entry)
        entry.pos = self._tail
        return entry

    def _append(
        self, kind: int, entry: entry_pb2.Entry, subject: str | None = None, seq: int | None = None
    ) -> LogRow:
        row = LogRow(entry.pos, kind, subject, seq, entry.SerializeToString())
        self.writes.rows.append(row)
        self.effects.append(Append(entry, len(row.entry)))
        return row

    def _tell_recorded(self, origin: int, request: int, event: RecordedEvent) -> None:
        recorded = coordinator_pb2.Appended.Recorded(pos=event.pos, generation=event.generation)
        answer = coordinator_pb2.Appended(request=request, recorded=recorded)
        self.effects.append(Answer(origin, answer))

    def _refuse(self, origin: int, request: int, refusal: Refusal) -> None:
        answer = coordinator_pb2.Appended(request=request, refusal=refusal)
        self.effects.append(Answer(origin, answer))

    def _refuse_full(self, origin: int, request: int) -> None:
        self._refuse(origin, request, refuse(Code.STORE_FULL, _FULL, FULL_RETRY_MS))

    def _publish_refusal(self, subject: str, publish: coordinator_pb2.Publish) -> Refusal | None:
        term = self._term
        if subject not in self._facts.heads:  # A known subject has passed already.
            fault = subject_refusal(subject, term.partition, term.partitions)
            if fault is not None:
                return fault
        return publish_refusal(publish)


def _publication_key(publish: coordinator_pb2.Publish) -> PublicationKey:
    return publication_key(publish.subject, publish.publisher, publish.publication_id)


def _event_key(event: entry_pb2.PresenceEvent) -> EventKey:
    return EventKey(event.session_id, event.number)


def _leave_out(connected: entry_pb2.PresenceEvent.Connected, subjects: Sequence[str]) -> None:
    left = [follow for follow in connected.follows if follow.subject not in subjects]
    del connected.follows[:]
    connected.follows.extend(left)


def _digest(content: entry_pb2.Content) -> bytes:
    # Maps have no order of their own; a digest needs one.
    return blake2b(content.SerializeToString(deterministic=True), digest_size=16).digest()


def _has_body(content: entry_pb2.Content) -> bool:
    return bool(content.text or content.data)
