"""`onward drain`: what an operator is told, and its exit codes."""

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import ended
from tests.sdk.scripted_edge import scripted_edge

Run = Callable[[Coroutine[Any, Any, None]], None]
DRAINING = {"service": "edge", "name": "7", "address": "127.0.0.1:4007", "atMostMs": 17_500}


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (400, "ARGUMENT_INVALID", "No live member is named so; `GET /v1/status` names them all."),
        (403, "FORBIDDEN", "Only an administrator may drain a member."),
        (503, "UNAVAILABLE", "That member does not answer (UNAVAILABLE)."),
    ],
)
def test_a_refusal_is_one_sentence_and_exit_code_1(
    run: Run, tmp_path: Path, status: int, code: str, message: str
) -> None:
    async def story() -> None:
        async with scripted_edge() as edge:
            edge.answers["/v1/drain"] = (status, {"code": code, "message": message})
            done = await ended("drain", "c9", home=tmp_path, url=edge.url)
            assert (done.code, done.out, done.err) == (1, "", f"{code}: {message}\n")

    run(story())


def test_a_member_that_is_draining_is_named_with_the_time_it_may_take(
    run: Run, tmp_path: Path
) -> None:
    async def story() -> None:
        async with scripted_edge() as edge:
            edge.answers["/v1/drain"] = (200, DRAINING)
            done = await ended("drain", "7", home=tmp_path, url=edge.url)
            assert (done.code, done.out) == (0, "edge 7 is draining, and ends within 17.5 s\n")
            (line,) = (await ended("drain", "7", "--json", home=tmp_path, url=edge.url)).lines
            assert line == {"event": "draining", **DRAINING}
            assert edge.requests[0] == ("/v1/drain", {}, {"member": "7"})

    run(story())
