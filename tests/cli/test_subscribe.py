"""`onward subscribe` as a process, against an edge whose answers the tests write."""

import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from tests.cli.commands import Running, ended, started
from tests.sdk.scripted_edge import ScriptedEdge, scripted_edge

Run = Callable[[Coroutine[Any, Any, None]], None]

ANN = ("subscribe", "/a", "--user", "ann", "--json")


def state(seq: int, recovered: bool | None = None) -> dict[str, Any]:
    asked = {} if recovered is None else {"recovered": recovered}
    return {"subject": "/a", "seq": str(seq)} | asked


def test_messages_are_printed_kept_and_acknowledged_at_once(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with scripted_edge() as edge:
            options = ("--client-id", "ann-1", "--external-token", "mailto:ann@example.org")
            async with started(*ANN, *options, home=tmp_path, url=edge.url) as command:
                visit = await edge.visit()
                connect = await visit.accept(state(4))
                assert visit.user == "ann"
                assert connect["clientId"] == "ann-1"
                assert connect["acknowledges"] == "EXPLICIT"
                assert connect["externalTokens"] == [{"uri": "mailto:ann@example.org"}]
                assert connect["subscriptions"] == {"list": [{"subject": "/a"}]}
                assert (await command.event("connected"))["clientId"] == "ann-1"
                assert (await command.event("subscribed"))["seq"] == 4
                await visit.message("/a", 5, text="héllo")
                printed = await command.event("message")
                assert printed == {
                    "event": "message",
                    "subject": "/a",
                    "seq": 5,
                    "kind": "LIVE",
                    "publisher": "bob",
                    "text": "héllo",
                    "contentType": "",
                    "headers": {},
                    "acceptedAt": "2026-11-22T12:00:00Z",
                    "epoch": 1,
                }
                ack = await visit.next("ack")
                assert ack == {"ack": {"positions": [{"subject": "/a", "seq": "5"}]}}
                command.process.send_signal(signal.SIGTERM)
                assert await visit.end() == 1000
                assert (await command.end()).code == 0

    run(story())


def test_a_killed_one_goes_on_as_the_same_client_where_it_was(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with scripted_edge() as edge:
            async with started(*ANN, home=tmp_path, url=edge.url) as command:
                visit = await edge.visit()
                first = await visit.accept(state(4), generation="3")
                await visit.message("/a", 5)
                await visit.next("ack")
                command.process.kill()
                await command.end()
            async with started(*ANN, home=tmp_path, url=edge.url) as command:
                visit = await edge.visit()
                second = await visit.accept(state(7, recovered=True))
                assert second["clientId"] == first["clientId"]
                assert (second["lastGeneration"], second["logId"]) == ("3", "log-1")
                assert second["subscriptions"] == {"list": [{"subject": "/a", "afterSeq": "5"}]}
                for seq in (6, 7):
                    await visit.message("/a", seq, "RECOVERED")
                await visit.send({"synced": {"subject": "/a", "seq": "7"}})
                assert [(await command.event("message"))["seq"] for _ in "67"] == [6, 7]
                synced = await command.event("synced")
                assert synced == {"event": "synced", "subject": "/a", "seq": 7, "recovered": 2}

    run(story())


def test_it_reconnects_by_itself_and_tells_of_it(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with (
            scripted_edge() as edge,
            started(*ANN, home=tmp_path, url=edge.url) as command,
        ):
            await command_reconnects(edge, command)

    async def command_reconnects(edge: ScriptedEdge, command: Running) -> None:
        visit = await edge.visit()
        await visit.accept(state(4))
        await visit.cut()
        assert (await command.event("disconnected"))["willRetry"] is True
        visit = await edge.visit()
        await visit.accept(state(9, recovered=False) | {"reason": "TRIMMED"})
        gap = await command.event("gap")
        assert (gap["fromSeq"], gap["toSeq"], gap["reason"]) == (5, 9, "TRIMMED")

    run(story())


def test_after_history_and_snapshot_say_where_to_begin(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with scripted_edge() as edge:
            for option, start in (
                (("--after", "2"), {"afterSeq": "2"}),
                (("--history", "2"), {"history": 2}),
                (("--snapshot",), {"snapshot": True}),
            ):
                async with started(*ANN, *option, home=tmp_path, url=edge.url):
                    visit = await edge.visit()
                    connect = await visit.accept(state(9, recovered=True))
                    assert connect["subscriptions"] == {"list": [{"subject": "/a"} | start]}
            both = await ended(*ANN, "--after", "1", "--snapshot", home=tmp_path)
            assert both.code == 2

    run(story())


def test_a_refusal_is_a_sentence_and_code_1(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with scripted_edge() as edge:
            async with started(*ANN[:-1], home=tmp_path, url=edge.url) as command:
                visit = await edge.visit()
                frame = await visit.next("connect")
                error = {"code": "SUBJECT_FORBIDDEN", "message": "Not for you."}
                await visit.send({"id": frame["id"], "error": error})
                result = await command.end()
            assert result.code == 1
            assert result.err == "SUBJECT_FORBIDDEN: Not for you.\n"

    run(story())


def test_for_people_there_are_columns_without_control_characters(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with scripted_edge() as edge:
            people = ANN[:-1]
            async with started(*people, home=tmp_path, url=edge.url) as command:
                visit = await edge.visit()
                await visit.accept(state(4))
                await visit.message("/a", 5, text="one\x1b[31m\ntwo")
                await visit.next("ack")
                command.process.send_signal(signal.SIGINT)
                result = await command.end()
            assert result.code == 0
            assert result.out.split() == ["5", "LIVE", "bob", "one\ufffd[31m", "two"]
            assert result.out.count("\n") == 1

    run(story())


def test_nobody_there_is_a_sentence_with_the_remedy(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        result = await ended(*ANN, home=tmp_path, url="http://127.0.0.1:1")
        assert result.code == 1
        assert "http://127.0.0.1:1 cannot be reached" in result.err
        assert "onward up" in result.err

    run(story())
