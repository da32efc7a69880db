"""The plugin as a process, by gRPC."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from onward.notifier.v1 import notifier_pb2, notifier_pb2_grpc

FOLDER = Path(__file__).parents[1]
SECRET = "0123456789abcdef"
SHOWN = (("authorization", f"Bearer {SECRET}"),)
Result = notifier_pb2.Result


def start(**environ: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "notifier.py"],
        cwd=FOLDER,
        env={"PATH": os.environ["PATH"], "ONWARD_PLUGIN_LISTEN": "127.0.0.1:0"} | environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def channel() -> Iterator[grpc.Channel]:
    process = start(ONWARD_SECRET=SECRET)
    assert process.stdout is not None
    with grpc.insecure_channel(process.stdout.readline().split()[-1]) as connection:
        yield connection
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    assert "a private title" not in errors


@pytest.fixture
def stub(channel: grpc.Channel) -> notifier_pb2_grpc.NotifierServiceStub:
    return notifier_pb2_grpc.NotifierServiceStub(channel)


def notify(stub, *endpoints: str, metadata=SHOWN, timeout: float = 10) -> list[int]:
    request = notifier_pb2.NotifyRequest()
    for number, endpoint in enumerate(endpoints):
        request.deliveries.add(
            delivery_id=f"{endpoint}{number}", endpoint=endpoint, title="a private title"
        )
    answer = stub.Notify(request, metadata=metadata, timeout=timeout)
    return [one.outcome for one in answer.results]


def test_it_sends_and_says_what_became_of_each(stub) -> None:
    answers = notify(stub, "example:1", "example:gone", "example:busy", "pigeon:1")
    assert answers == [
        Result.ACCEPTED, Result.ENDPOINT_GONE, Result.RETRY, Result.REJECTED_MESSAGE
    ]  # fmt: skip


@pytest.mark.parametrize("shown", ["", "Bearer wrong", f"Bearer {SECRET}x"])
def test_it_refuses_who_does_not_show_the_secret(stub, shown: str) -> None:
    with pytest.raises(grpc.RpcError) as error:
        notify(stub, "example:1", metadata=(("authorization", shown),))
    assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("size", [0, 101])
def test_a_batch_out_of_bounds_is_refused(stub, size: int) -> None:
    with pytest.raises(grpc.RpcError) as error:
        notify(stub, *["example:1"] * size)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_the_answer_comes_before_the_deadline(stub) -> None:
    answers = notify(stub, "example:slow", "example:2", timeout=2)
    assert answers == [Result.UNKNOWN, Result.ACCEPTED]


def test_health_says_serving(channel: grpc.Channel) -> None:
    request = health_pb2.HealthCheckRequest()
    answer = health_pb2_grpc.HealthStub(channel).Check(request, metadata=SHOWN, timeout=5)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({}, "ONWARD_SECRET is not set"),
        ({"ONWARD_SECRET": "short"}, "shorter than 16"),
        ({"ONWARD_PLUGIN_TLS_CA_FILE": "ca.pem"}, "set all three, or none"),
    ],
)
def test_wrong_settings_stop_the_start_with_a_sentence(environ, words: str) -> None:
    process = start(**environ)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert words in errors
    assert len(errors.splitlines()) == 1
