"""`onward extensions`: what an administrator is told, and its exit codes."""

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from tests.cli.commands import ended
from tests.sdk.scripted_edge import scripted_edge

Run = Callable[[Coroutine[Any, Any, None]], None]
CHAT = {
    "name": "chat",
    "address": "h:1",
    "plain": True,
    "serverName": "",
    "subjects": ["/chat/*"],
    "behind": "12",
    "fault": "a call ended with UNAVAILABLE",
}


def test_the_list_shows_where_each_is_and_how_it_is(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with scripted_edge() as edge:
            edge.answers["/v1/extensions"] = (200, {"extensions": [CHAT]})
            done = await ended("extensions", "list", home=tmp_path, url=edge.url)
            assert done.code == 0
            for word in ("chat", "h:1 (no TLS)", "/chat/*", "12", "UNAVAILABLE"):
                assert word in " ".join(done.out.split()), done.out
            (line,) = (
                await ended("extensions", "list", "--json", home=tmp_path, url=edge.url)
            ).lines
            assert line == {"event": "extension", **CHAT}
            edge.answers["/v1/extensions"] = (200, {"extensions": []})
            done = await ended("extensions", "list", home=tmp_path, url=edge.url)
            assert done.out == "No extension is registered.\n"

    run(story())


def test_one_is_added_with_its_subjects(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with scripted_edge() as edge:
            edge.answers["/v1/extensions"] = (200, {"name": "chat"})
            words = ("chat", "h:1", "--subjects", "/chat/*", "--subjects", "/news", "--plain")
            done = await ended("extensions", "add", *words, home=tmp_path, url=edge.url)
            assert (done.code, done.out) == (0, "chat is registered at h:1\n")
            (path, _, body) = edge.requests[0]
            assert path == "/v1/extensions"
            assert body == {
                "name": "chat",
                "address": "h:1",
                "plain": True,
                "serverName": "",
                "subjects": ["/chat/*", "/news"],
            }

    run(story())


def test_one_is_removed_and_one_that_is_not_there_is_told(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with scripted_edge() as edge:
            edge.answers["/v1/extensions/chat"] = (200, {"removed": True})
            done = await ended("extensions", "remove", "chat", home=tmp_path, url=edge.url)
            assert (done.code, done.out) == (0, "chat is registered no more\n")
            edge.answers["/v1/extensions/chat"] = (200, {"removed": False})
            done = await ended("extensions", "remove", "chat", home=tmp_path, url=edge.url)
            assert (done.code, done.out) == (0, "no extension is registered as chat\n")

    run(story())


def test_a_refusal_is_one_sentence_and_exit_code_1(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with scripted_edge() as edge:
            refusal = {"code": "ARGUMENT_INVALID", "message": "An address is host:port."}
            edge.answers["/v1/extensions"] = (400, refusal)
            done = await ended("extensions", "add", "chat", "x", home=tmp_path, url=edge.url)
            assert (done.code, done.out) == (1, "")
            assert done.err == "ARGUMENT_INVALID: An address is host:port.\n"

    run(story())
