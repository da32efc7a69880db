from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from onward_sdk import Api, Published, Refused, Unreachable

from tests.sdk.scripted_edge import message, scripted_edge

Run = Callable[[Coroutine[Any, Any, None]], None]


def test_a_publish_goes_in_the_name_of_the_user(run: Run) -> None:
    async def story() -> None:
        async with scripted_edge() as edge:
            edge.answers["/v1/publish"] = (200, {"seq": "7", "epoch": "1", "duplicate": True})
            async with Api(edge.url + "/", user="bob") as api:
                published = await api.publish("/a", "hi", headers={"title": "Bob"}, retain=True)
            assert published == Published(7, 1, True)
            body = {"subject": "/a", "text": "hi", "headers": {"title": "Bob"}, "retain": True}
            assert edge.requests == [("/v1/publish", {"user": "bob"}, body)]

    run(story())


def test_history_is_read_with_its_seqs(run: Run) -> None:
    async def story() -> None:
        async with scripted_edge() as edge:
            answer = {"messages": [message("/a", 3)], "head": "9", "logId": "L"}
            edge.answers["/v1/history"] = (200, answer)
            async with Api(edge.url) as api:
                page = await api.history("/a", after=2, limit=1)
            assert [(one.seq, one.text, one.log_id) for one in page.messages] == [(3, "m3", "L")]
            assert page.head == 9
            assert edge.requests[0][1] == {"subject": "/a", "after": "2", "limit": "1"}

    run(story())


@pytest.mark.parametrize("nested", [False, True])
def test_a_refusal_carries_its_code_sentence_and_advice(run: Run, nested: bool) -> None:
    async def story() -> None:
        async with scripted_edge() as edge:
            refusal = {"code": "OVERLOADED", "message": "Full.", "retryAfterMs": 50}
            edge.answers["/v1/explain"] = (503, {"error": refusal} if nested else refusal)
            async with Api(edge.url) as api:
                with pytest.raises(Refused) as refused:
                    await api.explain("ann", "/a", 3)
            assert refused.value == Refused("OVERLOADED", "Full.", 50)
            assert edge.requests[0][1] == {"user": "ann", "subject": "/a", "seq": "3"}

    run(story())


def test_nobody_there_and_somebody_else_there_are_told_apart(run: Run) -> None:
    async def story() -> None:
        async with scripted_edge() as edge:
            gone = edge.url
            edge.answers["/v1/history"] = (200, ["no", "object"])
            async with Api(edge.url) as api:
                with pytest.raises(Unreachable, match="is it an Onward edge"):
                    await api.history("/a")
        async with Api(gone) as api:
            with pytest.raises(Unreachable, match="cannot be reached"):
                await api.history("/a")

    run(story())
