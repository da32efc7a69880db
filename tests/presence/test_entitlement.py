"""The entitlement hook on the wire: allowed, denied, hanging, garbage, gone; asked before anything
leaves."""

import asyncio
import random
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import pytest
from onward.extension.v1 import entitlement_pb2, entitlement_pb2_grpc
from onward.presence.v1 import presence_pb2

from services.chassis.errors import SettingError
from services.chassis.server import Server
from services.chassis.tls import Trust
from services.presence import entitlement as module
from services.presence.entitlement import ALLOWED, DENIED, Entitlement, Judged, Verdict
from tests.presence.stage import SECRET, Client, FakePlugin, Stage, staged
from tests.waiting import until

Response = entitlement_pb2.CheckEntitlementResponse


class FakeHook(entitlement_pb2_grpc.EntitlementServiceServicer):
    """Answers by `judge(user, subject)`, or as `step(request, context)` does."""

    def __init__(self) -> None:
        self.denied: set[str] = set()
        self.step = None
        self.asked: list[list[tuple[str, str]]] = []
        self.port = 0

    async def start(self) -> str:
        self._server = Server(
            f"127.0.0.1:{self.port}", SECRET, ["onward.extension.v1.EntitlementService"]
        )
        entitlement_pb2_grpc.add_EntitlementServiceServicer_to_server(self, self._server.grpc)
        await self._server.start()
        self.port = self._server.port
        return f"127.0.0.1:{self.port}"

    async def stop(self) -> None:
        await self._server.drain(0)

    async def CheckEntitlement(self, request, context):
        self.asked.append([(one.user, one.subject) for one in request.questions])
        if self.step is not None:
            response = self.step(request, context)
            return await response if asyncio.iscoroutine(response) else response
        return Response(
            verdicts=[DENIED if one.user in self.denied else ALLOWED for one in request.questions]
        )


@asynccontextmanager
async def hooked(tmp_path, *plugins: FakePlugin, **settings):
    """A stage with a hook."""
    hook = FakeHook()
    settings = {"entitlement_deadline_s": 0.2, **settings}
    try:
        address = await hook.start()
        async with staged(tmp_path, *plugins, entitlement=address, **settings) as stage:
            yield stage, hook
    finally:
        await hook.stop()


@asynccontextmanager
async def asking(hook: FakeHook, address: str = "", **given):
    """What asks the hook, by itself."""
    try:
        address = address or await hook.start()
        trust, chance = given.pop("trust", SECRET), random.random
        one = Entitlement(address, trust, given.pop("deadline_s", 0.3), 60.0, chance, **given)
        yield one
        await one.close()
    finally:
        if hook.port:
            await hook.stop()


async def due(stage: Stage, *users: str, subject: str = "/a", text: str = "hello") -> None:
    """A message is due to these users, who are offline."""
    for user in users:
        one = Client(stage.log, user)
        one.connect(subject, endpoints=[f"mailto:{user}", f"tel:{user}"])
        one.disconnect()
    await stage.report()
    stage.log.publish(subject, text)
    await stage.report()


async def rows(stage: Stage) -> list[tuple]:
    return await stage.store.read(
        lambda tx: tx.db.rows(
            "SELECT user, state, reason, attempts FROM deliveries ORDER BY user, uri", ()
        )
    )


def handed_over(stage: Stage):
    async def done() -> bool:
        state = await stage.store.read(lambda tx: tx.load_user("ann", "/a"))
        return not state.handovers

    return done


def in_states(stage: Stage, **expected: str):
    async def reached() -> bool:
        found = [(row[0], row[1]) for row in await rows(stage)]
        return bool(found) and set(found) == set(expected.items())

    return reached


async def alarms(stage: Stage) -> dict[str, str]:
    said = await stage.query.GetStatus(presence_pb2.GetStatusRequest(), timeout=20)
    return {alarm.name: alarm.text for alarm in said.alarms}


def test_whoever_is_allowed_is_sent_and_not_asked_about_again(run, tmp_path):
    async def claim():
        plugin = FakePlugin(mailto=True, tel=True)
        async with hooked(tmp_path, plugin, collapse_s=0) as (stage, hook):
            await due(stage, "ann")
            await until(in_states(stage, ann="accepted"))
            assert {pair for asked in hook.asked for pair in asked} == {("ann", "/a")}
            before = len(hook.asked)
            stage.log.publish("/a", "more")
            await stage.report()
            await until(lambda: len(plugin.deliveries) == 4)
            assert len(hook.asked) == before

    run(claim())


def test_whoever_is_denied_is_sent_nothing_and_follows_the_subject_no_longer(run, tmp_path):
    async def claim():
        plugin = FakePlugin(mailto=True, tel=True)
        async with hooked(tmp_path, plugin) as (stage, hook):
            hook.denied.add("ann")
            await due(stage, "ann", "ben")
            await until(in_states(stage, ann="cancelled", ben="accepted"))
            assert {sent.user for sent in plugin.deliveries} == {"ben"}
            assert {row[2] for row in await rows(stage) if row[0] == "ann"} == {"NOT_ENTITLED"}
            [outcome] = (await stage.explain("ann", "/a")).outcomes
            assert outcome.state == presence_pb2.Outcome.SUPPRESSED
            assert outcome.reason == "NOT_ENTITLED"
            assert "may not read" in outcome.text
            # The follow has ended: what comes later is nobody's, without another question.
            before = len(hook.asked)
            stage.log.publish("/a", "later")
            await stage.report()
            state = await stage.store.read(lambda tx: tx.load_user("ann", "/a"))
            assert [follow.ended for follow in state.follows.values()] == [True]
            assert state.waiting == frozenset()
            await until(handed_over(stage), 4)
            assert [o for o in await stage.states("ann", "/a") if o == "NOTIFIED"] == []
            assert {pair for asked in hook.asked[before:] for pair in asked} <= {("ben", "/a")}

    run(claim())


def test_a_right_that_is_given_back_counts_at_once(run, tmp_path):
    async def claim():
        plugin = FakePlugin(mailto=True, tel=True)
        async with hooked(tmp_path, plugin) as (stage, hook):
            hook.denied.add("ann")
            await due(stage, "ann")
            await until(in_states(stage, ann="cancelled"), 15)
            # What the ended follow leaves is decided before she follows again.
            await until(handed_over(stage), 15)
            hook.denied.clear()
            ann = Client(stage.log, "ann")
            ann.generation = 1
            ann.connect("/a", start=1)
            ann.disconnect()
            stage.log.publish("/a", "hello again")
            await stage.report()
            await until(lambda: len(plugin.deliveries) == 2, 30)
            for sent in plugin.deliveries:
                assert [one.text for one in sent.messages] == ["hello again"]

    run(claim())


async def hang(request, context):
    await asyncio.sleep(30)


async def fail(request, context):
    await context.abort(grpc.StatusCode.UNAVAILABLE, "not now")


def too_few(request, context):
    return Response(verdicts=[ALLOWED] * (len(request.questions) - 1))


def too_many(request, context):
    return Response(verdicts=[ALLOWED] * (len(request.questions) + 1))


def unspecified(request, context):
    return Response(verdicts=[Verdict.VERDICT_UNSPECIFIED] * len(request.questions))


def unknown(request, context):
    return Response(verdicts=[77] * len(request.questions))


@pytest.mark.parametrize(
    ("step", "told"),
    [
        (hang, "DEADLINE_EXCEEDED"),
        (fail, "UNAVAILABLE"),
        (too_few, "verdicts on"),
        (too_many, "verdicts on"),
        (unspecified, "no verdict on"),
        (unknown, "no verdict on"),
    ],
)
def test_without_a_verdict_everything_waits_and_goes_out_later(
    run, tmp_path, monkeypatch, step, told
):
    monkeypatch.setattr(module, "_PAUSE_LEAST_S", 0.2)
    monkeypatch.setattr(module, "_LEFT_ALONE_S", 0.1)

    async def claim():
        plugin = FakePlugin(mailto=True, tel=True)
        async with hooked(tmp_path, plugin) as (stage, hook):
            hook.step = step
            await due(stage, "ann", "ben")
            await until(lambda: len(hook.asked) >= 4, 20)
            assert plugin.calls == []
            found = await rows(stage)
            assert {row[1:] for row in found} == {("pending", "ENTITLEMENT_UNKNOWN", 0)}
            assert len(found) == 4
            assert told in (await alarms(stage))["ENTITLEMENT_UNREACHABLE"]
            [outcome] = (await stage.explain("ann", "/a")).outcomes
            assert outcome.state == presence_pb2.Outcome.DEFERRED
            assert outcome.reason == "ENTITLEMENT_UNKNOWN"
            assert "the entitlement hook, which gave no word" in outcome.text
            state = await stage.store.read(lambda tx: tx.load_user("ann", "/a"))
            assert [follow.ended for follow in state.follows.values()] == [False]
            hook.step = None
            await until(in_states(stage, ann="accepted", ben="accepted"), 20)
            assert "ENTITLEMENT_UNREACHABLE" not in await alarms(stage)
            assert {sent.attempt for sent in plugin.deliveries} == {1}

    run(claim())


def test_what_nobody_judges_expires_as_anything_else(run, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_PAUSE_LEAST_S", 0.1)

    async def claim():
        plugin = FakePlugin()
        async with hooked(tmp_path, plugin, expiry_s=1) as (stage, hook):
            hook.step = unspecified
            await due(stage, "ann")
            await until(lambda: hook.asked)

            async def expired() -> bool:
                return ("ann", "expired") in {row[:2] for row in await rows(stage)}

            await until(expired, 15)
            assert plugin.calls == []

    run(claim())


def test_a_hook_that_is_back_is_found_without_a_restart(run, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_PAUSE_LEAST_S", 0.1)

    async def claim():
        plugin = FakePlugin()
        async with hooked(tmp_path, plugin, entitlement_deadline_s=1) as (stage, hook):
            await hook.stop()
            await due(stage, "ann")
            await until(lambda: stage.workers._entitlement.fault)
            await hook.start()
            await until(lambda: plugin.deliveries, 20)

    run(claim())


def test_verdicts_are_relied_on_for_as_long_as_the_hook_says(run):
    async def body() -> None:
        now = [0.0]
        hook = FakeHook()
        hook.step = lambda request, _: Response(verdicts=[ALLOWED, DENIED], valid_s=5)
        pairs = [("ann", "/a"), ("ben", "/a")]
        async with asking(hook, clock=lambda: now[0]) as one:
            assert one.known(pairs) == {}
            assert await one.ask(pairs) == {("ann", "/a"): ALLOWED, ("ben", "/a"): DENIED}
            now[0] = 4.9
            assert one.known(pairs) == {("ann", "/a"): ALLOWED}
            now[0] = 5
            assert one.known(pairs) == {}

    run(body())


def test_only_what_is_not_known_is_asked_and_in_questions_of_a_thousand(run):
    async def body() -> None:
        hook = FakeHook()
        async with asking(hook, deadline_s=5) as one:
            many = [(f"user{n}", "/a") for n in range(2_500)]
            await one.ask(many[:10])
            verdicts = await one.ask([*many, *many])
            assert set(verdicts) == set(many)
            assert [len(asked) for asked in hook.asked] == [10, 1_000, 1_000, 490]

    run(body())


def test_no_more_pairs_are_remembered_than_the_bound(run, monkeypatch):
    monkeypatch.setattr(module, "REMEMBERED_MAX", 3)

    async def body() -> None:
        hook = FakeHook()
        async with asking(hook) as one:
            pairs = [(user, "/a") for user in "abcde"]
            assert len(await one.ask(pairs)) == 5, "in this claim all of them count"
            assert set(one.known(pairs)) == {(user, "/a") for user in "cde"}

    run(body())


def test_a_hook_that_fails_is_left_alone_for_a_moment(run):
    async def body() -> None:
        now = [0.0]
        hook = FakeHook()
        hook.step = fail
        async with asking(hook, clock=lambda: now[0]) as one:
            assert await one.ask([("ann", "/a")]) == {}
            hook.step = None
            assert await one.ask([("ann", "/a")]) == {}
            assert len(hook.asked) == 1
            now[0] = 1
            assert await one.ask([("ann", "/a")]) == {("ann", "/a"): ALLOWED}
            assert one.fault == ""

    run(body())


def test_pauses_are_spread_and_grow_with_the_time_that_there_was_no_verdict(run):
    async def body() -> None:
        now = [0.0]
        hook = FakeHook()
        hook.step = fail
        async with asking(hook, clock=lambda: now[0]) as one:
            assert one.judged({}).pause_s == 3
            await one.ask([("ann", "/a")])
            now[0] = 30
            assert one.judged({}).pause_s == 10
            now[0] = 3_000
            assert one.judged({}).pause_s == 30

    run(body())
    assert Judged({}, 10, lambda: 0.0).again_at(100) == 105
    assert Judged({}, 10, lambda: 0.999).again_at(100) > 109.9


def test_a_hook_without_tls_is_shown_the_secret_and_none_is_an_error(run):
    async def body() -> None:
        hook = FakeHook()
        address = await hook.start()
        async with asking(hook, f"grpc://{address}", trust=Trust(SECRET)) as one:
            assert await one.ask([("ann", "/a")]) == {("ann", "/a"): ALLOWED}

    run(body())
    with pytest.raises(SettingError, match="ONWARD_PRESENCE_ENTITLEMENT"):
        Entitlement("grpc://host:1", "", 1, 1, random.random)
