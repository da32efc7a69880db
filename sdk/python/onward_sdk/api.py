"""Onward over plain HTTP, for programs that hold no connection: publish, history, explain, who is
there, and what there is of users (`user_data`).

Knows the paths and JSON of the edge's HTTP API; must not know sessions. Use it as `async with`.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import aiohttp
import orjson

from onward_sdk.errors import Refused, Unreachable, words_of
from onward_sdk.events import Message
from onward_sdk.protocol import Published, publish_body, read_message, read_published, read_refusal
from onward_sdk.user_data import UserData

ANSWER_WAIT_S = 30.0  # then the server counts as unreachable
_STREAM_WAIT_S = 30.0  # a stream says something more often
_LINE_BYTES_MAX = 4 * 1024 * 1024  # an event of a stream is one line


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

    async def presence(
        self, *, subject: str = "", user: str = "", after: str = "", limit: int = 100
    ) -> Mapping[str, Any]:
        """Who is there: on a subject, or of one user (`GetPresenceResponse` as JSON).

        Of a subject: `limit` clients (1 to 1,000), behind the user `after`.
        """
        query = _presence_query(subject, user)
        if subject:
            query |= {"limit": str(limit)} | ({"after": after} if after else {})
        return await self._call("GET", "/v1/presence", query, whose=False)

    async def watch_presence(
        self, *, subject: str = "", user: str = ""
    ) -> AsyncIterator[Mapping[str, Any]]:
        """Who is there, now and whenever it has changed. Ends with Unreachable when the edge stops
        or is lost: then ask again."""
        async for name, data in self._events("/v1/presence", _presence_query(subject, user)):
            if name == "presence":
                yield data
            elif name == "refused":
                raise read_refusal(data)
            elif name == "goingAway":
                raise Unreachable(f"{self._url} is stopping")

    def user(self, name: str) -> UserData:
        """What there is of a user; for administrators."""
        if not name:
            raise ValueError("a user has a name")
        return UserData(self._call, name)

    @property
    def me(self) -> UserData:
        """What there is of the user who asks."""
        return UserData(self._call, "")

    async def follow(self, users: Sequence[str], subjects: Sequence[str]) -> int:
        """Has users (at most 1,000) follow subjects (at most 100) from now on, who need never have
        connected; how many follows are new. For administrators."""
        body = {"users": list(users), "subjects": list(subjects)}
        return int((await self._call("POST", "/v1/follows", {}, body)).get("added", 0))

    async def unfollow(
        self, users: Sequence[str], subjects: Sequence[str], everywhere: bool = False
    ) -> int:
        """Ends that, or with `everywhere` the follows of all of their clients too; how many."""
        body = {"users": list(users), "subjects": list(subjects), "everywhere": everywhere}
        return int((await self._call("DELETE", "/v1/follows", {}, body)).get("removed", 0))

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

    async def notifiers(self) -> Sequence[Mapping[str, Any]]:
        """The notifiers, of the settings and registered, as JSON; for operators."""
        answer = await self._call("GET", "/v1/notifiers", {})
        return [one for one in answer.get("notifiers") or () if isinstance(one, dict)]

    async def add_notifier(
        self,
        name: str,
        address: str,
        *,
        channels: Sequence[str] = (),
        plain: bool = False,
        server_name: str = "",
    ) -> None:
        """Registers a notifier at `host:port`, or changes it; for operators.

        `channels`: those it is used for; empty: all that it serves.
        """
        body: dict[str, Any] = {"name": name, "address": address, "plain": plain}
        body |= {"serverName": server_name, "channels": list(channels)}
        await self._call("POST", "/v1/notifiers", {}, body)

    async def remove_notifier(self, name: str) -> bool:
        """Removes a notifier that was registered; whether it was there."""
        path = f"/v1/notifiers/{quote(name, safe='')}"
        return (await self._call("DELETE", path, {})).get("removed") is True

    async def dead_letters(
        self,
        *,
        user: str = "",
        channel: str = "",
        reason: str = "",
        after: str = "",
        limit: int = 100,
    ) -> Mapping[str, Any]:
        """Deliveries that were given up (`ListDeadLettersResponse` as JSON); for operators.

        `limit`: 1 to 1,000. `nextAfterId` of the answer, if it is not empty, is the `after` of the
        next page.
        """
        asked = {"user": user, "channel": channel, "reason": reason, "after": after}
        query = {name: value for name, value in asked.items() if value} | {"limit": str(limit)}
        return await self._call("GET", "/v1/dead-letters", query)

    async def dead_letter(self, delivery_id: str) -> Mapping[str, Any]:
        """One of them with its tries (`GetDeadLetterResponse` as JSON); for operators."""
        return await self._call("GET", f"/v1/dead-letters/{quote(delivery_id, safe='')}", {})

    async def replay_dead_letters(
        self,
        *,
        ids: Sequence[str] = (),
        user: str = "",
        channel: str = "",
        reason: str = "",
        everything: bool = False,
    ) -> Mapping[str, int]:
        """Has dead letters sent again: those of which all that is said is so, or `everything`; for
        operators.

        Returns how many are due again (`replayed`), and how many have `expired` and stay. Where it
        raises, some may be due already; calling it again makes the rest so.
        """
        which = {"ids": list(ids), "user": user, "channel": channel, "reason": reason,
                 "all": everything}  # fmt: skip
        return await self._move("replay", which, ("replayed", "expired"))

    async def drop_dead_letters(
        self,
        *,
        ids: Sequence[str] = (),
        user: str = "",
        channel: str = "",
        reason: str = "",
        everything: bool = False,
    ) -> int:
        """Gives dead letters up for good, which ones as of `replay_dead_letters`; how many."""
        which = {"ids": list(ids), "user": user, "channel": channel, "reason": reason,
                 "all": everything}  # fmt: skip
        return (await self._move("drop", which, ("dropped",)))["dropped"]

    async def send_test(
        self, endpoint: str, *, user: str = "", text: str = ""
    ) -> Mapping[str, Any]:
        """Hands a test notification for an external token to the plugin that serves it, now.

        Returns `plugin`, `outcome` (as `ACCEPTED`), `detail` and `providerId`; for operators.
        """
        body = {"endpoint": endpoint, "user": user, "text": text}
        return await self._call("POST", "/v1/send-test", {}, body)

    async def _move(
        self, verb: str, which: Mapping[str, Any], counted: Sequence[str]
    ) -> Mapping[str, int]:
        """Calls until all are moved: one call moves a bounded number."""
        counts = dict.fromkeys(counted, 0)
        after = ""
        while True:
            body = {**which, "after": after}
            answer = await self._call("POST", f"/v1/dead-letters/{verb}", {}, body)
            for name in counted:
                counts[name] += int(answer.get(name) or 0)
            after = str(answer.get("nextAfterId") or "")
            if not after:
                return counts

    async def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Mapping[str, Any] | None = None,
        whose: bool = True,
    ) -> Mapping[str, Any]:
        """`whose`: say who asks, where the parameter `user` means that."""
        assert self._session is not None, "use it as `async with`"
        params = ({"user": self._user} if self._user and whose else {}) | dict(query)
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

    async def _events(
        self, path: str, query: Mapping[str, str]
    ) -> AsyncIterator[tuple[str, Mapping[str, Any]]]:
        """The events of a stream; raises Unreachable when it breaks off."""
        assert self._session is not None, "use it as `async with`"
        timeout = aiohttp.ClientTimeout(sock_connect=ANSWER_WAIT_S, sock_read=_STREAM_WAIT_S)
        try:
            async with self._session.get(
                self._url + path,
                params=query,
                headers={"Accept": "text/event-stream"},
                timeout=timeout,
                read_bufsize=_LINE_BYTES_MAX,
            ) as response:
                if response.content_type != "text/event-stream":
                    _read_answer(self._url, response.status, await response.read())
                    raise Unreachable(f"{self._url} tells no events; is it an Onward edge?")
                name = ""
                async for line in response.content:
                    field, _, value = line.rstrip(b"\n").partition(b": ")
                    if field == b"event":
                        name = value.decode()
                    elif field == b"data":
                        yield name, orjson.loads(value)
        except aiohttp.InvalidURL:
            raise Unreachable(f"{self._url!r} is no address") from None
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise Unreachable(f"{self._url} cannot be reached ({words_of(error)})") from None
        raise Unreachable(f"{self._url} has ended the stream")


def _presence_query(subject: str, user: str) -> dict[str, str]:
    if bool(subject) == bool(user):
        raise ValueError("give either a subject or a user")
    return {"subject": subject} if subject else {"user": user}


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
