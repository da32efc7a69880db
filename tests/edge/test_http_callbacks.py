"""Requests of providers: handed on as they came, within bounds, and answered as the plugin says."""

import asyncio
from typing import Any

import aiohttp
import pytest
from onward.notifier.v1 import notifier_pb2
from onward.presence.v1 import deliveries_pb2 as pb

from services.chassis.refusals import Code, refuse
from services.edge import http_callbacks
from services.edge.http_callbacks import CallbackLimits
from services.edge.rates import RateLimits
from tests.edge.door import Door, open_door, run_on_uvloop
from tests.waiting import until

PATH = "/v1/callbacks/sms"
PUBLIC = CallbackLimits("https://push.example.org/")


async def call(
    door: Door, method: str = "POST", path: str = PATH, **options: Any
) -> tuple[int, bytes, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, door.url + path, **options) as response,
    ):
        return response.status, await response.read(), response.headers


def asked(door: Door) -> notifier_pb2.HandleCallbackRequest:
    [(method, request)] = door.backend.delivery_calls
    assert (method, request.plugin) == ("ForwardCallback", "sms")
    return request.callback


def test_a_callback_is_handed_on_as_it_came_with_the_url_that_was_signed() -> None:
    async def main() -> None:
        async with open_door(anonymous=False, callbacks=PUBLIC) as door:
            door.backend.delivery_answers["ForwardCallback"] = pb.ForwardCallbackResponse(
                status=202, body="<Response/>", content_type="text/xml"
            )
            headers = [("X-Twilio-Signature", "c2ln"), ("X-Two", "1"), ("X-Two", "2")]
            status, body, said = await call(
                door, path=f"{PATH}?a=%C3%A9&b", data=b"Status=sent\xff", headers=headers
            )
            assert (status, body, said["Content-Type"]) == (202, b"<Response/>", "text/xml")
            callback = asked(door)
            assert callback.method == "POST"
            assert callback.url == "https://push.example.org/v1/callbacks/sms?a=%C3%A9&b"
            assert callback.body == b"Status=sent\xff"
            assert callback.headers["x-twilio-signature"] == "c2ln"
            assert callback.headers["x-two"] == "1,2"

    run_on_uvloop(main())


def test_without_a_public_url_it_is_the_one_that_was_used() -> None:
    async def main() -> None:
        async with open_door() as door:
            door.backend.delivery_answers["ForwardCallback"] = pb.ForwardCallbackResponse(
                status=204
            )
            status, body, said = await call(door, "GET", f"{PATH}?x=1")
            assert (status, body) == (204, b"")
            assert "Content-Type" not in said
            callback = asked(door)
            assert (callback.method, callback.url) == ("GET", f"{door.url}{PATH}?x=1")

    run_on_uvloop(main())


def test_what_a_plugin_answers_does_nothing_at_our_origin() -> None:
    async def main() -> None:
        async with open_door() as door:
            door.backend.delivery_answers["ForwardCallback"] = pb.ForwardCallbackResponse(
                status=200, body="<script>", content_type="text/html\r\nSet-Cookie: a=b"
            )
            status, body, said = await call(door)
            assert (status, body) == (200, b"<script>")
            assert said["Content-Type"] == "text/plain; charset=utf-8"
            assert said["X-Content-Type-Options"] == "nosniff"
            assert "sandbox" in said["Content-Security-Policy"]
            assert "Set-Cookie" not in said

    run_on_uvloop(main())


def test_who_names_no_plugin_that_takes_callbacks_is_told_so() -> None:
    async def main() -> None:
        async with open_door() as door:
            for path in (PATH, "/v1/callbacks/No", f"/v1/callbacks/{'x' * 41}", "/v1/callbacks/"):
                assert (await call(door, path=path))[0] == 404
            assert len(door.backend.delivery_calls) == 1
            assert (await call(door, "PUT"))[0] == 405
            assert (await call(door, "HEAD"))[0] == 405

    run_on_uvloop(main())


@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.STORE_FULL, Code.ARGUMENT_INVALID])
def test_what_could_not_be_recorded_is_to_be_sent_again(code: Any) -> None:
    async def main() -> None:
        async with open_door() as door:
            door.backend.refusal = refuse(code, "No.", 0)
            assert (await call(door))[0] == 503

    run_on_uvloop(main())


def test_a_provider_is_answered_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_callbacks, "ANSWER_S", 0.1)

    async def main() -> None:
        async with open_door() as door:
            never = asyncio.get_running_loop().create_future()
            door.backend.delivery_answers["ForwardCallback"] = never
            assert (await call(door))[0] == 503

    run_on_uvloop(main())


async def begin_upload(door: Door) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A callback of nine bytes of which one has come."""
    reader, writer = await door.dial()
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
    writer.write(head.encode() + b"{")
    return reader, writer


def test_a_body_that_does_not_come_is_waited_for_as_long_as_any() -> None:
    async def main() -> None:
        async with open_door() as door:
            reader, writer = await begin_upload(door)
            assert b" 408 " in await reader.readuntil(b"\r\n")
            writer.close()
            assert not door.backend.delivery_calls

    run_on_uvloop(main())


def test_slow_uploads_take_no_places() -> None:
    async def main() -> None:
        async with open_door(callbacks=CallbackLimits(under_way_max=1), body_s=30.0) as door:
            door.backend.delivery_answers["ForwardCallback"] = pb.ForwardCallbackResponse(
                status=204
            )
            uploads = [await begin_upload(door) for _ in range(3)]
            assert (await call(door))[0] == 204
            assert len(door.backend.delivery_calls) == 1
            for _, writer in uploads:
                writer.write(b'"a": 12}')
            for reader, writer in uploads:
                assert b" 204 " in await reader.readuntil(b"\r\n")
                writer.close()

    run_on_uvloop(main())


def test_a_place_is_taken_while_the_plugin_has_it() -> None:
    async def main() -> None:
        async with open_door(callbacks=CallbackLimits(under_way_max=1)) as door:
            answer = asyncio.get_running_loop().create_future()
            door.backend.delivery_answers["ForwardCallback"] = answer
            first = asyncio.create_task(call(door))
            await until(lambda: bool(door.backend.delivery_calls))
            assert (await call(door))[0] == 503
            answer.set_result(pb.ForwardCallbackResponse(status=204))
            assert (await first)[0] == 204
            assert (await call(door))[0] == 204

    run_on_uvloop(main())


def test_more_than_a_callback_may_have_is_refused() -> None:
    async def chunks() -> Any:
        for _ in range(70):
            yield b"x" * 1024

    async def main() -> None:
        async with open_door() as door:
            assert (await call(door, data=b"x" * 65_537))[0] == 413
            assert (await call(door, data=chunks()))[0] == 413
            many = {f"X-{n}": "x" * 1_000 for n in range(9)}
            assert (await call(door, headers=many))[0] == 431
            assert not door.backend.delivery_calls
            door.backend.delivery_answers["ForwardCallback"] = pb.ForwardCallbackResponse(
                status=200
            )
            assert (await call(door, data=b"x" * 65_536))[0] == 200

    run_on_uvloop(main())


def test_headers_that_are_no_text_are_refused() -> None:
    async def main() -> None:
        async with open_door() as door:
            reader, writer = await door.dial()
            writer.write(f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\nX-A: ".encode())
            writer.write(b"\xff\r\n\r\n")
            assert b" 400 " in await reader.readuntil(b"\r\n")
            writer.close()
            assert not door.backend.delivery_calls

    run_on_uvloop(main())


def test_no_more_are_under_way_than_may_be_and_the_provider_comes_again() -> None:
    async def main() -> None:
        async with open_door(callbacks=CallbackLimits(under_way_max=0)) as door:
            status, body, _ = await call(door)
            assert status == 503
            assert b"OVERLOADED" in body
        async with open_door(callbacks=CallbackLimits(under_way_max=1)) as door:
            door.backend.delivery_answers["ForwardCallback"] = pb.ForwardCallbackResponse(
                status=204
            )
            assert [(await call(door))[0] for _ in range(3)] == [204, 204, 204]

    run_on_uvloop(main())


def test_one_address_may_not_ask_for_ever() -> None:
    async def main() -> None:
        limits = CallbackLimits(rates=RateLimits(0.001, 2))
        async with open_door(callbacks=limits) as door:
            door.backend.delivery_answers["ForwardCallback"] = pb.ForwardCallbackResponse(
                status=204
            )
            assert [(await call(door))[0] for _ in range(3)] == [204, 204, 429]

    run_on_uvloop(main())
