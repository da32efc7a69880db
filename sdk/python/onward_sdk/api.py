"""Onward over plain HTTP, for programs that hold no connection: publish, history, explain.

Knows the paths and JSON of the edge's HTTP API; must not know sessions. Use it as `async with`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import aiohttp
import orjson

from onward_sdk.errors import Refused, Unreachable, words_of
from onward_sdk.events import Message
from onward_sdk.protocol import Published, publish_body, read_message, read_published, read_refusal

ANSWER_WAIT_S = 30.0  # then the server counts as unreachable


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Part of a subject's log, oldest first."""

    messages: Sequence[Message]
    head: int  # the subject's last seq
    log_id: str


class Api:
    """The HTTP API of one edge. All calls raise Refused, or Unreachable if no edge answers.

    `user`: who asks, where anonymous access is on; otherwise `token` says so.
    """

    def __init__(self, url: str, *, user: str = "", token: str = "") -> None:
        self._url = url.rstrip("/")
        self._user = user
        self._token = token
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        self._session = aiohttp.ClientSession(
            headers=headers, timeout=aiohttp.ClientTimeout(total=ANSWER_WAIT_S)
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._session is not None
        await self._session.close()

    async def publish(
        self,
        subject: str,
        text: str | None = None,
        data: bytes | None = None,
        *,
        content_type: str = "",
        publication_id: str = "",
        headers: Mapping[str, str] | None = None,
        retain: bool = False,
        transient: bool = False,
    ) -> Published:
        """Publishes; returns when that is durable. `retain`, `transient`: as of `Client`."""
        body = publish_body(
            subject,
            text,
            data,
            content_type=content_type,
            publication_id=publication_id,
            headers=headers,
            retain=retain,
            transient=transient,
        )
        return read_published(await self._call("POST", "/v1/publish", {}, body))

    async def history(self, subject: str, after: int = 0, limit: int = 100) -> HistoryPage:
        """Messages with seq > `after`, at most `limit` (1 to 1,000)."""
        query = {"subject": subject, "after": str(after), "limit": str(limit)}
        answer = await self._call("GET", "/v1/history", query)
        log_id = str(answer.get("logId", ""))
        messages = [read_message(one, log_id) for one in answer.get("messages") or ()]
        return HistoryPage(messages, int(answer.get("head", 0)), log_id)

    async def explain(self, user: str, subject: str, seq: int = 0) -> Mapping[str, Any]:
        """What became of the messages of a subject for a user (`ExplainResponse` as JSON).

        `seq`: one message; 0: the newest.
        """
        query = {"user": user, "subject": subject} | ({"seq": str(seq)} if seq else {})
        return await self._call("GET", "/v1/explain", query)

    async def status(self) -> Mapping[str, Any]:
        """How the cluster stands, as JSON; for operators."""
        return await self._call("GET", "/v1/status", {})

    async def drain(self, member: str) -> Mapping[str, Any]:
        """Has a member of the cluster end in peace; for operators.

        `member`: a name, id or address that `status` shows. Returns `service`, `name`, `address`
        and `atMostMs`, how long it may take.
        """
        return await self._call("POST", "/v1/drain", {}, {"member": member})

    async def extensions(self) -> Sequence[Mapping[str, Any]]:
        """The presence extensions that are registered, as JSON; for operators."""
        answer = await self._call("GET", "/v1/extensions", {})
        return [one for one in answer.get("extensions") or () if isinstance(one, dict)]

    async def add_extension(
        self,
        name: str,
        address: str,
        *,
        subjects: Sequence[str] = (),
        plain: bool = False,
        server_name: str = "",
    ) -> None:
        """Registers a presence extension at `host:port`, or changes where it is; for operators."""
        body: dict[str, Any] = {"name": name, "address": address, "plain": plain}
        body |= {"serverName": server_name, "subjects": list(subjects)}
        await self._call("POST", "/v1/extensions", {}, body)

    async def remove_extension(self, name: str) -> bool:
        """Removes a presence extension, and how far it was; whether it was there."""
        path = f"/v1/extensions/{quote(name, safe='')}"
        return (await self._call("DELETE", path, {})).get("removed") is True

    async def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Mapping[str, Any] | None = None,
    ) -> Mapping[str, Any]:
        assert self._session is not None, "use it as `async with`"
        params = ({"user": self._user} if self._user else {}) | dict(query)
        data = None if body is None else orjson.dumps(body)
        headers = {"Content-Type": "application/json"} if data else {}
        try:
            async with self._session.request(
                method, self._url + path, params=params, data=data, headers=headers
            ) as response:
                return _read_answer(self._url, response.status, await response.read())
        except aiohttp.InvalidURL:
            raise Unreachable(f"{self._url!r} is no address") from None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unreachable(f"{self._url} cannot be reached ({words_of(error)})") from None


def _read_answer(url: str, status: int, body: bytes) -> Mapping[str, Any]:
    try:
        answer = orjson.loads(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise Unreachable(f"{url} answered HTTP {status} without JSON; is it an Onward edge?")
    refusal = answer.get("error", answer)
    if status >= 400 and isinstance(refusal, dict) and "code" in refusal:
        raise read_refusal(refusal)
    if status >= 400:
        raise Refused(f"HTTP_{status}", "the server gave no reason")
    return answer
