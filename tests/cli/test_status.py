"""`onward status`: what an operator sees, in a terminal and as JSON, and its exit codes."""

import asyncio
import io
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from services.cli.status import picture
from tests.cli.commands import Ended, ended
from tests.sdk.scripted_edge import scripted_edge

Run = Callable[[Coroutine[Any, Any, None]], None]

ROW = {"partition": 0, "owner": "coordinator-1", "epoch": "5", "held": True, "tail": "9",
       "cursor": "9", "lag": "0"}  # fmt: skip
WELL: dict[str, Any] = {
    "logId": "5ae7",
    "partitions": {"count": 1, "lag": "0", "withoutOwner": [], "withoutPresence": [],
                   "list": [ROW]},
    "coordinators": [
        {"name": "coordinator-1", "answered": True, "fault": "", "held": 1, "queue": 0,
         "logBytes": "1572864", "logBytesMax": "10737418240", "edges": [{"edgeId": "7"}]}
    ],
    "presences": [
        {"name": "presence-1", "answered": True, "fault": "", "owned": 3, "held": 2,
         "clientsOnline": "3", "clientsInGrace": "0", "clientsOffline": "2",
         "handovers": "0", "fanouts": "0"}
    ],
    "edges": [
        {"name": "7", "answered": True, "fault": "", "clientAddress": "127.0.0.1:8080",
         "sockets": 3, "sessions": 3, "lagging": 1, "subscriptions": 5, "heldPublishes": 0,
         "links": [{"coordinator": "coordinator-1", "up": True}]}
    ],
    "plugins": [
        {"name": "email", "connected": True, "channels": ["mailto"], "breaker": "closed",
         "queue": "0", "calls": 0, "fault": ""}
    ],
    "deliveries": {"PENDING": "2", "ACCEPTED": "14"},
    "alarms": [],
}  # fmt: skip
ALARM = {
    "service": "presence", "member": "presence-1", "name": "PLUGIN_BREAKER_OPEN",
    "text": "The plugin email fails as a whole; look at its log.", "since": "2026-11-22T12:03:04Z",
}  # fmt: skip


def status(run: Run, home: Path, answer: tuple[int, Any] | None, *arguments: str) -> Ended:
    async def ask() -> Ended:
        async with scripted_edge() as edge:
            if answer is None:
                return await ended("status", *arguments, home=home, url="http://127.0.0.1:1")
            edge.answers["/v1/status"] = answer
            return await ended("status", *arguments, home=home, url=edge.url)

    return asyncio.run(ask())


def screen(found: dict[str, Any]) -> list[str]:
    """The lines that a terminal of 80 columns shows."""
    out = io.StringIO()
    Console(file=out, width=80, highlight=False).print(picture("http://127.0.0.1:8080", found))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_a_cluster_that_is_well_fits_a_terminal_of_80_columns() -> None:
    lines = screen(WELL)
    assert lines[0] == "Onward at http://127.0.0.1:8080: all is well"
    assert "Partitions     1 of 1 held; presence is up to date" in lines
    assert "Notifications  14 accepted, 2 pending" in lines
    clients = "3 online, 0 in grace, 2 offline, 0 handovers, 0 fan-outs"
    assert f"Clients        {clients}" in lines
    assert all(len(line) <= 80 for line in lines)
    for words in (
        ["coordinator-1", "1", "5", "0", "0", "1.5", "MiB", "10.0", "GiB", "1"],
        ["presence-1", "3", "2"],
        ["email", "mailto", "works", "0", "0"],
        ["127.0.0.1:8080", "3", "3", "1", "5", "0", "1", "of", "1"],
    ):
        assert words in [line.split() for line in lines]


def test_alarms_come_first_and_what_is_missing_is_named() -> None:
    partitions = {"count": 3, "lag": "12", "withoutOwner": [1, 2], "withoutPresence": [2],
                  "list": [ROW]}  # fmt: skip
    silent = {"name": "coordinator-2", "answered": False, "fault": "UNAVAILABLE"}
    plugin = WELL["plugins"][0] | {"breaker": "open", "breakerUntil": "2026-11-22T12:04:00Z"}
    lines = screen(
        WELL
        | {"alarms": [ALARM], "partitions": partitions, "plugins": [plugin]}
        | {"coordinators": [*WELL["coordinators"], silent]}
    )
    assert lines[:3] == [
        "Onward at http://127.0.0.1:8080: 1 alarm",
        "  PLUGIN_BREAKER_OPEN  presence presence-1, since 2026-11-22 12:03:04 UTC",
        "    The plugin email fails as a whole; look at its log.",
    ]
    assert "Partitions     1 of 3 held; 2 without owner (1, 2); 1 without a presence" in lines
    assert "replica; 12 log entries wait for presence" in lines
    assert ["coordinator-2", "silent"] in [line.split() for line in lines]
    assert any("breaker open until 12:04:00" in line for line in lines)


def test_a_registered_plugin_that_does_not_serve_is_told_so() -> None:
    plugin = WELL["plugins"][0] | {"health": "NOT_SERVING", "registeredAs": "mail"}
    [line] = [one for one in screen(WELL | {"plugins": [plugin]}) if "not serving" in one]
    assert "(registered as" in line


def test_what_members_say_of_themselves_cannot_control_the_terminal() -> None:
    plugin = WELL["plugins"][0] | {"fault": "\x1b[2J535 no"}
    assert "\x1b" not in "".join(screen(WELL | {"plugins": [plugin]}))


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ((200, WELL), 0),
        ((200, WELL | {"alarms": [ALARM]}), 1),
        ((403, {"code": "FORBIDDEN", "message": "Only an administrator may see it."}), 2),
        (None, 2),
    ],
    ids=["well", "alarm", "refused", "unreachable"],
)
def test_the_exit_code_tells_a_script(
    run: Run, tmp_path: Path, answer: tuple[int, Any] | None, code: int
) -> None:
    done = status(run, tmp_path, answer, "--json")
    assert done.code == code, done.err
    if code < 2:
        (shown,) = done.lines
        assert shown == {"event": "status", "well": code == 0, **(answer or (0, {}))[1]}
    else:
        assert not done.out
        assert len(done.err.splitlines()) == 1
