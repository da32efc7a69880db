"""The example extension through real processes: the race table, every order, every event repeated.

Each row has a user and a subject of its own. A message is published to it after the row's events
have taken effect; the extension, which tells what it pushes on its standard output, must push it to
the user's token exactly if the table says that the user is offline then.
"""

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.chassis.etcd import Etcd
from tests.path.stack import ROOT, Program, Suite, base_environ, ended
from tests.path.test_race_table import ROWS, environment
from tests.path.uplink_client import LoneEdge
from tests.waiting import until, wait_for

PROGRAM = ROOT / "plugins/python/fcm_chat_extension/extension.py"


@pytest.fixture(scope="module")
def pushing(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """The extension, registered."""
    environ = base_environ() | {
        "ONWARD_SECRET": environment(suite, "coordinator")["ONWARD_SECRET"],
        "EXTENSION_LISTEN": "127.0.0.1:0",
        "EXTENSION_STATE": str(tmp_path_factory.mktemp("chat") / "state.sqlite"),
        "PYTHONPATH": os.pathsep.join(map(str, (PROGRAM.parent, ROOT / "gen"))),
    }
    program = Program([sys.executable, str(PROGRAM)], environ, Path("/"))
    with ended(program):
        wait_for(lambda: program.output.all, 30, "the ready line")
        address = program.output.all[0].partition("ready: ")[2]
        suite.command("extensions", "add", "fcm-chat", address)
        yield program


def user_of(row: str, times: int) -> str:
    """Whose events the row's are."""
    return f"chat-{row.replace(' ', '-')}-{times}"


def push_to(user: str) -> str:
    """What the extension tells when it pushes the user's message."""
    return f"push to {user}: bob: to {user}"


def kept_up(suite: Suite) -> bool:
    """Whether the extension has acknowledged everything."""
    [told] = suite.get("/v1/extensions")["extensions"]
    return (told["behind"], told["fault"]) == ("0", "")


@pytest.mark.parametrize("times", [1, 2], ids=["once", "each event repeated"])
def test_it_pushes_to_who_is_offline_at_the_end_of_each_row(
    suite: Suite, pushing: Program, run: Callable[[Coroutine[Any, Any, None]], None], times: int
) -> None:
    environ = environment(suite, "coordinator")

    async def played(row: str, etcd: Etcd) -> LoneEdge:
        """The edge of the row, which stays until the end, once its events have taken effect."""
        user = user_of(row, times)
        edge = await LoneEdge.join(etcd, environ["ONWARD_SECRET"], user, f"fcm:{user}")
        await edge.begin(f"/race/{user}")
        for event in row.split():
            for _ in range(times):
                await edge.send(event)
        await until(edge.processed, 15)
        return edge

    async def scenario() -> None:
        etcd = Etcd(environ["ONWARD_ETCD"])
        edges = await asyncio.gather(*(played(row, etcd) for row, _ in ROWS))
        await until(lambda: kept_up(suite), 15, 0.1)
        for row, _ in ROWS:
            user = user_of(row, times)
            await asyncio.to_thread(suite.publish, f"/race/{user}", f"to {user}")
        await until(lambda: kept_up(suite), 15, 0.1)
        expected = {push_to(user_of(row, times)) for row, offline in ROWS if offline}
        await until(lambda: expected <= set(pushing.output.all), 5)
        pushes = Counter(line for line in pushing.output.all if line.startswith("push to "))
        for row, offline in ROWS:
            assert pushes[push_to(user_of(row, times))] == offline, row
        print(f"{len(ROWS)} rows, {sum(offline for _, offline in ROWS)} of them offline at the end")
        for edge in edges:
            await edge.leave()
        await etcd.close()

    run(scenario())
