"""`onward status --watch`: what changed, in lines and as JSON, and whom it asks."""

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import pytest
from onward_sdk import Refused

from services.cli import status_watch
from services.cli.status import picture
from services.cli.status_facts import changes, epoch, facts, holdings
from services.cli.status_watch import watch
from tests.cli.commands import started
from tests.cli.test_status import ALARM, ROW, WELL
from tests.sdk.scripted_edge import scripted_edge
from tests.waiting import until

SECOND = ROW | {"partition": 1, "owner": "coordinator-2", "epoch": "7", "lag": "3"}
THIRD = ROW | {"partition": 2, "owner": "coordinator-2", "epoch": "9", "lag": "1"}
MOVED = WELL | {"partitions": {"count": 3, "lag": "4", "withoutOwner": [],
                               "list": [ROW, SECOND, THIRD]}}  # fmt: skip


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_watch, "EVERY_S", 0.01)


def test_partitions_are_summed_up_by_owner() -> None:
    summed = holdings(MOVED)["coordinator-2"]
    assert (summed.partitions, summed.epochs, summed.lag) == (2, "7–9", 4)
    assert epoch((3 << 48) + 17) == "3/17"


def test_facts_tell_owners_epochs_lag_members_and_alarms() -> None:
    told = facts(MOVED | {"alarms": [ALARM]})
    assert told == {
        "partitions": "3 of 3 held, 0 without owner",
        "lag": "4 log entries wait for presence",
        "coordinator-1": "owns 1, epochs 5",
        "coordinator-2": "gone, and owns 2 until its lease ends",
        "presence-1": "owns 3",
        "edge 127.0.0.1:8080": "3 sessions, 1 of 1 uplinks",
        "plugin email": "connected, breaker closed",
        "alarm PLUGIN_BREAKER_OPEN of presence presence-1": ALARM["text"],
    }


def test_changes_are_what_is_new_other_or_gone() -> None:
    before = {"a": "1", "b": "2", "c": "3"}
    assert changes(before, {"a": "1", "b": "4", "d": "5"}) == ["b: 4", "d: 5", "c: gone"]
    assert changes(before, before) == []


def test_elsewhere_than_on_a_terminal_changes_are_printed_until_ctrl_c(tmp_path: Path) -> None:
    async def claim() -> None:
        async with scripted_edge() as edge:
            edge.answers["/v1/status"] = (200, WELL)
            async with started("status", "--watch", home=tmp_path, url=edge.url) as running:
                assert await after(running, "coordinator-1: owns 1, epochs 5")
                edge.answers["/v1/status"] = (200, MOVED)
                assert await after(running, "partitions: 3 of 3 held, 0 without owner")
                running.process.send_signal(signal.SIGINT)
                assert (await running.end()).code == 0

    async def after(running: Any, words: str) -> bool:
        async with asyncio.timeout(20):
            while line := await running.process.stdout.readline():
                if line.decode().rstrip().endswith(words):
                    return True
        return False

    asyncio.run(claim())


async def told(capsys: pytest.CaptureFixture[str], count: int) -> list[dict[str, Any]]:
    """So many objects as they are printed."""
    found: list[dict[str, Any]] = []

    def enough() -> bool:
        found.extend(json.loads(line) for line in capsys.readouterr().out.splitlines())
        return len(found) >= count

    await until(enough)
    return found


def test_as_json_there_is_an_object_for_each_change_of_what_is_told(
    quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    async def claim() -> None:
        async with scripted_edge() as edge:
            edge.answers["/v1/status"] = (200, WELL)
            watching = asyncio.create_task(watch(edge.url, "", True, picture))
            (first,) = await told(capsys, 1)
            edge.answers["/v1/status"] = (200, WELL | {"alarms": [ALARM]})
            (second,) = await told(capsys, 1)
            assert (first["well"], second["well"]) == (True, False)
            watching.cancel()

    asyncio.run(claim())


def test_an_edge_that_falls_silent_is_left_for_one_that_it_told_of(
    quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    async def claim() -> None:
        async with scripted_edge() as other:
            other.answers["/v1/status"] = (200, MOVED)
            address = other.url.removeprefix("http://")
            edges = [WELL["edges"][0] | {"clientAddress": address}]
            async with scripted_edge() as edge:
                edge.answers["/v1/status"] = (200, WELL | {"edges": edges})
                watching = asyncio.create_task(watch(edge.url, "", True, picture))
                (first,) = await told(capsys, 1)
            (second,) = await told(capsys, 1)
            owned = [len(one["partitions"]["list"]) for one in (first, second)]
            assert owned == [1, 3]
            watching.cancel()

    asyncio.run(claim())


def test_a_refusal_ends_the_watch(quick: None) -> None:
    async def claim() -> None:
        async with scripted_edge() as edge:
            edge.answers["/v1/status"] = (403, {"code": "FORBIDDEN", "message": "No."})
            with pytest.raises(Refused):
                await watch(edge.url, "", True, picture)

    asyncio.run(claim())
