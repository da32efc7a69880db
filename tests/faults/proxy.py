"""A TCP proxy for one link between processes, which can be cut, frozen, slowed, garbled and healed.

    with Links() as links:
        link = links.open("127.0.0.1:2379")
        … start a process that is told `link.address` instead …
        link.freeze()                       # half-open: connections are taken, nothing passes
        link.freeze(only=lambda: {pid})     # of these processes' connections only
        link.heal()                         # what was kept back passes, in order

All links live on one thread with a loop of its own; their methods may be called from any thread,
and take effect before they return. The proxy knows bytes, and nothing of who sends them.
"""

import asyncio
import random
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

CHUNK_BYTES = 64 * 1024
KEPT_CHUNKS = 64  # read and not passed yet, each way; beyond it the sender is not read
_CALL_S = 5.0
HOST = "127.0.0.1"

Pids = Callable[[], set[int]]


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done to the connections of a link: those of `only`, if that is given."""

    cut: bool = False
    frozen: bool = False
    garbled: bool = False
    delay_s: float = 0.0
    only: Pids | None = None


SOUND = Fault()


class Links:
    """The thread that all links of a run live on."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._links: list[Link] = []

    def __enter__(self) -> "Links":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for link in self._links:
            link.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CALL_S)
        self._loop.close()

    def open(self, target: str, port: int = 0) -> "Link":
        """A link to `host:port`, listening on a port of loopback; 0 draws one."""
        link = Link(target, self.call)
        self.call(link._listen(port))
        self._links.append(link)
        return link

    def call(self, doing: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine on the thread, to its end."""
        asyncio.run_coroutine_threadsafe(doing, self._loop).result(_CALL_S)


class Link:
    """One address that stands for another. Opened by `Links.open`."""

    def __init__(self, target: str, call: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        host, _, port = target.rpartition(":")
        self.target = (host, int(port))
        self.address = ""
        self.fault = SOUND
        self._call = call
        self._server: asyncio.Server
        self._connections: set[_Connection] = set()

    # Called from any thread.

    def cut(self, only: Pids | None = None) -> None:
        """Reset the connections, and each new one as it comes."""
        self._call(self._set(Fault(cut=True, only=only)))

    def freeze(self, only: Pids | None = None) -> None:
        """Take connections, and pass nothing either way; nobody is told of it."""
        self._call(self._set(Fault(frozen=True, only=only)))

    def delay(self, seconds: float, only: Pids | None = None) -> None:
        """Pass everything so much later, each way, in order."""
        self._call(self._set(Fault(delay_s=seconds, only=only)))

    def garble(self, only: Pids | None = None) -> None:
        """Answer with as many bytes of nonsense."""
        self._call(self._set(Fault(garbled=True, only=only)))

    def heal(self) -> None:
        """As at the beginning."""
        self._call(self._set(SOUND))

    def close(self) -> None:
        """End it, with its connections."""
        self._call(self._close())

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    # On the thread of the links.

    async def _listen(self, port: int) -> None:
        self._server = await asyncio.start_server(self._serve, HOST, port)
        self.address = f"{HOST}:{self._server.sockets[0].getsockname()[1]}"

    async def _set(self, fault: Fault) -> None:
        self.fault = fault
        for connection in list(self._connections):
            connection.suffer(fault)

    async def _close(self) -> None:
        self._server.close()
        while self._connections:
            for connection in list(self._connections):
                connection.abort()
            await asyncio.sleep(0.01)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(reader, writer)
        self._connections.add(connection)
        try:
            connection.suffer(self.fault)
            await connection.run(self.target)
        except asyncio.CancelledError:
            pass  # the loop ends
        finally:
            self._connections.discard(connection)


class _Connection:
    """A connection that was taken, and the one that was made for it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._onward: asyncio.StreamWriter | None = None
        self._fault = SOUND
        self._flowing = asyncio.Event()
        self._flowing.set()

    def suffer(self, fault: Fault) -> None:
        """From now on, if the fault is for this one."""
        concerned = fault.only is None or self._is_of(fault.only())
        self._fault = fault if concerned else SOUND
        if self._fault.cut:
            self.abort()
        if self._fault.frozen:
            self._flowing.clear()
        else:
            self._flowing.set()

    def abort(self) -> None:
        """Reset both."""
        self._flowing.set()  # whoever waits for it ends now
        for writer in (self._writer, self._onward):
            if writer is not None:
                writer.transport.abort()

    async def run(self, target: tuple[str, int]) -> None:
        """Pass bytes until both sides have ended, or one of them was reset."""
        try:
            await self._flowing.wait()
            reader, self._onward = await asyncio.open_connection(*target)
        except OSError:
            self.abort()
            return
        loop = asyncio.get_running_loop()
        passing = [
            loop.create_task(self._pass(self._reader, self._onward, answers=False)),
            loop.create_task(self._pass(reader, self._writer, answers=True)),
        ]
        try:
            if not self._fault.cut:
                await asyncio.wait(passing, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in passing:
                task.cancel()
            self.abort()
            await asyncio.gather(*passing, return_exceptions=True)

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: bool
    ) -> None:
        """One way. Raises OSError when either side was reset."""
        kept: asyncio.Queue[tuple[float, bytes | None]] = asyncio.Queue(KEPT_CHUNKS)
        loop = asyncio.get_running_loop()
        reading = loop.create_task(self._keep(reader, kept))
        try:
            while True:
                due, data = await kept.get()
                await asyncio.sleep(due - loop.time())
                await self._flowing.wait()
                if data is None:
                    raise ConnectionResetError
                if not data:
                    writer.write_eof()
                    return
                garbled = answers and self._fault.garbled
                writer.write(random.randbytes(len(data)) if garbled else data)
                await writer.drain()
        finally:
            reading.cancel()

    async def _keep(
        self, reader: asyncio.StreamReader, kept: "asyncio.Queue[tuple[float, bytes | None]]"
    ) -> None:
        """Note what comes, when it is due to be passed, and how it ends: empty, or None."""
        loop = asyncio.get_running_loop()
        data: bytes | None = None
        while data != b"":
            try:
                data = await reader.read(CHUNK_BYTES)
            except OSError:
                data = None
            await kept.put((loop.time() + self._fault.delay_s, data))
            if data is None:
                return

    def _is_of(self, pids: set[int]) -> bool:
        """Whether one of these processes has made the connection."""
        inode = _inode(self._writer.get_extra_info("peername")[1])
        return any(f"socket:[{inode}]" in _open_files(pid) for pid in pids)


def _inode(port: int) -> str:
    """The socket of loopback with this port as its own that has an owner; empty: none."""
    for table in ("tcp", "tcp6"):  # gRPC's sockets are of both families
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[1].endswith(f":{port:04X}") and words[9] != "0":
                return words[9]
    return ""


def _open_files(pid: int) -> set[str]:
    found = set()
    for path in Path(f"/proc/{pid}/fd").glob("*"):
        try:
            found.add(str(path.readlink()))
        except OSError:
            pass  # closed meanwhile
    return found
