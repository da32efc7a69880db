"""What registered extensions are told by a presence service: real gRPC, real stores."""

import asyncio
from contextlib import asynccontextmanager

import grpc
import pytest
from onward.presence.v1 import presence_pb2

from services.chassis.subjects import partition_of
from services.presence.extensions import Registration, registered_value
from tests.presence.observer import Observer, aborting, broken, never
from tests.presence.stage import PARTITIONS, SECRET, Client, Stage, staged
from tests.waiting import until

QUICK = {"breaker_first_s": 0.02, "breaker_longest_s": 0.1, "extension_deadline_s": 0.3}


async def register(stage: Stage, observer: Observer, name="x", subjects=()) -> None:
    """As AddExtension does it."""
    address = f"127.0.0.1:{observer.port}" if observer.port else await observer.start()
    await stage.store.write(lambda tx: tx.register_extension(name))
    value = registered_value(Registration(name, address, subjects=tuple(subjects)))
    stage.extensions[name] = value
    stage.workers.extensions_changed()


@asynccontextmanager
async def observed(tmp_path, *observers: Observer, **settings):
    """A stage with these extensions, named x, y, …"""
    async with staged(tmp_path, **(QUICK | settings)) as stage:
        for name, observer in zip("xyz", observers, strict=False):
            await register(stage, observer, name)
        try:
            yield stage
        finally:
            for observer in observers:
                await observer.stop()


def subject_in(partition: int, stem: str = "/s") -> str:
    return next(
        f"{stem}/{n}" for n in range(999) if partition_of(f"{stem}/{n}", PARTITIONS) == partition
    )


async def behind(stage: Stage, name: str = "x") -> int:
    return (await stage.store.read(lambda tx: tx.extensions_behind())).get(name, -1)


async def kept_up(stage: Stage, name: str = "x", within_s: float = 10) -> None:
    async def none() -> bool:
        return await behind(stage, name) == 0

    await until(none, within_s)


def test_an_extension_is_told_who_comes_and_goes_and_what_is_published(
    run, tmp_path, store_settings
):
    async def claim():
        observer = Observer(SECRET)
        async with observed(tmp_path, observer, **store_settings) as stage:
            ann = Client(stage.log, "ann")
            ann.connect("/chat/1", endpoints=["fcm:1"], info={"app": "chat"})
            await stage.report()
            for n in range(3):
                stage.log.publish("/chat/1", f"text {n}")
            ann.disconnect(clean=True)
            await stage.report()
            await kept_up(stage)
            assert observer.texts("/chat/1") == ["text 0", "text 1", "text 2"]
            assert [m.seq for m in observer.messages()] == [1, 2, 3]
            came, went = observer.presences("ann")
            assert list(came.external_tokens) == list(went.external_tokens) == ["fcm:1"]
            assert list(came.subjects) == ["/chat/1"] and dict(came.additional_info)
            assert (came.is_offline, came.session_id) == (False, "ann-1/1")
            assert (went.is_offline, went.client_offline, went.generation) == (True, True, 1)
            assert abs(went.at.ToSeconds() - stage.clock()) < 60
            assert observer.overlaps == 0 and not observer.gaps

    run(claim())


def test_a_message_reaches_it_within_milliseconds_of_taking_effect(run, tmp_path):
    async def claim():
        observer = Observer(SECRET)
        async with observed(tmp_path, observer) as stage:
            took = []
            loop = asyncio.get_running_loop()
            for n in range(20):
                stage.log.publish("/a", str(n))
                await stage.report()
                began = loop.time()
                await until(lambda n=n: len(observer.texts("/a")) > n, 5)
                took.append(loop.time() - began)
            assert sorted(took)[10] < 0.5, took  # far below the second after which it is looked

    run(claim())


def test_without_any_extension_nothing_is_written(run, tmp_path):
    async def claim():
        async with staged(tmp_path) as stage:
            stage.log.publish("/a", "x")
            Client(stage.log, "ann").connect("/a")
            await stage.report()
            for table in ("happenings", "happening_tails"):
                rows = await stage.store.read(
                    lambda tx, table=table: tx.db.rows(f"SELECT 1 FROM {table}")
                )
                assert rows == []

    run(claim())


def test_it_is_told_what_happens_from_its_registration_on(run, tmp_path):
    async def claim():
        first, second = Observer(SECRET), Observer(SECRET)
        async with observed(tmp_path, first) as stage:
            stage.log.publish("/a", "before")
            await stage.report()
            await register(stage, second, "y")
            stage.log.publish("/a", "after")
            await stage.report()
            await kept_up(stage, "y")
            await kept_up(stage)
            assert first.texts("/a") == ["before", "after"]
            assert second.texts("/a") == ["after"]
            await second.stop()

    run(claim())


def test_only_the_subjects_it_wants_and_all_presence(run, tmp_path):
    async def claim():
        observer = Observer(SECRET)
        async with observed(tmp_path) as stage:
            await register(stage, observer, subjects=["/chat/*", "/news"])
            for subject in ("/chat/1", "/chat", "/news", "/other/1"):
                stage.log.publish(subject, subject)
            Client(stage.log, "ann").connect("/other/1")
            await stage.report()
            await kept_up(stage)
            assert sorted(m.subject for m in observer.messages()) == ["/chat/1", "/news"]
            assert len(observer.presences("ann")) == 1
            await observer.stop()

    run(claim())


def test_the_death_of_an_edge_is_told(run, tmp_path):
    async def claim():
        observer = Observer(SECRET)
        async with observed(tmp_path, observer) as stage:
            Client(stage.log, "ann").connect("/a")
            await stage.report()
            stage.live_edges.clear()
            await until(lambda: len(observer.presences("ann")) == 2, 10)
            assert observer.presences("ann")[1].is_offline

    run(claim())


def test_a_token_that_moves_is_told_of_its_former_user_too(run, tmp_path):
    async def claim():
        observer = Observer(SECRET)
        async with observed(tmp_path, observer) as stage:
            Client(stage.log, "ann").connect("/a", endpoints=["fcm:1"])
            await stage.report()
            Client(stage.log, "bob").connect("/a", endpoints=["fcm:1"])
            await stage.report()
            await kept_up(stage)
            assert [list(p.external_tokens) for p in observer.presences("ann")] == [["fcm:1"], []]
            assert [list(p.external_tokens) for p in observer.presences("bob")] == [["fcm:1"]]

    run(claim())


# -- one that is slow, dead, or wrong ------------------------------------------------------------


def test_one_that_hangs_holds_back_only_its_partition_and_no_other_extension(run, tmp_path):
    async def claim():
        slow, other = Observer(SECRET), Observer(SECRET)
        stuck, free = subject_in(0), subject_in(1)

        async def hang_on_the_first(request, context):
            told = getattr(request, "messages", ())
            if told and told[0].message.subject == stuck:
                await never(request, context)

        slow.always = hang_on_the_first
        async with observed(tmp_path, slow, other) as stage:
            stage.log.publish(stuck, "1")
            await stage.report()
            for n in range(5):
                stage.log.publish(free, str(n))
                await stage.report()
            await kept_up(stage, "y")
            await until(lambda: len(slow.texts(free)) == 5, 5)
            assert slow.texts(stuck) == [] and other.texts(stuck) == ["1"]
            fault = lambda: stage.workers.tellers.extensions["x"].fault  # noqa: E731
            await until(lambda: "DEADLINE_EXCEEDED" in fault(), 5)
            slow.always = None
            await kept_up(stage)
            assert slow.texts(stuck) == ["1"] and slow.overlaps == 0
            assert fault() == ""

    run(claim())


def test_one_that_is_away_is_told_everything_when_it_is_back(run, tmp_path, store_settings):
    async def claim():
        observer, other = Observer(SECRET), Observer(SECRET)
        async with observed(tmp_path, observer, other, **store_settings) as stage:
            stage.log.publish("/a", "0")
            await stage.report()
            await kept_up(stage)
            await observer.stop()
            await until(lambda: stage.workers.tellers.extensions["x"].fault, 5)
            for n in range(1, 30):
                stage.log.publish("/a", str(n))
            await stage.report()
            await kept_up(stage, "y")
            assert await behind(stage) == 29
            await observer.start()
            await kept_up(stage)
            assert observer.texts("/a") == [str(n) for n in range(30)]
            assert len(observer.taken) == 30, "nothing came twice"

    run(claim())


@pytest.mark.parametrize(
    "fault",
    [
        aborting(grpc.StatusCode.UNAVAILABLE),
        aborting(grpc.StatusCode.UNIMPLEMENTED),
        aborting(grpc.StatusCode.INVALID_ARGUMENT),
        broken,
        never,
    ],
    ids=["unavailable", "unimplemented", "invalid", "bug", "hangs"],
)
def test_what_was_not_taken_comes_again_in_order(run, tmp_path, fault):
    async def claim():
        observer = Observer(SECRET)
        observer.script = [fault] * 3
        async with observed(tmp_path, observer) as stage:
            for n in range(10):
                stage.log.publish("/a", str(n))
                Client(stage.log, f"u{n}").connect("/a")
                await stage.report()
            await kept_up(stage)
            assert observer.texts("/a") == [str(n) for n in range(10)]
            assert sum(len(observer.presences(f"u{n}")) for n in range(10)) == 10
            assert observer.overlaps == 0

    run(claim())


def test_one_that_takes_and_does_not_answer_sees_repeats_and_no_hole(run, tmp_path):
    async def claim():
        observer = Observer(SECRET)
        answer = observer.OnClusterMessage
        times = [0]

        async def lost(request, context):
            times[0] += 1
            response = await answer(request, context)
            if times[0] % 2:
                await context.abort(grpc.StatusCode.INTERNAL, "the answer is lost")
            return response

        observer.OnClusterMessage = lost  # type: ignore[method-assign]
        async with observed(tmp_path, observer) as stage:
            for n in range(10):
                stage.log.publish("/a", str(n))
                await stage.report()
            await kept_up(stage)
            assert observer.texts("/a") == [str(n) for n in range(10)]
            assert len(observer.taken) > 10

    run(claim())


def test_its_calls_are_bounded(run, tmp_path):
    async def claim():
        observer = Observer(SECRET)

        async def slowly(request, context):
            await asyncio.sleep(0.02)

        observer.always = slowly
        async with observed(tmp_path, observer, extension_calls_max=2) as stage:
            for n in range(40):
                stage.log.publish(f"/s/{n}", str(n))
            await stage.report()
            await kept_up(stage)
            assert observer.most_under_way == 2
            assert len(observer.messages()) == 40

    run(claim())


# -- gaps ----------------------------------------------------------------------------------------


def test_what_is_not_kept_for_one_that_stayed_away_is_told_as_a_gap(run, tmp_path, store_settings):
    async def claim():
        observer = Observer(SECRET)
        settings = {"retain_extension_max": 1_000, **store_settings}
        async with observed(tmp_path, observer, **settings) as stage:
            await observer.stop()
            await until(lambda: stage.workers.tellers.extensions["x"].fault, 5)
            for n in range(10):
                stage.log.publish("/a", str(n))
            await stage.report()
            mine = partition_of("/a", PARTITIONS)
            await stage.store.write(lambda tx: tx.trim_happenings(0.0, 4, 100))
            await observer.start()
            await kept_up(stage)
            assert observer.gaps == [(mine, 1, 6)]
            assert observer.texts("/a") == ["6", "7", "8", "9"]

    run(claim())


def test_where_nothing_is_kept_the_gap_reaches_to_the_end(run, tmp_path):
    async def claim():
        observer = Observer(SECRET)
        async with observed(tmp_path, observer) as stage:
            await observer.stop()
            await until(lambda: stage.workers.tellers.extensions["x"].fault, 5)
            for n in range(10):
                stage.log.publish("/a", str(n))
            await stage.report()
            await stage.store.write(lambda tx: tx.trim_happenings(tx.now() + 9, 1_000, 100))
            await observer.start()
            await kept_up(stage)
            assert observer.gaps == [(partition_of("/a", PARTITIONS), 1, 10)]
            stage.log.publish("/a", "10")
            await stage.report()
            await kept_up(stage)
            assert observer.texts("/a") == ["10"]

    run(claim())


def test_messages_that_the_log_has_trimmed_are_a_gap(run, tmp_path):
    async def claim():
        observer = Observer(SECRET)
        async with observed(tmp_path, observer) as stage:
            await observer.stop()
            await until(lambda: stage.workers.tellers.extensions["x"].fault, 5)
            for n in range(10):
                stage.log.publish("/a", str(n))
            await stage.report()
            # Another process, which remembers nothing of what was reported.
            await stage.restart()
            stage.log.floors["/a"] = 7
            await observer.start()
            await kept_up(stage)
            assert observer.gaps == [(partition_of("/a", PARTITIONS), 1, 7)]
            assert observer.texts("/a") == ["7", "8", "9"]

    run(claim())


def test_a_log_that_cannot_be_read_is_waited_for(run, tmp_path):
    async def claim():
        observer = Observer(SECRET)
        async with observed(tmp_path, observer) as stage:
            await observer.stop()
            await until(lambda: stage.workers.tellers.extensions["x"].fault, 5)
            stage.log.publish("/a", "x")
            await stage.report()
            await stage.restart()
            stage.log.messages_down = True
            await observer.start()
            reads = stage.log.reads
            await until(lambda: stage.log.reads > reads + 1, 5)
            assert not observer.taken and not observer.gaps
            stage.log.messages_down = False
            await kept_up(stage)
            assert observer.texts("/a") == ["x"]

    run(claim())


def test_upkeep_deletes_what_is_acknowledged(run, tmp_path):
    async def claim():
        observer = Observer(SECRET)
        async with observed(tmp_path, observer) as stage:
            for n in range(10):
                stage.log.publish("/a", str(n))
            await stage.report()
            await kept_up(stage)
            await stage.workers.upkeep.step()
            assert await stage.store.read(lambda tx: tx.db.rows("SELECT 1 FROM happenings")) == []

    run(claim())


def test_one_whose_positions_are_lost_with_the_store_is_told_what_happens_from_now_on(
    run, tmp_path
):
    async def claim():
        observer = Observer(SECRET)
        address = await observer.start()
        async with staged(tmp_path, **QUICK) as stage:
            stage.extensions["x"] = registered_value(Registration("x", address))
            stage.workers.extensions_changed()
            await until(lambda: stage.workers.tellers.extensions, 5)

            async def has_positions() -> bool:
                return await behind(stage) == 0

            await until(has_positions, 5)
            stage.log.publish("/a", "x")
            await stage.report()
            await kept_up(stage)
            assert observer.texts("/a") == ["x"]
        await observer.stop()

    run(claim())


# -- handing over --------------------------------------------------------------------------------


def test_a_start_goes_on_after_the_last_position(run, tmp_path, store_settings):
    async def claim():
        observer = Observer(SECRET)
        async with observed(tmp_path, observer, **store_settings) as stage:
            for n in range(5):
                stage.log.publish("/a", str(n))
            await stage.report()
            await kept_up(stage)
            await stage.restart()
            for n in range(5, 10):
                stage.log.publish("/a", str(n))
            await stage.report()
            await kept_up(stage)
            assert observer.texts("/a") == [str(n) for n in range(10)]
            assert len(observer.taken) == 10, "nothing came twice"

    run(claim())


def test_one_that_is_removed_is_told_nothing_more(run, tmp_path):
    async def claim():
        observer, other = Observer(SECRET), Observer(SECRET)
        async with observed(tmp_path, observer, other) as stage:
            del stage.extensions["x"]
            stage.workers.extensions_changed()
            await stage.store.write(lambda tx: tx.forget_extension("x"))
            await until(lambda: "x" not in stage.workers.tellers.extensions, 5)
            stage.log.publish("/a", "x")
            await stage.report()
            await kept_up(stage, "y")
            assert observer.taken == [] and other.texts("/a") == ["x"]

    run(claim())


def test_one_that_moves_goes_on_where_it_was(run, tmp_path):
    async def claim():
        former, new = Observer(SECRET), Observer(SECRET)
        async with observed(tmp_path, former) as stage:
            stage.log.publish("/a", "0")
            await stage.report()
            await kept_up(stage)
            await register(stage, new)
            stage.log.publish("/a", "1")
            await stage.report()
            await kept_up(stage)
            assert (former.texts("/a"), new.texts("/a")) == (["0"], ["1"])
            await new.stop()

    run(claim())


# -- what operators are told ---------------------------------------------------------------------


def test_one_that_takes_nothing_raises_an_alarm_until_it_does(run, tmp_path, monkeypatch):
    monkeypatch.setattr("services.presence.alarms.AWAY_S", 0.2)

    async def claim():
        observer = Observer(SECRET)
        async with observed(tmp_path, observer) as stage:

            async def alarm() -> str:
                status = await stage.query.GetStatus(presence_pb2.GetStatusRequest(), timeout=5)
                return "".join(one.text for one in status.alarms if one.name == "EXTENSION_FAILS")

            await until(lambda: "x" in stage.workers.tellers.extensions, 5)
            told_now = stage.workers.tellers.extensions["x"]
            await until(told_now.connected.is_set, 5)
            assert await alarm() == ""
            observer.always = broken
            stage.log.publish("/a", "secret text")
            await stage.report()
            told = await until(alarm, 5)
            assert "x at 127.0.0.1" in told and "UNKNOWN, 1 behind" in told
            assert "secret" not in told
            observer.always = None
            await kept_up(stage)
            assert await alarm() == ""
            await observer.stop()
            assert "connection was lost" in await until(alarm, 5)

    run(claim())


def test_a_stop_in_peace_waits_for_the_answer_and_keeps_it(run, tmp_path):
    async def claim():
        observer = Observer(SECRET)
        begun, goes_on = asyncio.Event(), asyncio.Event()

        async def wait(request, context):
            begun.set()
            await goes_on.wait()

        observer.script = [wait]
        async with observed(tmp_path, observer, drain_s=5.0, extension_deadline_s=5.0) as stage:
            stage.log.publish("/a", "1")
            await stage.report()
            await begun.wait()
            draining = asyncio.create_task(stage.workers.drain())
            stage.log.publish("/a", "2")
            await stage.report()
            goes_on.set()
            await draining
            assert await behind(stage) == 1
            assert len(observer.calls) == 1, "nothing begins any more"

    run(claim())
