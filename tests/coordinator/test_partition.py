"""The partition core: what is appended, answered and delivered, in which order."""

from onward.coordinator.v1 import coordinator_pb2
from onward.types.v1 import entry_pb2

from services.chassis.refusals import Code
from services.chassis.subjects import partition_of
from services.coordinator.effects import (
    Accept,
    Answer,
    Append,
    AwaitProcessed,
    Deliver,
    EndWatch,
    Forget,
    Relay,
    Replace,
    Request,
    StartWatch,
    TellClient,
    Unwatch,
)
from services.coordinator.partition import Decision, Term, decide, lookup
from services.coordinator.store import (
    EventKey,
    Facts,
    Head,
    Lookup,
    Part,
    Publication,
    RecordedEvent,
    Register,
    Writes,
    publication_key,
)
from tests.coordinator.harness import DISCONNECTED, connected, event, publish

PARTITIONS = 1
TERM = Term(0, PARTITIONS, epoch=9, wall_ms=1_500)
ORIGIN = 3


def facts(tail: int = 0, seq_floor: int = 0, **more: object) -> Facts:
    return Facts(Part(epoch=9, tail=tail, low=0, seq_floor=seq_floor), **more)  # type: ignore[arg-type]


def ask(number: int, **body: object) -> Request:
    return Request(ORIGIN, coordinator_pb2.Append(request=number, **body))  # type: ignore[arg-type]


def message_entry(pos: int, seq: int, subject: str = "/a", text: str = "hi") -> entry_pb2.Entry:
    entry = entry_pb2.Entry(partition=0, pos=pos, epoch=9)
    entry.appended_at.FromMilliseconds(1_500)
    entry.message.CopyFrom(
        entry_pb2.Message(
            subject=subject,
            seq=seq,
            epoch=9,
            accepted_at=entry.appended_at,
            publisher="bob",
            content=entry_pb2.Content(text=text),
        )
    )
    return entry


def accepted(request: int, seq: int, duplicate: bool = False, epoch: int = 9) -> Accept:
    return Accept(ORIGIN, request, seq, epoch, duplicate)


def appended(entry: entry_pb2.Entry) -> Append:
    return Append(entry, entry.ByteSize())


def delivered(entry: entry_pb2.Entry) -> Deliver:
    return Deliver(entry, entry.ByteSize())


def recorded(request: int, pos: int, generation: int) -> Answer:
    outcome = coordinator_pb2.Appended.Recorded(pos=pos, generation=generation)
    return Answer(ORIGIN, coordinator_pb2.Appended(request=request, recorded=outcome))


def codes(decision: Decision) -> list[str]:
    return [
        Code.Name(effect.appended.refusal.code)
        for effect in decision.effects
        if isinstance(effect, Answer) and effect.appended.HasField("refusal")
    ]


def test_a_message_is_appended_answered_and_delivered_in_this_order() -> None:
    decision = decide(TERM, [ask(1, publish=publish("/a", "hi", "p1"))], facts(tail=4))
    entry = message_entry(5, 1)
    assert decision.effects == [appended(entry), accepted(1, 1), delivered(entry)]
    assert [row.entry for row in decision.writes.rows] == [entry.SerializeToString()]
    assert decision.writes.heads == {"/a": 1}


def test_messages_of_one_group_follow_one_another() -> None:
    asked = [ask(n, publish=publish("/a", f"t{n}", f"p{n}")) for n in (1, 2)]
    decision = decide(TERM, asked, facts(heads={"/a": Head(6, 0)}))
    first, second = message_entry(1, 7, text="t1"), message_entry(2, 8, text="t2")
    assert decision.effects == [
        *(appended(first), accepted(1, 7), delivered(first)),
        *(appended(second), accepted(2, 8), delivered(second)),
    ]


def test_a_new_subject_begins_above_the_seq_floor() -> None:
    asked = [ask(1, publish=publish("/a", "hi", "p1"))]
    assert accepted(1, 41) in decide(TERM, asked, facts(seq_floor=40)).effects


def test_a_repeat_is_accepted_again_and_delivered_once() -> None:
    asked = [ask(n, publish=publish("/a", "hi", "p1")) for n in (1, 2)]
    decision = decide(TERM, asked, facts())
    entry = message_entry(1, 1)
    assert decision.effects == [
        *(appended(entry), accepted(1, 1), delivered(entry)),
        accepted(2, 1, duplicate=True),
    ]
    assert len(decision.writes.rows) == 1


def test_a_repeat_of_a_former_epoch_is_answered_as_it_was_then() -> None:
    first = decide(TERM, [ask(1, publish=publish("/a", "hi", "p1"))], facts())
    ((key, known),) = first.writes.publications.items()
    before = Publication(known.digest, 17, epoch=5)
    decision = decide(
        TERM,
        [ask(2, publish=publish("/a", "hi", "p1"))],
        facts(heads={"/a": Head(20, 0)}, publications={key: before}),
    )
    assert decision.effects == [accepted(2, 17, duplicate=True, epoch=5)]


def test_a_publication_id_with_other_content_is_refused() -> None:
    asked = [ask(1, publish=publish("/a", "hi", "p1")), ask(2, publish=publish("/a", "ho", "p1"))]
    decision = decide(TERM, asked, facts())
    assert codes(decision) == ["PUBLICATION_ID_REUSED"]
    assert len(decision.writes.rows) == 1


def test_the_order_of_headers_does_not_make_other_content() -> None:
    one, other = publish("/a", "hi", "p1"), publish("/a", "hi", "p1")
    one.content.headers.update({f"h{n}": "x" for n in range(9)})
    other.content.headers.update({f"h{n}": "x" for n in reversed(range(9))})
    decision = decide(TERM, [ask(1, publish=one), ask(2, publish=other)], facts())
    assert decision.effects[-1] == accepted(2, 1, duplicate=True)


def test_the_same_id_of_another_publisher_or_subject_is_another_message() -> None:
    asked = [
        ask(1, publish=publish("/a", "hi", "p1")),
        ask(2, publish=publish("/a", "hi", "p1", publisher="eve")),
        ask(3, publish=publish("/b", "hi", "p1")),
    ]
    assert len(decide(TERM, asked, facts()).writes.rows) == 3


def test_a_subject_that_is_none_or_belongs_elsewhere_is_refused() -> None:
    asked = [ask(1, publish=publish("a", "hi", "p1"))]
    assert codes(decide(TERM, asked, facts())) == ["SUBJECT_INVALID"]
    wrong = 1 - partition_of("/a", 2)
    elsewhere = Term(wrong, 2, 9, 0)
    asked = [ask(1, publish=publish("/a", "hi", "p1"))]
    assert codes(decide(elsewhere, asked, facts())) == ["ARGUMENT_INVALID"]


def test_an_append_without_a_body_is_refused() -> None:
    assert codes(decide(TERM, [ask(1)], facts())) == ["ARGUMENT_INVALID"]


def test_a_mark_is_appended_and_not_answered() -> None:
    mark = entry_pb2.Mark(edge_id=7, round=2, pos=3)
    decision = decide(TERM, [ask(1, mark=mark)], facts(tail=3))
    (effect,) = decision.effects
    assert isinstance(effect, Append)
    assert effect.entry.pos == 4 and effect.entry.mark == mark


def test_a_connect_gets_its_generation_and_its_place() -> None:
    decision = decide(TERM, [ask(1, presence=event(1, connected=connected("/a")))], facts(tail=2))
    append = decision.effects[0]
    assert isinstance(append, Append) and append.entry.presence.generation == 1
    assert decision.effects[1:] == [recorded(1, 3, 1), AwaitProcessed(ORIGIN, 3)]


def test_a_connect_replaces_the_session_before_it() -> None:
    stored = Register("ann", "c", 4, "s0", 5, True, False, False, ("/a",))
    asked = [ask(1, presence=event(1, connected=connected(last=4, replaces=False)))]
    decision = decide(TERM, asked, facts(registers={"ann": {"c": stored}}))
    assert decision.effects[1:] == [recorded(1, 1, 5), Replace(5, "s0")]
    assert decision.writes.registers[("ann", "c")].follows == ("/a",)


def test_a_stale_connect_is_refused_with_the_newest_generation() -> None:
    stored = Register("ann", "c", 4, "s0", 5, True, False, False)
    asked = [ask(1, presence=event(1, connected=connected(last=3)))]
    decision = decide(TERM, asked, facts(registers={"ann": {"c": stored}}))
    (answer,) = decision.effects
    assert isinstance(answer, Answer)
    assert answer.appended.refusal.code == Code.STALE_SESSION
    assert answer.appended.refusal.generation == 4
    assert not decision.writes.rows


def test_a_repeated_event_is_answered_as_first_and_appended_once() -> None:
    asked = [ask(n, presence=event(1, connected=connected("/a"))) for n in (1, 2)]
    decision = decide(TERM, asked, facts())
    assert decision.effects[1:] == [
        *(recorded(1, 1, 1), AwaitProcessed(ORIGIN, 1)),
        *(recorded(2, 1, 1), AwaitProcessed(ORIGIN, 1)),
    ]
    assert len(decision.writes.rows) == 1


def test_an_event_recorded_before_a_restart_is_answered_from_the_store() -> None:
    known = {EventKey("s1", 2): RecordedEvent(pos=12, generation=3)}
    asked = [ask(1, presence=event(2, generation=3, disconnected=DISCONNECTED))]
    decision = decide(TERM, asked, facts(tail=20, events=known))
    assert decision.effects == [recorded(1, 12, 3), AwaitProcessed(ORIGIN, 12)]


def test_an_event_of_an_older_generation_is_appended_and_changes_no_register() -> None:
    stored = Register("ann", "c", 4, "s4", 5, True, False, False)
    late = event(2, session="s1", generation=1, disconnected=DISCONNECTED)
    decision = decide(TERM, [ask(1, presence=late)], facts(registers={"ann": {"c": stored}}))
    assert len(decision.writes.rows) == 1 and not decision.writes.registers
    assert decision.effects[1:] == [recorded(1, 1, 1), AwaitProcessed(ORIGIN, 1)]


def test_an_event_without_a_kind_or_of_another_partition_is_refused() -> None:
    assert codes(decide(TERM, [ask(1, presence=event(1))], facts())) == ["ARGUMENT_INVALID"]
    wrong = Term(1 - partition_of("ann", 2), 2, 9, 0)
    asked = [ask(1, presence=event(1, connected=connected()))]
    assert codes(decide(wrong, asked, facts())) == ["ARGUMENT_INVALID"]


def test_a_watch_sees_what_was_before_it_in_its_head_and_what_comes_after_it_delivered() -> None:
    asked = [
        ask(1, publish=publish("/a", "hi", "p1")),
        Request(4, coordinator_pb2.Watch(subject="/a")),
        ask(2, publish=publish("/a", "ho", "p2")),
        Request(4, Unwatch("/a")),
    ]
    decision = decide(TERM, asked, facts(tail=7, heads={"/a": Head(3, 2)}))
    watched = coordinator_pb2.Watched(subject="/a", head=4, floor=2, tail=8, epoch=9)
    kinds = [type(effect) for effect in decision.effects]
    assert kinds == [Append, Accept, Deliver, StartWatch, Append, Accept, Deliver, EndWatch]
    assert decision.effects[3] == StartWatch(4, watched)


def test_a_subject_without_messages_has_a_head_too() -> None:
    asked = [Request(4, coordinator_pb2.Watch(subject="/a"))]
    watched = coordinator_pb2.Watched(subject="/a", head=40, floor=40, tail=0, epoch=9)
    assert decide(TERM, asked, facts(seq_floor=40)).effects == [StartWatch(4, watched)]


def test_a_client_is_told_with_its_follows() -> None:
    stored = Register("ann", "c", 4, "s0", 5, False, False, False, ("/a", "/b"))
    asked = [
        Request(4, coordinator_pb2.ReadClient(request=1, user="ann", client_id="c")),
        Request(4, coordinator_pb2.ReadClient(request=2, user="ann", client_id="d")),
    ]
    assert decide(TERM, asked, facts(registers={"ann": {"c": stored}})).effects == [
        TellClient(4, coordinator_pb2.ClientState(request=1, generation=4, follows=["/a", "/b"])),
        TellClient(4, coordinator_pb2.ClientState(request=2)),
    ]


def test_a_full_store_refuses_what_is_new_and_answers_what_is_known() -> None:
    first = decide(TERM, [ask(1, publish=publish("/a", "hi", "p1"))], facts())
    full = Term(0, PARTITIONS, 9, 0, full=True)
    asked = [
        ask(1, publish=publish("/a", "hi", "p1")),
        ask(2, publish=publish("/a", "ho", "p2")),
        ask(3, presence=event(1, connected=connected())),
        ask(4, mark=entry_pb2.Mark(edge_id=7)),
    ]
    decision = decide(full, asked, facts(publications=dict(first.writes.publications)))
    assert decision.effects[0] == accepted(1, 1, duplicate=True)
    assert codes(decision) == ["STORE_FULL", "STORE_FULL"]
    assert not decision.writes.rows


def test_the_facts_asked_for_are_those_that_are_needed() -> None:
    asked = [
        ask(1, publish=publish("/a", "hi", "p1")),
        ask(2, presence=event(1, connected=connected())),
        Request(4, coordinator_pb2.Watch(subject="/b")),
        Request(4, coordinator_pb2.ReadClient(request=2, user="eve", client_id="d")),
        Request(4, Unwatch("/c")),
    ]
    assert lookup(asked) == Lookup(
        {"/a", "/b"},
        {publication_key("/a", "bob", "p1")},
        {EventKey("s1", 1)},
        {("ann", "c"), ("eve", "d")},
        set(),
    )


def transient(subject: str, publication_id: str = "t1", **more: bool) -> coordinator_pb2.Publish:
    it = publish(subject, "hi", publication_id)
    it.transient = True
    it.retain = more.get("retain", False)
    return it


def retained(text: str, publication_id: str) -> coordinator_pb2.Publish:
    it = publish("/a", text, publication_id)
    it.retain = True
    return it


def relayed(subject: str = "/a") -> Relay:
    message = message_entry(1, 0, subject).message
    return Relay(message)


def test_a_transient_message_is_relayed_in_its_place_and_leaves_nothing() -> None:
    asked = [
        ask(1, publish=publish("/a", "hi", "p1")),
        ask(2, publish=transient("/a")),
        ask(3, publish=transient("/a")),
        ask(4, publish=publish("/a", "hi", "p2")),
    ]
    decision = decide(TERM, asked, facts())
    first, second = message_entry(1, 1), message_entry(2, 2)
    assert decision.effects == [
        *(appended(first), accepted(1, 1), delivered(first)),
        *(accepted(2, 0), relayed()),
        *(accepted(3, 0), relayed()),
        *(appended(second), accepted(4, 2), delivered(second)),
    ]
    alone = decide(TERM, [ask(1, publish=transient("/a"))], facts())
    assert alone.writes == Writes()
    assert lookup([ask(1, publish=transient("/a"))]) == Lookup(set(), set(), set(), set(), set())


def test_a_transient_message_goes_while_the_store_is_full() -> None:
    full = Term(0, PARTITIONS, 9, 1_500, full=True)
    assert decide(full, [ask(1, publish=transient("/a"))], facts()).effects == [
        accepted(1, 0),
        relayed(),
    ]


def test_a_transient_message_is_refused_as_others_are() -> None:
    assert codes(decide(TERM, [ask(1, publish=transient("a"))], facts())) == ["SUBJECT_INVALID"]
    both = [ask(1, publish=transient("/a", retain=True))]
    assert codes(decide(TERM, both, facts())) == ["ARGUMENT_INVALID"]
    wrong = Term(1 - partition_of("/a", 2), 2, 9, 0)
    assert codes(decide(wrong, [ask(1, publish=transient("/a"))], facts())) == ["ARGUMENT_INVALID"]


def test_a_message_to_be_retained_is_a_message_and_the_retained_one() -> None:
    decision = decide(TERM, [ask(1, publish=retained("hi", "p1"))], facts())
    entry = message_entry(1, 1)
    assert decision.effects == [appended(entry), accepted(1, 1), delivered(entry)]
    assert decision.writes.retained == {"/a": decision.writes.rows[0]}


def test_the_last_of_several_retained_messages_is_kept_and_an_empty_one_keeps_none() -> None:
    asked = [ask(1, publish=retained("hi", "p1")), ask(2, publish=retained("ho", "p2"))]
    decision = decide(TERM, asked, facts())
    assert decision.writes.retained == {"/a": decision.writes.rows[1]}
    empty = decide(TERM, [*asked, ask(3, publish=retained("", "p3"))], facts())
    assert empty.writes.retained == {"/a": None} and len(empty.writes.rows) == 3


def test_a_repeat_of_a_retained_message_changes_nothing() -> None:
    first = decide(TERM, [ask(1, publish=retained("hi", "p1"))], facts())
    known = dict(first.writes.publications)
    again = decide(TERM, [ask(2, publish=retained("hi", "p1"))], facts(publications=known))
    assert again.effects == [accepted(2, 1, duplicate=True)] and again.writes == Writes()


def test_a_watch_of_what_cannot_be_a_subject_is_not_answered() -> None:
    asked = [Request(4, coordinator_pb2.Watch(subject="/" + "x" * 1_000_000))]
    assert decide(TERM, asked, facts()).effects == []


def test_going_to_the_background_is_recorded_and_changes_no_register() -> None:
    stored = Register("ann", "c", 4, "s1", 7, True, False, False)
    away = entry_pb2.PresenceEvent.ActivityChanged(active=False)
    asked = [ask(1, presence=event(3, generation=4, activity_changed=away))]
    decision = decide(TERM, asked, facts(registers={"ann": {"c": stored}}))
    assert decision.effects[1:] == [recorded(1, 1, 4)] and not decision.writes.registers


def forget(generation: int = 4) -> Request:
    return Request(0, Forget("ann", "c", generation))


def test_a_client_is_forgotten_by_an_entry_that_logs_it_out() -> None:
    stored = Register("ann", "c", 4, "s1", 7, False, False, False, ("/a",), ("fcm:1",))
    decision = decide(TERM, [forget()], facts(tail=2, registers={"ann": {"c": stored}}))
    (append,) = decision.effects
    assert isinstance(append, Append)
    told = append.entry.presence
    assert (told.user, told.client_id, told.generation, told.number) == ("ann", "c", 5, 1)
    assert told.WhichOneof("event") == "logged_out" and told.session_id == "forgotten-5"
    assert decision.writes.forgotten == {("ann", "c")}
    assert decision.writes.generation_floor == 5 and not decision.writes.registers
    assert lookup([forget()]).clients == {("ann", "c")}


def test_nothing_is_told_of_a_client_that_had_logged_out() -> None:
    stored = Register("ann", "c", 4, "s1", 7, False, False, True)
    decision = decide(TERM, [forget()], facts(registers={"ann": {"c": stored}}))
    assert decision.effects == [] and decision.writes.forgotten == {("ann", "c")}
    assert decision.writes.generation_floor == 4


def test_a_client_that_returned_meanwhile_is_not_forgotten() -> None:
    stored = Register("ann", "c", 5, "s2", 7, True, False, False)
    for registers in ({"ann": {"c": stored}}, {}):
        decision = decide(TERM, [forget(4)], facts(registers=registers))
        assert decision.effects == [] and decision.writes == Writes()


def test_a_forgotten_client_returns_above_the_generations_it_had() -> None:
    stored = Register("ann", "c", 4, "s1", 7, False, False, False)
    asked = [forget(), ask(1, presence=event(1, session="s9", connected=connected("/a")))]
    decision = decide(TERM, asked, facts(registers={"ann": {"c": stored}}))
    assert recorded(1, 2, 6) in decision.effects
    assert not decision.writes.forgotten and ("ann", "c") in decision.writes.registers
    floor = Facts(Part(9, 0, 0, 0, 5))
    stale = ask(1, presence=event(1, connected=connected("/a", last=3)))
    assert codes(decide(TERM, [stale], floor)) == ["STALE_SESSION"]
    again = ask(1, presence=event(1, connected=connected("/a", last=5)))
    assert recorded(1, 1, 6) in decide(TERM, [again], Facts(Part(9, 0, 0, 0, 5))).effects


def test_the_size_that_goes_with_an_entry_is_its_own() -> None:
    decision = decide(TERM, [ask(1, publish=publish("/a", "hi", "p1"))], facts())
    sizes = [it.size for it in decision.effects if isinstance(it, Append | Deliver)]
    assert sizes == [message_entry(1, 1).ByteSize()] * 2
