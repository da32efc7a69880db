"""The load programs count rightly, against the floor and against the real suite."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import machine, programs, suite
from bench.fanout import SUBJECT, connect_frame
from tests.waiting import wait_for

CLIENTS = 10
NO_COMPILER = programs.compiler() is None


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the load programs."""
    if NO_COMPILER:
        pytest.skip("there is no C compiler")
    directory = tmp_path_factory.mktemp("programs")
    programs.build(directory)
    yield directory


def test_the_floor_sends_every_frame_to_every_subscriber(built: Path) -> None:
    port = suite.free_port()
    with programs.running(built, "floor", port=port, clients=CLIENTS, rate=100, bytes=200) as floor:
        floor.wait_for("listening", 5)
        with programs.running(
            built, "subscribe", port=port, clients=CLIENTS, user="u{i}", connect="{}", sample=1
        ) as subscribers:
            subscribers.wait_for("ready", 5)
            (counted,) = programs.counted([subscribers], 0.5)
            assert machine.cpu_s([floor.pid]) >= 0
    assert counted["deliveries"] >= CLIENTS * 10
    assert counted["bytes"] == counted["deliveries"] * 200
    assert counted["samples"] == counted["deliveries"]
    assert 0 < counted["p50_us"] <= counted["p99_us"] <= counted["max_us"] < 5e6


def test_subscribers_of_the_suite_count_what_publishers_were_answered(
    built: Path, tmp_path: Path
) -> None:
    with (
        suite.running(tmp_path) as up,
        programs.running(
            built,
            "subscribe",
            port=up.port,
            clients=CLIENTS,
            user="u{i}",
            connect=connect_frame(SUBJECT, "EXPLICIT"),
            ack=f'{{"ack":{{"positions":[{{"subject":"{SUBJECT}","seq":"{{seq}}"}}]}}}}',
        ) as subscribers,
    ):
        subscribers.wait_for("ready", 20)
        before = up.cpu_s()
        with programs.running(
            built, "publish", port=up.port, user="p", subject=SUBJECT, rate=200, burst=8
        ) as publisher:
            publisher.wait_for("ready", 10)
            publisher.tell("go")
            wait_for(lambda: publisher.report()["answered"] >= 80, 20, "80 publishes")
            publisher.tell("stop")
            sent = wait_for(lambda: _all_answered(publisher), 20, "every answer")
        wait_for(
            lambda: subscribers.report()["deliveries"] == CLIENTS * sent["published"],
            20,
            "every delivery",
        )
        assert up.cpu_s() > before
        assert machine.memory(up.child("edge")).pss > 1 << 20
        assert subscribers.report()["closed"] == 0


def _all_answered(publisher: programs.Program) -> dict[str, int] | None:
    counted = publisher.report()
    assert not counted["errors"]
    return counted if counted["answered"] == counted["published"] else None


def test_a_program_that_ends_says_why(built: Path) -> None:
    with (
        programs.running(built, "subscribe", clients=1) as program,
        pytest.raises(programs.ProgramFailed, match="--port is missing"),
    ):
        program.wait_for("ready", 5)
