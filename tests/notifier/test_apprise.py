"""Apprise: the real library, sending to a real HTTP server by its `json://` service."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from onward.notifier.v1 import notifier_pb2, notifier_pb2_grpc

from services.chassis.channel import open_channel
from services.chassis.errors import SettingError
from services.notifier.apprise import Apprise, senders_of
from services.notifier.apprise_settings import targets
from services.notifier.results import Result
from tests.notifier.deliveries import Delivery, delivery, message
from tests.notifier.http_double import Answer, HttpDouble
from tests.notifier.test_main import ROOT, SECRET, environ
from tests.waiting import until

HIDDEN = "hidden-key"


@pytest.fixture
def service() -> Iterator[HttpDouble]:
    with HttpDouble() as made:
        yield made


def url_of(service: HttpDouble) -> str:
    return service.url.replace("http://", "json://") + f"/{HIDDEN}"


def plugin(service: HttpDouble, **options: Any) -> Apprise:
    return Apprise(senders_of({"ops": url_of(service)}), **options)


def post(endpoint: str = "apprise:ops", **fields: Any) -> Delivery:
    made = delivery(message("hi"), endpoint=endpoint)
    made.MergeFrom(Delivery(title="From bob", body="hi", **fields))
    return made


def test_a_target_gets_title_text_and_url(run: Any, service: HttpDouble) -> None:
    result = run(plugin(service).send(post(url="https://example.org/1")))
    assert (result.outcome, result.provider_id) == (Result.ACCEPTED, "")
    told = json.loads(service.requests[0].body)
    assert (told["title"], told["message"]) == ("From bob", "hi\nhttps://example.org/1")


@pytest.mark.parametrize("status", [400, 404, 410, 500, 503])
def test_a_no_leaves_the_outcome_unknown_and_nothing_is_ever_gone(
    run: Any, service: HttpDouble, status: int
) -> None:
    service.answer(Answer(status))
    assert run(plugin(service).send(post())).outcome == Result.UNKNOWN
    assert len(service.requests) == 1


def test_one_of_several_rooms_that_says_no_does_not_make_the_others_get_it_twice(
    run: Any, service: HttpDouble
) -> None:
    both = senders_of({"a": url_of(service), "b": url_of(service)})
    made = Apprise({"ops": lambda title, body: all(send(title, body) for send in both.values())})
    service.answer(Answer(200))
    service.answer(Answer(500))
    assert run(made.send(post())).outcome == Result.UNKNOWN
    assert len(service.requests) == 2
    assert not made.channels[0].repeats_unknown


def test_what_is_unknown_is_repeated_only_where_the_operator_wants_it(service: HttpDouble) -> None:
    assert [one.repeats_unknown for one in plugin(service).channels] == [False]
    assert [one.repeats_unknown for one in plugin(service, repeats=True).channels] == [True]


@pytest.mark.parametrize("name", ["", "other", "json://127.0.0.1/", "../ops", "OPS"])
def test_a_name_the_operator_did_not_give_is_refused(
    run: Any, service: HttpDouble, name: str
) -> None:
    result = run(plugin(service).send(post(f"apprise:{name}")))
    assert result.outcome == Result.REJECTED_MESSAGE
    assert not service.requests


def test_a_service_that_hangs_holds_its_thread_and_nothing_else(
    run: Any, service: HttpDouble
) -> None:
    async def body() -> None:
        made = plugin(service, threads=1, send_s=0.2)
        service.answer(Answer(before_s=1))
        assert (await made.send(post())).outcome == Result.UNKNOWN
        assert (await made.send(post())).outcome == Result.RETRY
        assert len(service.requests) == 1, "what nobody could begin did not wait in a queue"

        async def again() -> bool:
            return (await made.send(post())).outcome == Result.ACCEPTED

        await until(again)
        await made.close()

    run(body())


def test_a_library_that_raises_costs_one_delivery(run: Any) -> None:
    def bug(title: str, body: str) -> bool:
        raise KeyError(title)

    async def claim() -> None:
        made = Apprise({"ops": bug}, threads=1)
        for _ in range(3):
            with pytest.raises(KeyError):
                await made.send(post())
        await made.close()

    run(claim())


def test_a_file_names_targets(tmp_path: Path) -> None:
    path = tmp_path / "targets"
    path.write_text("# ours\n\nops = json://127.0.0.1/x?a=b\n  on-call-2=ntfys://host/topic \n")
    assert targets(str(path), ()) == {
        "ops": "json://127.0.0.1/x?a=b",
        "on-call-2": "ntfys://host/topic",
    }


@pytest.mark.parametrize(
    ("text", "schemes", "told"),
    [
        ("", (), "0 targets"),
        ("ops json://hidden-key", (), "line 1"),
        ("ops = hidden-key", (), "line 1"),
        ("Ops = json://hidden-key/", (), "line 1"),
        ("a = json://x/\na = json://hidden-key/", (), "line 2"),
        ("a = json://x/\nb = file://hidden-key/", ("json", "slack"), "line 2"),
    ],
)
def test_a_wrong_line_is_named_and_not_quoted(
    tmp_path: Path, text: str, schemes: tuple[str, ...], told: str
) -> None:
    path = tmp_path / "targets"
    path.write_text(text)
    with pytest.raises(SettingError, match=told) as raised:
        targets(str(path), schemes)
    assert HIDDEN not in str(raised.value)


def test_a_file_that_is_not_there_or_no_text_is_said(tmp_path: Path) -> None:
    (tmp_path / "odd").write_bytes(b"\xff\xfe\x00")
    for name in ("absent", "odd"):
        with pytest.raises(SettingError, match="cannot be read"):
            targets(str(tmp_path / name), ())


def test_a_url_that_apprise_does_not_take_names_its_target() -> None:
    with pytest.raises(SettingError, match="target ops") as raised:
        senders_of({"ops": "nonsense://hidden-key"})
    assert HIDDEN not in str(raised.value)


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(SettingError, match=r"onward\[apprise\]"):
        senders_of({"ops": "json://127.0.0.1/"})


COMMAND = [sys.executable, "-m", "services.notifier.apprise"]


def test_without_a_file_it_does_not_start() -> None:
    ended = subprocess.run(
        COMMAND, env=environ(), cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("ONWARD_APPRISE_TARGETS_FILE is not set")


def test_the_process_serves_its_channel_and_logs_no_url(
    run: Any, service: HttpDouble, tmp_path: Path
) -> None:
    path = tmp_path / "targets"
    path.write_text(f"ops = {url_of(service)}\n")

    async def body() -> None:
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            env=environ(ONWARD_APPRISE_TARGETS_FILE=str(path), ONWARD_LOG_LEVEL="debug"),
            cwd=ROOT,
            stderr=subprocess.PIPE,
        )
        assert process.stderr
        row = (await process.stderr.readline()).decode()
        port = re.search(r"port=(\d+)", row)
        assert port, row
        async with open_channel(f"127.0.0.1:{port[1]}", SECRET) as channel:
            stub = notifier_pb2_grpc.NotifierServiceStub(channel)
            told = await stub.Describe(notifier_pb2.DescribeRequest())
            assert (told.name, [c.scheme for c in told.channels]) == ("apprise", ["apprise"])
            assert not told.channels[0].repeats_unknown
            service.answer(Answer(500, b"hidden-answer"))
            first = post()
            second = post()
            second.delivery_id = "f" * 32
            outcomes = []
            for one in (first, second):
                answer = await stub.Notify(notifier_pb2.NotifyRequest(deliveries=[one]))
                outcomes += [result.outcome for result in answer.results]
            assert outcomes == [Result.UNKNOWN, Result.ACCEPTED]
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
        log = row + (await process.stderr.read()).decode()
        assert "hidden" not in log
        assert "From bob" not in log

    run(body())
    assert os.environ.get("ONWARD_APPRISE_TARGETS_FILE") is None
