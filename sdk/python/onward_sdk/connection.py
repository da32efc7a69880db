"""One WebSocket connection to one edge, over aiohttp: frames out, frames in, how it ended.

Knows HTTP, timeouts and close codes; must not know what a frame means. Pings are answered by
aiohttp; its own pings notice an edge that is silent.
"""

import asyncio
from collections.abc import Awaitable
from types import TracebackType
from typing import Self

import aiohttp

from onward_sdk.errors import words_of
from onward_sdk.protocol import FRAME_BYTES_MAX, SUBPROTOCOL, Frame, decode, encode

OPEN_WAIT_S = 10.0  # for the handshake; then the edge is set aside
ANSWER_WAIT_S = 20.0  # for the answer to `connect`; the same
SILENCE_MAX_S = 20.0  # then a ping is sent; half of it again, and the connection is lost
CLOSE_WAIT_S = 2.0  # for the other side of the close handshake
ADVICE_MAX_S = 60  # an edge that advises to wait longer is asked again all the same
CLOSE_LOST = 1006  # never on the wire: the connection ended without a close frame
CLOSE_UNREADABLE = 1003  # we close with it: what came is no frame


class Lost(Exception):
    """There is no connection, or no answer on it.

    `retry_after_ms`: an edge was there and advised to come back after so long; None: it did not.
    """

    def __init__(self, reason: str, retry_after_ms: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_ms = retry_after_ms


class Connection:
    """Opens on entry (raises Lost), closes on exit."""

    def __init__(self, url: str, user: str) -> None:
        self._url = url.rstrip("/")
        self._query = {"user": user} if user else {}
        self._session: aiohttp.ClientSession | None = None
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._closing: asyncio.Future[None] | None = None
        self.close_code = CLOSE_LOST
        self.close_reason = "the connection was lost"

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None))
        try:
            self._socket = await self._open(self._session)
        except aiohttp.WSServerHandshakeError as error:
            raise self._turned_away(error) from None
        except aiohttp.InvalidURL:
            raise Lost(f"{self._url!r} is no address") from None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Lost(f"{self._url} cannot be reached ({words_of(error)})") from None
        finally:
            if self._socket is None:
                await self._session.close()
        return self

    def _turned_away(self, error: aiohttp.WSServerHandshakeError) -> Lost:
        seconds = error.headers.get("Retry-After", "") if error.headers else ""
        if error.status in (429, 503) and seconds.isascii() and seconds.isdigit():
            reason = f"{self._url} has no room for a connection now (HTTP {error.status})"
            return Lost(reason, min(int(seconds), ADVICE_MAX_S) * 1_000)
        return Lost(f"{self._url} answered HTTP {error.status} instead")

    async def _open(self, session: aiohttp.ClientSession) -> aiohttp.ClientWebSocketResponse:
        async with asyncio.timeout(OPEN_WAIT_S):
            return await session.ws_connect(
                self._url + "/v1/connect",
                params=self._query,
                protocols=(SUBPROTOCOL,),
                heartbeat=SILENCE_MAX_S,
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_WAIT_S),
                max_msg_size=FRAME_BYTES_MAX,
            )

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._socket is not None
        assert self._session is not None
        if self._closing is not None:
            await asyncio.wait({self._closing})
        await self._socket.close()
        await self._session.close()

    async def send(self, frame: Frame) -> bool:
        """Writes a frame; False if the connection is over."""
        assert self._socket is not None
        try:
            await self._socket.send_str(encode(frame))
        except (aiohttp.ClientError, OSError):
            return False
        return True

    async def close(self, code: int, reason: str) -> None:
        """Closes with a code, and waits for the other side."""
        assert self._socket is not None
        self.close_code, self.close_reason = code, reason
        closing = self._socket.close(code=code, message=reason.encode())
        self._closing = asyncio.ensure_future(_quietly(closing))
        await asyncio.shield(self._closing)

    async def receive(self, wait_s: float | None) -> Frame | None:
        """The next frame; None if the connection is over. Raises Lost after `wait_s`."""
        assert self._socket is not None
        while True:
            try:
                message = await self._socket.receive(timeout=wait_s)
            except TimeoutError:
                raise Lost(f"{self._url} did not answer within {wait_s} s") from None
            if message.type is aiohttp.WSMsgType.TEXT:
                try:
                    return decode(message.data)
                except ValueError:
                    await self.close(CLOSE_UNREADABLE, "what the edge sent is no frame")
                    return None
            if message.type is not aiohttp.WSMsgType.BINARY:  # which has no meaning here
                break
        if self._closing is None and self._socket.close_code not in (None, CLOSE_LOST):
            self.close_code = self._socket.close_code or CLOSE_LOST
            self.close_reason = f"the edge closed the connection ({self.close_code})"
        return None


async def _quietly(closing: Awaitable[bool]) -> None:
    try:
        await closing
    except (aiohttp.ClientError, OSError, RuntimeError):
        pass  # it is over all the same
