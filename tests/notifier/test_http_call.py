"""One request and its four ends."""

import asyncio
import gzip
import socket
from typing import Any

import httpx
import pytest

from services.notifier.http_call import (
    ANSWER_BYTES_MAX,
    Answer,
    Broken,
    NotConnected,
    Timeouts,
    no_cookies,
    post,
)
from tests.notifier.provider import LOST, SILENT, Provider


async def ask(url: str, **timeouts: float) -> Answer:
    async with httpx.AsyncClient(cookies=no_cookies()) as client:
        return await post("test", client, url, b"hi", {"x-y": "z"}, Timeouts(**timeouts))


def test_an_answer_is_its_status_its_headers_and_its_body(run: Any) -> None:
    with Provider() as provider:
        provider.answer(418, "short", {"x-a": "b"})
        answer = run(ask(provider.url))
        assert (answer.status, answer.headers["x-a"], answer.body) == (418, "b", b"short")
        (got,) = provider.requests
        assert (got.method, got.headers["x-y"], got.body) == ("POST", "z", b"hi")


def test_of_a_long_answer_the_beginning_is_read(run: Any) -> None:
    with Provider() as provider:
        provider.answer(200, b"x" * 3_000_000)
        assert run(ask(provider.url)).body == b"x" * ANSWER_BYTES_MAX


def test_an_answer_that_is_compressed_all_the_same_does_not_swell(run: Any) -> None:
    with Provider() as provider:
        packed = gzip.compress(b"\0" * 10_000_000)
        provider.answer(200, packed, {"content-encoding": "gzip"})
        assert run(ask(provider.url)).body == packed[:ANSWER_BYTES_MAX]
        assert provider.requests[0].headers["accept-encoding"] == "identity"


def test_where_nobody_listens_nothing_was_sent(run: Any) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(NotConnected) as raised:
            run(ask(f"http://127.0.0.1:{closed.getsockname()[1]}/"))
        assert not raised.value.untrusted


@pytest.mark.parametrize("status", [LOST, SILENT])
def test_what_ends_after_the_request_is_broken(run: Any, status: int) -> None:
    with Provider() as provider:
        provider.answer(status)
        with pytest.raises(Broken):
            run(ask(provider.url, answer_s=0.3))
        assert len(provider.requests) == 1


def test_a_body_that_is_cut_off_leaves_the_status(run: Any) -> None:
    async def body() -> Answer:
        async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"hi")
            writer.write(b"HTTP/1.1 503 X\r\ncontent-length: 100\r\n\r\nhalf")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(half, "127.0.0.1", 0)
        async with server:
            return await ask(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")

    assert run(body()).status == 503


def test_what_is_no_http_is_broken(run: Any) -> None:
    async def body() -> None:
        async def odd(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 smtp.example.org ESMTP\r\n")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(odd, "127.0.0.1", 0)
        async with server:
            with pytest.raises(Broken):
                await ask(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")

    run(body())
