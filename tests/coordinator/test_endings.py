"""Follows ended, and users forgotten, by the owner of the user's partition: core, then gRPC."""

import asyncio
from pathlib import Path

import grpc
import grpc.aio
import pytest
from onward.coordinator.v1 import coordinator_pb2 as pb
from onward.types.v1 import entry_pb2

from services.chassis.refusals import Code
from services.coordinator import servicer
from services.coordinator.__main__ import Coordinator
from services.coordinator.effects import (
    Append,
    Conclude,
    Effect,
    End,
    EndFollows,
    ForgetUser,
    LogOutUser,
    Outcome,
    Request,
)
from services.coordinator.partition import Decision, Term, decide, lookup
from services.coordinator.store import EventKey, Lookup, RecordedEvent, Register
from tests.coordinator.harness import (
    Edge,
    Run,
    connected,
    coordinator,
    edge,
    event,
    owned,
)
from tests.coordinator.test_partition import TERM, ask, facts, recorded
from tests.real_etcd import EtcdServer
from tests.waiting import until

CALL = -1
PHONE = Register("ann", "phone", 4, "s4", 7, True, False, False, ("/a", "/b"), ("fcm:1",))
TAB = Register("ann", "tab", 2, "s2", 8, False, False, False, ("/a",))
GONE = Register("ann", "gone", 9, "s9", 7, False, False, True)
LOOKS = Register("ann", "looks", 1, "s1", 9, False, True, True)


def known(*registers: Register) -> dict[str, dict[str, Register]]:
    return {"ann": {one.client_id: one for one in registers}}


def end(*subjects: str, call_id: str = "call") -> Request:
    return Request(CALL, EndFollows("ann", subjects, call_id))


def told(*subjects: str, edges: tuple[int, ...] = (), **fields: bool) -> End:
    return End(pb.Ending(user="ann", subjects=subjects, **fields), edges)


def outcome(count: int, pos: int) -> Conclude:
    return Conclude(CALL, Outcome(count, pos))


def entries(effects: list[Effect]) -> list[entry_pb2.PresenceEvent]:
    return [one.entry.presence for one in effects if isinstance(one, Append)]


# -- the core --------------------------------------------------------------------------------------


def test_one_entry_ends_a_subject_for_all_clients_and_edges_are_told_before_the_caller() -> None:
    decision = decide(TERM, [end("/a")], facts(tail=3, registers=known(PHONE, TAB, GONE)))
    (revoked,) = entries(decision.effects)
    assert (revoked.user, revoked.client_id, revoked.session_id, revoked.number) == (
        "ann", "", "call", 1,
    )  # fmt: skip
    assert list(revoked.revoked.subjects) == ["/a"]
    assert decision.effects[1:] == [told("/a", edges=(7,)), outcome(2, 4)]
    left = {client: one.follows for (_, client), one in decision.writes.registers.items()}
    assert left == {"phone": ("/b",), "tab": ()}
    assert decision.writes.events == {EventKey("call", 1): RecordedEvent(4, 0)}


def test_no_subjects_are_all_and_endpoints_stay() -> None:
    decision = decide(TERM, [end()], facts(registers=known(PHONE, TAB)))
    assert decision.effects[1:] == [told(edges=(7,)), outcome(3, 1)]
    assert decision.writes.registers[("ann", "phone")].endpoints == ("fcm:1",)
    assert entries(decision.effects)[0].HasField("revoked")


def test_what_nobody_follows_is_no_entry_but_edges_are_told_all_the_same() -> None:
    """An observer has no register; and an edge may not have heard of it the first time."""
    for registers in (known(TAB), {}):
        decision = decide(TERM, [end("/z")], facts(tail=3, registers=registers))
        assert decision.effects == [told("/z"), outcome(0, 3)]
        assert not decision.writes.rows and not decision.writes.registers


def test_a_repeat_of_the_call_ends_nothing_that_began_in_between() -> None:
    events = {EventKey("call", 1): RecordedEvent(2, 0)}
    decision = decide(TERM, [end("/a")], facts(tail=3, registers=known(TAB), events=events))
    assert decision.effects == [told("/a"), outcome(0, 2)]
    assert not decision.writes.registers


def test_requests_behind_it_find_the_follows_ended() -> None:
    asked = [end("/a"), Request(3, pb.ReadClient(request=1, user="ann", client_id="tab"))]
    decision = decide(TERM, asked, facts(registers=known(PHONE, TAB)))
    assert list(decision.effects[-1].state.follows) == []  # type: ignore[union-attr]


def test_a_connect_that_restores_what_was_ended_meanwhile_goes_without_it() -> None:
    back = connected("/a", "/b", last=4, replaces=False, restores=True)
    asked = [end("/a"), ask(1, presence=event(1, client="phone", session="s5", connected=back))]
    decision = decide(TERM, asked, facts(registers=known(PHONE)))
    assert [one.subject for one in entries(decision.effects)[1].connected.follows] == ["/b"]
    assert decision.writes.registers[("ann", "phone")].follows == ("/b",)
    assert recorded(1, 2, 5) in decision.effects
    lost = pb.Ending(user="ann", session_id="s5", subjects=["/a"])
    assert decision.effects[-1] == End(lost, (7,))


def test_a_connect_with_a_list_of_its_own_follows_again() -> None:
    back = connected("/a", last=4)
    asked = [end("/a"), ask(1, presence=event(1, client="phone", session="s5", connected=back))]
    decision = decide(TERM, asked, facts(registers=known(PHONE)))
    assert decision.writes.registers[("ann", "phone")].follows == ("/a",)
    assert isinstance(decision.effects[1], End) and not isinstance(decision.effects[-1], End)


def test_sessions_are_told_to_end_and_nothing_is_written() -> None:
    decision = decide(
        TERM, [Request(CALL, LogOutUser("ann"))], facts(tail=3, registers=known(PHONE, TAB))
    )
    assert decision.effects == [told(edges=(7,), logged_out=True), outcome(1, 3)]
    assert not decision.writes.rows


def test_a_user_is_forgotten_client_by_client_and_nothing_of_them_stays() -> None:
    registers = known(PHONE, TAB, GONE, LOOKS)
    decision = decide(TERM, [Request(CALL, ForgetUser("ann"))], facts(registers=registers))
    assert [(one.client_id, one.generation) for one in entries(decision.effects)] == [
        ("phone", 5), ("tab", 3),
    ]  # fmt: skip
    assert all(one.HasField("logged_out") for one in entries(decision.effects))
    assert decision.effects[-1] == outcome(4, 2)
    assert {client for _, client in decision.writes.forgotten} == {"phone", "tab", "gone", "looks"}
    assert decision.writes.generation_floor == 9
    again = decide(TERM, [Request(CALL, ForgetUser("ann"))], facts(tail=2))
    assert again.effects == [outcome(0, 2)] and not again.writes.rows


def test_a_full_log_refuses_what_would_have_to_be_written_and_nothing_else() -> None:
    full = Term(0, 1, epoch=9, wall_ms=1_500, full=True)
    for body in (end("/a"), Request(CALL, ForgetUser("ann"))):
        (refused,) = decide(full, [body], facts(registers=known(PHONE))).effects
        assert isinstance(refused, Conclude) and not isinstance(refused.outcome, Outcome)
        assert refused.outcome.code == Code.STORE_FULL
    decision: Decision = decide(full, [end("/z")], facts(registers=known(PHONE)))
    assert decision.effects[-1] == outcome(0, 0)


def test_all_clients_of_the_user_are_asked_for() -> None:
    asked = [end("/a"), Request(CALL, LogOutUser("bob")), Request(CALL, ForgetUser("eve"))]
    assert lookup(asked) == Lookup(
        set(), set(), {EventKey("call", 1)}, set(), {"ann", "bob", "eve"}
    )


# -- over gRPC -------------------------------------------------------------------------------------


def ending(*subjects: str, call_id: str = "call", user: str = "ann") -> pb.EndFollowsRequest:
    return pb.EndFollowsRequest(call_id=call_id, user=user, subjects=subjects)


async def follows(one: Edge, it: Coordinator, client: str = "c") -> list[str]:
    """What a client that gives no list would be given."""
    number = len(one.received.clients) + 1
    look = pb.ReadClient(request=number, user="ann", client_id=client)
    await one.ask(*owned(it, "ann"), read_clients=[look])
    return list((await one.got("clients", number))[-1].follows)


def test_it_is_durable_and_every_edge_told_when_the_call_is_answered(
    run: Run, etcd: EtcdServer, tmp_path: Path
) -> None:
    async def body() -> None:
        async with coordinator(etcd.address, tmp_path) as it, edge(it) as one, edge(it, 8) as other:
            await one.record(it, event(1, connected=connected("/a", "/b")))
            answer = await one.stub.EndFollows(ending("/a"))
            assert (answer.ended, answer.pos) == (1, 2)
            assert answer.partition == owned(it, "ann")[1]
            for each in (one, other):
                (told,) = await each.got("endings")
                assert (told.user, list(told.subjects)) == ("ann", ["/a"])
            assert await follows(one, it) == ["/b"]
            again = await other.stub.EndFollows(ending("/a"))
            assert (again.ended, again.pos) == (0, 2)
        async with coordinator(etcd.address, tmp_path) as it, edge(it) as one:
            assert await follows(one, it) == ["/b"]
            again = await one.stub.EndFollows(ending("/a"))
            assert (again.ended, again.pos) == (0, 2), "the next owner knows the call too"

    run(body())


def test_an_edge_without_a_stream_is_told_when_it_is_back(
    run: Run, etcd: EtcdServer, tmp_path: Path
) -> None:
    async def body() -> None:
        async with coordinator(etcd.address, tmp_path) as it:
            async with edge(it, 7) as one:
                await one.record(it, event(1, connected=connected("/a")))
            await until(lambda: not len(it.uplinks))
            async with edge(it, 8) as other:
                await other.stub.EndFollows(ending("/a"))
            async with edge(it, 7) as one:
                (told,) = await one.got("endings")
                assert list(told.subjects) == ["/a"]

    run(body())


def test_who_does_not_own_the_partition_says_so(run: Run, etcd: EtcdServer, tmp_path: Path) -> None:
    async def body() -> None:
        async with coordinator(etcd.address, tmp_path) as it, edge(it) as one:
            it.holdings.drop(owned(it, "ann")[1])
            for call in (
                one.stub.EndFollows(ending("/a")),
                one.stub.ForgetUser(pb.ForgetUserRequest(user="ann")),
            ):
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await call
                assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION

    run(body())


@pytest.mark.parametrize(
    "bad",
    [
        ending("/a", user=""),
        ending("/a", user="x" * 129),
        ending("/a", call_id=""),
        ending("/a", call_id="x" * 129),
        ending("a"),
        ending(*(f"/{n}" for n in range(101))),
    ],
    ids=["no user", "a long user", "no call", "a long call", "no subject", "too many"],
)
def test_what_cannot_be_meant_is_refused(
    run: Run, etcd: EtcdServer, tmp_path: Path, bad: pb.EndFollowsRequest
) -> None:
    async def body() -> None:
        async with coordinator(etcd.address, tmp_path) as it, edge(it) as one:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await one.stub.EndFollows(bad)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    run(body())


def test_a_user_is_forgotten_once_the_sessions_have_ended(
    run: Run, etcd: EtcdServer, tmp_path: Path
) -> None:
    async def body() -> None:
        async with coordinator(etcd.address, tmp_path) as it, edge(it) as one:
            await one.record(it, event(1, connected=connected("/a")))
            forgetting = asyncio.create_task(_forget(one))
            (told, *_) = await one.got("endings")
            assert (told.user, told.logged_out) == ("ann", True)
            await one.publish(it, "/a", "others go on")
            assert not forgetting.done()
            logged_out = entry_pb2.PresenceEvent.LoggedOut()
            await one.record(it, event(2, generation=1, logged_out=logged_out))
            await forgetting
            assert await _kinds(it) == ["connected", "logged_out"]
            (again,) = await one.record(it, event(1, session="s2", connected=connected()))
            assert again.recorded.generation == 2, "above the generations it had"

    run(body())


def test_a_user_whose_edge_says_nothing_is_forgotten_all_the_same(
    run: Run, etcd: EtcdServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servicer, "LOGOUT_WAIT_S", 0.1)

    async def body() -> None:
        async with coordinator(etcd.address, tmp_path) as it, edge(it) as one:
            await one.record(it, event(1, connected=connected("/a")))
            answer = await _forget(one)
            assert answer.pos == 2 and await _kinds(it) == ["connected", "logged_out"]
            assert await follows(one, it) == []
            answer = await _forget(one)
            assert answer.pos == 2, "a repeat finds nobody"

    run(body())


async def _forget(one: Edge) -> pb.ForgetUserResponse:
    return await one.stub.ForgetUser(pb.ForgetUserRequest(user="ann"))


async def _kinds(it: Coordinator) -> list[str | None]:
    """The presence events in the log of ann's partition."""
    stored = await it.status._store.read_entries(owned(it, "ann")[1], 0, 99, 100_000)
    read = [entry_pb2.Entry.FromString(row.entry) for row in stored]
    return [one.presence.WhichOneof("event") for one in read if one.HasField("presence")]
