"""Calls between a real server and real channels: certificates that fit, and some that do not."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from services.chassis import tls
from services.chassis.channel import credentials, open_channel
from services.chassis.server import Server
from services.chassis.tls import Certificates, Trust
from tests.certificates import Authority, Files

SECRET = "a secret of sixteen or more"
REFUSED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED)


@pytest.fixture(autouse=True)
def looked_at_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "LOOKED_AT_EVERY_S", 0)


def trust(files: Files, secret: str = "", name: str = "") -> Trust:
    return Trust(secret, Certificates(files.environ("edge"), name))


@asynccontextmanager
async def serving(trusted: Trust) -> AsyncIterator[str]:
    server = Server("127.0.0.1:0", trusted, [])
    await server.start()
    try:
        yield f"127.0.0.1:{server.port}"
    finally:
        await server.drain(0)


async def ask(channel: grpc.aio.Channel) -> None:
    await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)


async def call(address: str, trusted: Trust | str | None) -> None:
    async with open_channel(address, trusted) as channel:
        await ask(channel)


async def refused(address: str, trusted: Trust | str | None) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call(address, trusted)
    assert raised.value.code() in REFUSED
    return raised.value.code()


async def answers(channel: grpc.aio.Channel, trusted: Trust) -> int:
    """How many answers a stream brings."""
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    stream = stub.ServerReflectionInfo(iter([request]), metadata=credentials(trusted), timeout=10)
    return len([one async for one in stream])


def test_who_shows_a_certificate_of_the_ca_may_call_and_stream(run: Any, tmp_path: Path) -> None:
    async def claim() -> None:
        authority = Authority(tmp_path)
        ours, theirs = trust(authority.sign("one")), trust(authority.sign("two"))
        async with serving(theirs) as address, open_channel(address, ours) as channel:
            await ask(channel)
            assert await answers(channel, ours) == 1

    run(claim())


def test_strangers_are_refused_before_any_call(run: Any, tmp_path: Path) -> None:
    async def claim() -> None:
        authority = Authority(tmp_path / "ours")
        stranger = trust(Authority(tmp_path / "other").sign())
        async with serving(trust(authority.sign())) as address:
            assert await refused(address, stranger) is grpc.StatusCode.UNAVAILABLE
            assert await refused(address, SECRET) is grpc.StatusCode.UNAVAILABLE
            ca = grpc.ssl_channel_credentials(authority.file.read_bytes())
            async with grpc.aio.secure_channel(address, ca) as without_certificate:
                with pytest.raises(grpc.aio.AioRpcError) as raised:
                    await ask(without_certificate)
                assert raised.value.code() is grpc.StatusCode.UNAVAILABLE

    run(claim())


def test_a_server_of_another_ca_is_not_told_anything(run: Any, tmp_path: Path) -> None:
    async def claim() -> None:
        ours = trust(Authority(tmp_path / "ours").sign())
        async with serving(trust(Authority(tmp_path / "other").sign())) as address:
            assert await refused(address, ours) is grpc.StatusCode.UNAVAILABLE
        async with serving(Trust(SECRET)) as plain:
            assert await refused(plain, ours) is grpc.StatusCode.UNAVAILABLE

    run(claim())


def test_where_both_are_set_the_secret_is_asked_for_too(run: Any, tmp_path: Path) -> None:
    async def claim() -> None:
        files = Authority(tmp_path).sign()
        async with serving(trust(files, SECRET)) as address:
            await call(address, trust(files, SECRET))
            for secret in ("", "another secret of sixteen"):
                code = await refused(address, trust(files, secret))
                assert code is grpc.StatusCode.UNAUTHENTICATED

    run(claim())


def test_a_server_must_be_who_was_called_or_have_the_name_that_is_set(
    run: Any, tmp_path: Path
) -> None:
    async def claim() -> None:
        authority = Authority(tmp_path)
        elsewhere = authority.sign("elsewhere", hosts=("10.0.0.1", "onward-services"))
        async with serving(trust(elsewhere)) as address:
            assert await refused(address, trust(elsewhere)) is grpc.StatusCode.UNAVAILABLE
            await call(address, trust(elsewhere, name="onward-services"))
            await refused(address, trust(elsewhere, name="another"))

    run(claim())


def test_renewed_files_are_shown_and_asked_for_without_a_restart(run: Any, tmp_path: Path) -> None:
    async def claim() -> None:
        former, later = Authority(tmp_path / "former"), Authority(tmp_path / "later")
        files, renewed, kept = former.sign("ours"), later.sign(), former.sign("kept")
        former_ca = tmp_path / "former-ca.pem"
        former_ca.write_bytes(former.file.read_bytes())
        ours = trust(files)
        async with serving(ours) as address, open_channel(address, ours) as channel:
            await ask(channel)
            stub = health_pb2_grpc.HealthStub(channel)
            watch = stub.Watch(health_pb2.HealthCheckRequest())
            await watch.read()
            renewed.ca.replace(files.ca)
            renewed.key.replace(files.key)
            renewed.cert.replace(files.cert)
            # The same channel and the same server, now with certificates of the later CA alone.
            await ask(channel)
            assert await answers(channel, ours) == 1
            # What was under way goes on.
            assert not watch.done()
            watch.cancel()
            stranger = trust(Files(former_ca, kept.cert, kept.key))
            assert await refused(address, stranger) is grpc.StatusCode.UNAVAILABLE

    run(claim())


def test_one_server_may_have_a_name_of_its_own(run: Any, tmp_path: Path) -> None:
    async def claim() -> None:
        authority = Authority(tmp_path)
        theirs = trust(authority.sign("plugin", hosts=("mailer.example.org",)))
        # Also where another name is set for all others.
        ours = trust(authority.sign("presence"), name="services.example.org")
        async with serving(theirs) as address:
            await refused(address, ours)
            async with open_channel(address, ours, "mailer.example.org") as channel:
                await ask(channel)

    run(claim())
