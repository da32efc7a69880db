"""`onward notifiers`: what an administrator is told, and its exit codes."""

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from tests.cli.commands import ended
from tests.sdk.scripted_edge import scripted_edge

Run = Callable[[Coroutine[Any, Any, None]], None]
MAILER = {
    "name": "mailer", "address": "h:1", "plain": True, "serverName": "", "channels": ["mailto"],
    "ofSettings": False, "connected": True, "health": "SERVING", "served": ["mailto", "tel"],
}  # fmt: skip
OF_SETTINGS = MAILER | {"name": "h:2", "address": "h:2", "ofSettings": True, "connected": False}


def test_the_list_shows_where_each_is_and_how_it_is(run: Run, tmp_path: Path) -> None:
    unwell = MAILER | {"name": "sms", "health": "NOT_SERVING"}

    async def story() -> None:
        async with scripted_edge() as edge:
            edge.answers["/v1/notifiers"] = (200, {"notifiers": [OF_SETTINGS, MAILER, unwell]})
            done = await ended("notifiers", "list", home=tmp_path, url=edge.url)
            assert done.code == 0
            for word in ("(settings)", "mailer", "h:1", "works", "not serving", "not connected"):
                assert word in done.out, done.out
            lines = (await ended("notifiers", "list", "--json", home=tmp_path, url=edge.url)).lines
            assert lines[1] == {"event": "notifier", **MAILER}
            edge.answers["/v1/notifiers"] = (200, {"notifiers": []})
            done = await ended("notifiers", "list", home=tmp_path, url=edge.url)
            assert done.out == "No notifier is registered, and none is in the settings.\n"

    run(story())


def test_one_is_added_and_told_of_once_it_is_reached(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with scripted_edge() as edge:
            edge.answers["/v1/notifiers"] = (200, {"name": "mailer", "notifiers": [MAILER]})
            words = ("mailer", "h:1", "--channels", "mailto, tel", "--plain", "--server-name", "m")
            done = await ended("notifiers", "add", *words, home=tmp_path, url=edge.url)
            assert done.out == "mailer is registered at h:1, and serves mailto, tel\n"
            assert edge.requests[0] == (
                "/v1/notifiers",
                {},
                {
                    "name": "mailer", "address": "h:1", "plain": True, "serverName": "m",
                    "channels": ["mailto", "tel"],
                },
            )  # fmt: skip
            done = await ended("notifiers", "add", *words, "--json", home=tmp_path, url=edge.url)
            told = {"connected": True, "served": ["mailto", "tel"], "shadowed": [], "shadows": []}
            assert done.lines == [{"event": "added", "name": "mailer", **told}]

    run(story())


def test_who_gets_a_channel_that_two_serve_is_told_of_both(run: Run, tmp_path: Path) -> None:
    abe = MAILER | {"name": "abe", "address": "h:3"}
    zoe = MAILER | {"name": "zoe\x1b", "shadowed": [{"channel": "mailto", "by": "mailer"}]}
    mailer = MAILER | {"shadowed": [{"channel": "tel", "by": "abe"}]}

    async def story() -> None:
        async with scripted_edge() as edge:
            listed = [abe, mailer, zoe]
            edge.answers["/v1/notifiers"] = (200, {"name": "mailer", "notifiers": listed})
            done = await ended("notifiers", "list", home=tmp_path, url=edge.url)
            assert (
                "mailer is not used for tel: abe, before it in the list, gets it.\n"
                "zoe\ufffd is not used for mailto: mailer, before it in the list, gets it.\n"
            ) in done.out
            lines = (await ended("notifiers", "list", "--json", home=tmp_path, url=edge.url)).lines
            assert lines[1]["shadowed"] == [{"channel": "tel", "by": "abe"}]
            words = ("notifiers", "add", "mailer", "h:1")
            done = await ended(*words, home=tmp_path, url=edge.url)
            assert done.out.splitlines()[1:] == [
                "it is not used for tel: abe, before it in the list, gets that channel",
                "it gets mailto from now on, and zoe\ufffd, behind it in the list, does not",
            ]
            done = await ended(*words, "--json", home=tmp_path, url=edge.url)
            assert done.lines[0]["shadowed"] == [{"channel": "tel", "by": "abe"}]
            assert done.lines[0]["shadows"] == [{"channel": "mailto", "of": "zoe\x1b"}]
            words = ("notifiers", "add", "abe", "h:3")
            done = await ended(*words, home=tmp_path, url=edge.url)
            assert "it gets tel from now on, and mailer" in done.out

    run(story())


def test_who_gets_a_channel_because_the_first_is_not_ready_is_told_so(
    run: Run, tmp_path: Path
) -> None:
    first = MAILER | {"name": "abe", "shadowed": [{"channel": "tel", "by": "mailer"}]}

    async def story() -> None:
        async with scripted_edge() as edge:
            edge.answers["/v1/notifiers"] = (200, {"name": "x", "notifiers": [first, MAILER]})
            done = await ended("notifiers", "list", home=tmp_path, url=edge.url)
            said = "abe is not used for tel: mailer, which is ready while it is not, gets it.\n"
            assert said in done.out
            done = await ended("notifiers", "add", "mailer", "h:1", home=tmp_path, url=edge.url)
            assert done.out.splitlines()[1:] == [
                "it gets tel for now, and abe, which is not ready, does not"
            ]

    run(story())


def test_one_that_is_not_reached_is_told_so(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with scripted_edge() as edge:
            edge.answers["/v1/notifiers"] = (200, {"name": "mailer", "notifiers": []})
            done = await ended("notifiers", "add", "mailer", "h:1", home=tmp_path, url=edge.url)
            assert done.code == 0
            assert "not reached yet" in done.out

    run(story())


def test_one_is_removed(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with scripted_edge() as edge:
            edge.answers["/v1/notifiers/mailer"] = (200, {"removed": True})
            done = await ended("notifiers", "remove", "mailer", home=tmp_path, url=edge.url)
            assert (done.code, done.out) == (0, "mailer is registered no more\n")
            edge.answers["/v1/notifiers/mailer"] = (200, {"removed": False})
            done = await ended("notifiers", "remove", "mailer", home=tmp_path, url=edge.url)
            assert done.out == "no notifier is registered as mailer\n"
            args = ("notifiers", "remove", "mailer", "--json")
            done = await ended(*args, home=tmp_path, url=edge.url)
            assert done.lines == [{"event": "removed", "name": "mailer", "removed": False}]

    run(story())


def test_a_refusal_is_one_sentence_and_exit_code_1(run: Run, tmp_path: Path) -> None:
    refusal = {"code": "ARGUMENT_INVALID", "message": "An address is host:port."}

    async def story() -> None:
        async with scripted_edge() as edge:
            edge.answers["/v1/notifiers"] = (400, refusal)
            done = await ended("notifiers", "add", "mailer", "h", home=tmp_path, url=edge.url)
            assert (done.code, done.err) == (1, "ARGUMENT_INVALID: An address is host:port.\n")

    run(story())
