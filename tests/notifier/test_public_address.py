"""No way from an endpoint into the operator's network."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from services.notifier import public_address
from services.notifier.public_address import (
    LOOKUPS_MAX,
    Forbidden,
    PublicTransport,
    Resolver,
    is_public,
    resolve_public,
)

PRIVATE = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
    "169.254.169.254", "100.64.0.1", "192.0.0.1", "192.0.2.1", "198.18.0.1", "203.0.113.9",
    "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255",
    "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "fec0::1", "ff02::1", "100::1",
    "2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2002:a00:1::1",
    "2001:0:102:304::80ff:fffe", "not an address", "",
]  # fmt: skip
PUBLIC = ["8.8.8.8", "93.184.215.14", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_is_not_the_internets_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "0"],
)
def test_every_spelling_of_an_own_address_is_forbidden(run: Any, host: str) -> None:
    with pytest.raises(Forbidden):
        run(resolve_public(host, 443, allow_private=False))


def test_what_may_be_private_is_found(run: Any) -> None:
    assert run(resolve_public("127.0.0.1", 443, allow_private=True)) == "127.0.0.1"


def test_a_name_that_nobody_answers_for_takes_one_thread_however_many_ask(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go = threading.Event()
    asked = []

    def slow(host: str, *arguments: Any, **options: Any) -> Any:
        asked.append(host)
        if host == "slow.example":
            let_go.wait(20)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.215.14", 443))]

    async def body() -> None:
        resolver = Resolver()
        waiting = [
            asyncio.create_task(resolver.addresses("slow.example", 443))
            for _ in range(2 * LOOKUPS_MAX)
        ]
        await asyncio.sleep(0)
        waiting[0].cancel()  # Who goes away takes nobody along.
        assert await resolver.addresses("quick.example", 443) == ["93.184.215.14"]
        let_go.set()
        found = await asyncio.gather(*waiting[1:])
        assert found == [["93.184.215.14"]] * (2 * LOOKUPS_MAX - 1)
        assert asked == ["slow.example", "quick.example"]
        await resolver.addresses("slow.example", 443)
        assert len(asked) == 3, "an answer is not kept"
        resolver.close()

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    run(body())


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "host.invalid", "x..y"])
def test_a_name_that_leads_nowhere_is_an_os_error(run: Any, host: str) -> None:
    with pytest.raises(OSError, match=r".+"):
        run(resolve_public(host, 443, allow_private=False))


def named(*addresses: str) -> Callable[..., list[Any]]:
    """A resolver that gives these for every name, and counts how often it was asked."""

    def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in addresses]

    asked: list[str] = []
    getaddrinfo.asked = asked  # type: ignore[attr-defined]
    return getaddrinfo


def test_one_private_address_among_public_ones_forbids_the_host(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(public_address.socket, "getaddrinfo", named("8.8.8.8", "10.0.0.1"))
    with pytest.raises(Forbidden):
        run(resolve_public("mixed.example", 443, allow_private=False))


@asynccontextmanager
async def listening() -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server on 127.0.0.1 that answers 204, and the heads of the requests it got."""
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
            await writer.drain()
        except asyncio.IncompleteReadError:
            heads.append(b"")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], heads
    finally:
        server.close()
        await server.wait_closed()


async def get(url: str, allow_private: bool) -> int:
    transport = PublicTransport(allow_private)
    async with httpx.AsyncClient(transport=transport, trust_env=False) as client:
        return (await client.get(url)).status_code


def test_nothing_is_connected_that_is_forbidden(run: Any) -> None:
    async def body() -> None:
        async with listening() as (port, heads):
            for host in ("127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]"):
                with pytest.raises(Forbidden):
                    await get(f"http://{host}:{port}/", allow_private=False)
            assert heads == []

    run(body())


def test_the_address_that_was_looked_at_is_the_one_that_is_connected_to(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        async with listening() as (port, heads):
            resolver = named("127.0.0.1")
            monkeypatch.setattr(public_address.socket, "getaddrinfo", resolver)
            assert await get(f"http://push.example:{port}/", allow_private=True) == 204
            # The name was looked up once, and the server still hears the name.
            assert resolver.asked == ["push.example"]  # type: ignore[attr-defined]
            assert f"Host: push.example:{port}".encode() in heads[0]

    run(body())


def test_an_address_that_does_not_answer_is_followed_by_the_next(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        async with listening() as (port, _):
            monkeypatch.setattr(
                public_address.socket, "getaddrinfo", named("127.0.0.77", "127.0.0.1")
            )
            assert await get(f"http://push.example:{port}/", allow_private=True) == 204

    run(body())


def test_a_name_that_is_not_found_counts_as_not_connected(run: Any) -> None:
    with pytest.raises(httpx.ConnectError):
        run(get("http://host.invalid/", allow_private=False))


def test_names_that_nobody_answers_for_are_given_up(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go = threading.Event()

    def silent(*_: Any, **__: Any) -> list[Any]:
        let_go.wait(20)
        return []

    monkeypatch.setattr(public_address, "LOOKUP_S", 0.1)
    monkeypatch.setattr(public_address.socket, "getaddrinfo", silent)
    try:
        with pytest.raises(httpx.ConnectError):
            run(get("http://silent.example/", allow_private=False))
    finally:
        let_go.set()
