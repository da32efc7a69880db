"""The process as an operator starts it."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from onward.notifier.v1 import notifier_pb2, notifier_pb2_grpc

from services.chassis.channel import open_channel
from services.notifier.__main__ import build
from services.notifier.results import Result
from tests.notifier.deliveries import delivery, message
from tests.notifier.fake_apns import FakeApns
from tests.notifier.fake_fcm import FakeFcm, error, fcm_error
from tests.notifier.mail_server import Mailbox, running
from tests.notifier.push_server import PushServer
from tests.notifier.test_settings import settings
from tests.notifier.test_vapid import RAW

ROOT = Path(__file__).parents[2]
SECRET = "s" * 16
COMMAND = [sys.executable, "-m", "services.notifier"]


def environ(**variables: str) -> dict[str, str]:
    path = f"{ROOT}:{ROOT / 'gen'}"
    return {"PATH": os.environ["PATH"], "PYTHONPATH": path, "ONWARD_SECRET": SECRET, **variables}


def test_without_a_mail_server_the_console_serves_everything() -> None:
    assert [p.name for p in build(settings())] == ["console"]
    assert [p.name for p in build(settings(ONWARD_SMTP_URL="smtp://127.0.0.1:25"))] == [
        "email",
        "console",
    ]


APPLE = {
    "ONWARD_APNS_KEY_ID": "ABC123DEFG",
    "ONWARD_APNS_TEAM_ID": "TEAM123456",
    "ONWARD_APNS_TOPIC": "org.example.chat",
}
TWILIO = {
    "ONWARD_TWILIO_ACCOUNT_SID": "AC" + "0a" * 16,
    "ONWARD_TWILIO_AUTH_TOKEN": "hidden-token",
    "ONWARD_TWILIO_FROM": "+15005550006",
}
WEBHOOK = {"ONWARD_WEBHOOK_SECRETS": "whsec_" + "bmV3" * 8}


def test_each_channel_is_served_once_it_is_set_up(tmp_path: Path) -> None:
    key = tmp_path / "key.p8"
    key.write_text(FakeApns(tmp_path).key)
    made = build(settings(ONWARD_APNS_KEY_FILE=str(key), **APPLE, **TWILIO, **WEBHOOK))
    assert [p.name for p in made] == ["apns", "sms", "webhook", "console"]
    assert [p.name for p in build(settings(ONWARD_NOTIFIER_CONSOLE="false", **WEBHOOK))] == [
        "webhook"
    ]


def test_fcm_and_web_push_are_served_where_they_are_set_up(tmp_path: Path) -> None:
    with FakeFcm() as fake:
        variables = {
            "ONWARD_FCM_CREDENTIALS": str(fake.credentials(tmp_path)),
            "ONWARD_FCM_URL": fake.url,
            "ONWARD_WEBPUSH_VAPID_KEY": RAW,
            "ONWARD_WEBPUSH_SUBJECT": "mailto:ops@example.org",
        }
        assert [p.name for p in build(settings(**variables))] == ["fcm", "webpush", "console"]


def test_without_the_console_only_email_is_served() -> None:
    mail = {"ONWARD_SMTP_URL": "smtp://127.0.0.1:25", "ONWARD_NOTIFIER_CONSOLE": "false"}
    assert [p.name for p in build(settings(**mail))] == ["email"]


@pytest.mark.parametrize(
    "variables",
    [
        {"ONWARD_NOTIFIER_CONSOLE": "false"},
        {"ONWARD_SMTP_URL": "http://:hunter2@x"},
        {"ONWARD_SMTP_FROM": "nobody"},
        {"ONWARD_FCM_CREDENTIALS": "/no/such/file"},
        {"ONWARD_WEBPUSH_VAPID_KEY": "hunter2", "ONWARD_WEBPUSH_SUBJECT": "mailto:a@b.example"},
        {"ONWARD_WEBPUSH_VAPID_KEY": RAW},
        {"ONWARD_NOTIFIER_LISTEN": "127.0.0.1:99999"},
        {"ONWARD_NOTIFIER_LISTN": "127.0.0.1:0"},
        {"ONWARD_SECRET": ""},
    ],
)
def test_a_wrong_setting_is_one_sentence_and_code_2(variables: dict[str, str]) -> None:
    ended = subprocess.run(
        COMMAND, env=environ(**variables), capture_output=True, text=True, timeout=20
    )
    assert ended.returncode == 2
    sentences = [row for row in ended.stderr.splitlines() if not row.startswith(("E0000", "I0000"))]
    assert len(sentences) == 1
    assert "Traceback" not in ended.stderr
    assert "hunter2" not in ended.stderr


def test_it_serves_mails_prints_and_stops_on_sigterm(run: Any) -> None:
    async def body() -> None:
        async with running(Mailbox()) as mailbox:
            process = await asyncio.create_subprocess_exec(
                *COMMAND,
                env=environ(ONWARD_SMTP_URL=f"smtp://127.0.0.1:{mailbox.port}"),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            assert process.stderr
            assert process.stdout
            row = (await process.stderr.readline()).decode()
            port = re.search(r"port=(\d+)", row)
            assert port, row
            async with open_channel(f"127.0.0.1:{port[1]}", SECRET) as channel:
                stub = notifier_pb2_grpc.NotifierServiceStub(channel)
                told = await stub.Describe(notifier_pb2.DescribeRequest())
                assert told.name == "notifier"
                answer = await stub.Notify(
                    notifier_pb2.NotifyRequest(
                        deliveries=[
                            delivery(message("by mail"), delivery_id="a"),
                            delivery(message("by console"), delivery_id="b", endpoint="tel:+1"),
                        ]
                    )
                )
                assert {r.outcome for r in answer.results} == {Result.ACCEPTED}
            assert b"by console" in await process.stdout.readline()
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
            log = (await process.stderr.read()).decode()
            assert "by mail" not in log
            assert "by console" not in log
            assert len(mailbox.received) == 1

    run(body())


def test_the_process_sends_by_fcm_and_web_push_and_logs_neither(run: Any, tmp_path: Path) -> None:
    async def body(fcm: FakeFcm, push: PushServer) -> None:
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            env=environ(
                ONWARD_LOG_LEVEL="debug",
                ONWARD_FCM_CREDENTIALS=str(fcm.credentials(tmp_path)),
                ONWARD_FCM_URL=fcm.url,
                ONWARD_WEBPUSH_VAPID_KEY=RAW,
                ONWARD_WEBPUSH_SUBJECT="mailto:ops@example.org",
                ONWARD_NOTIFIER_ALLOW_PRIVATE_ADDRESSES="true",
                ONWARD_NOTIFIER_CONSOLE="false",
            ),
            stderr=subprocess.PIPE,
        )
        assert process.stderr
        row, told = "", []
        while "port=" not in row:
            row = (await process.stderr.readline()).decode()
            told.append(row)
        push.sender = re.findall(r"application_server_key=(\S+)", "".join(told))[0]
        fcm.answer(404, error(404, "NOT_FOUND", fcm_error("UNREGISTERED")).body)
        async with open_channel(
            "127.0.0.1:" + re.findall(r"port=(\d+)", row)[0], SECRET
        ) as channel:
            stub = notifier_pb2_grpc.NotifierServiceStub(channel)
            answer = await stub.Notify(
                notifier_pb2.NotifyRequest(
                    deliveries=[
                        delivery(message("canary"), delivery_id=str(number), endpoint=endpoint)
                        for number, endpoint in enumerate([push.subscribe(), "webpush:e30"])
                    ]
                )
            )
            outcomes = {r.delivery_id: r.outcome for r in answer.results}
            assert outcomes == {"0": Result.ACCEPTED, "1": Result.REJECTED_MESSAGE}
            assert push.received[0].payload["body"] == "canary"
            for endpoint, outcome in (
                ("fcm:device-1", Result.ENDPOINT_GONE),  # scripted
                ("fcm:device-2", Result.ACCEPTED),
            ):
                made = delivery(message("canary"), delivery_id=endpoint, endpoint=endpoint)
                answer = await stub.Notify(notifier_pb2.NotifyRequest(deliveries=[made]))
                assert answer.results[0].outcome == outcome
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
        log = "".join(told) + (await process.stderr.read()).decode()
        for word in ("canary", "device-", "wpush", push.url, fcm.url, "ya29", "eyJ"):
            assert word not in log, word

    with FakeFcm() as fcm, PushServer() as push:
        run(body(fcm, push))
