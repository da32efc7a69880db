"""The socket on the loop: closing, violations, coalescing, slow readers. Over real TCP."""

import asyncio
import socket as tcp
import struct

import pytest

from services.edge import websocket
from services.edge.gateway import GatewayLimits
from services.edge.intake import Intake
from services.edge.meter import InputLimits
from services.edge.socket import Handshake
from services.edge.socket_protocol import SocketLimits, SocketProtocol, Ticker
from tests.edge.door import (
    Door,
    Echo,
    handshake_bytes,
    open_door,
    read_close,
    read_frame,
    run_on_uvloop,
)
from tests.edge.frames import BINARY, CLOSE, PING, PONG, TEXT, client_frame, close_payload
from tests.edge.test_websocket import VIOLATIONS
from tests.waiting import until

SMALL = SocketLimits(frame_bytes_max=1000, close_s=0.3)
SLOW = SocketLimits(write_high_bytes=64 * 1024, write_bytes_max=512 * 1024, close_s=0.3)
FRAME = websocket.text_frame(b"x" * 10_000)


async def upgraded(door: Door) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, Echo]:
    count = len(door.connections)
    reader, writer = await door.dial_upgraded()
    await until(lambda: len(door.connections) > count)
    return reader, writer, door.connections[-1]


async def lazy_client(door: Door) -> tuple[tcp.socket, Echo]:
    """A client with a small receive buffer that reads only when asked to."""
    loop = asyncio.get_running_loop()
    client = tcp.socket()
    client.setsockopt(tcp.SOL_SOCKET, tcp.SO_RCVBUF, 4096)
    client.setblocking(False)
    await loop.sock_connect(client, ("127.0.0.1", door.gateway.port))
    await loop.sock_sendall(client, handshake_bytes())
    await until(lambda: len(door.connections) > 0)
    return client, door.connections[-1]


def test_each_violation_gets_its_close_code() -> None:
    async def main() -> None:
        async with open_door(sockets=SMALL) as door:
            for name, (data, code) in VIOLATIONS.items():
                reader, writer, connection = await upgraded(door)
                writer.write(client_frame(TEXT, b"first") + data + client_frame(TEXT, b"after"))
                assert await read_close(reader) == code, name
                assert connection.closed == [(False, code)], name
                assert connection.texts == [b"first"], name
                writer.close()
            await until(lambda: len(door.sweep) == 0)

    run_on_uvloop(main())


def test_the_reason_is_seen_by_a_client_in_the_middle_of_a_huge_frame() -> None:
    async def main() -> None:
        async with open_door() as door:
            reader, writer, _ = await upgraded(door)
            writer.write(client_frame(TEXT, b"x" * 2_000_000))
            assert await read_close(reader) == 1009
            writer.close()

    run_on_uvloop(main())


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4999, None])
def test_a_close_handshake_of_the_client_is_clean_and_answered_with_its_code(
    code: int | None,
) -> None:
    async def main() -> None:
        async with open_door() as door:
            reader, writer, connection = await upgraded(door)
            writer.write(client_frame(CLOSE, close_payload(code) if code else b""))
            assert await read_close(reader) == (code or 1005)
            assert connection.closed == [(True, code or 1005)]
            await until(lambda: len(door.sweep) == 0)
            assert connection.closed == [(True, code or 1005)]

    run_on_uvloop(main())


@pytest.mark.parametrize("how", ["fin", "reset"])
def test_a_connection_that_just_ends_is_not_clean(how: str) -> None:
    async def main() -> None:
        async with open_door() as door:
            _, writer, connection = await upgraded(door)
            writer.close() if how == "fin" else writer.transport.abort()
            await until(lambda: connection.closed)
            assert connection.closed == [(False, 1006)]

    run_on_uvloop(main())


def test_a_close_of_ours_waits_for_the_answer_and_drops_what_comes_before_it() -> None:
    async def main() -> None:
        async with open_door() as door:
            reader, writer, connection = await upgraded(door)
            connection.socket.send(websocket.text_frame(b"last"))
            connection.socket.close(4502, "replaced")
            connection.socket.send(websocket.text_frame(b"too late"))
            connection.socket.close(4000)
            assert await read_frame(reader) == (0x81, b"last")
            assert await read_frame(reader) == (0x88, close_payload(4502, b"replaced"))
            writer.write(client_frame(TEXT, b"dropped") + client_frame(CLOSE, close_payload(4502)))
            assert await reader.read() == b""
            assert connection.texts == []
            assert connection.closed == [(False, 4502)]

    run_on_uvloop(main())


def test_a_close_that_is_not_answered_is_cut_by_the_sweep() -> None:
    async def main() -> None:
        async with open_door(sockets=SMALL, round_s=0.1) as door:
            reader, _, connection = await upgraded(door)
            connection.socket.close(4000)
            assert await read_frame(reader) == (0x88, close_payload(4000))
            assert connection.closed == []
            await until(lambda: connection.closed)
            assert connection.closed == [(False, 4000)]
            await until(lambda: len(door.sweep) == 0)

    run_on_uvloop(main())


def test_a_violator_that_does_not_hang_up_is_cut_by_the_sweep() -> None:
    async def main() -> None:
        async with open_door(sockets=SMALL, round_s=0.1) as door:
            reader, writer, _ = await upgraded(door)
            writer.write(client_frame(TEXT, b"\xff"))
            assert await read_close(reader) == 1007
            writer.write(b"more")
            await until(lambda: len(door.sweep) == 0)

    run_on_uvloop(main())


def test_the_sweep_visits_every_open_socket_and_gives_each_its_turn() -> None:
    async def main() -> None:
        async with open_door(round_s=0.05) as door:
            clients = [await upgraded(door) for _ in range(4)]
            await until(lambda: len(door.rounds) >= 9)
            assert door.rounds[:9] == list(range(1, 10))
            turns = []
            for _, _, connection in clients:
                rounds = [number for number, _ in connection.sweeps]
                assert rounds == list(range(rounds[0], rounds[-1] + 1))
                turns.append({number % 3 for number, in_turn in connection.sweeps if in_turn})
            assert all(len(turn) == 1 for turn in turns)
            assert turns[0] | turns[1] | turns[2] == {0, 1, 2}
            assert turns[3] == turns[0]

    run_on_uvloop(main())


def test_pings_are_answered_and_pongs_handed_over() -> None:
    async def main() -> None:
        async with open_door() as door:
            reader, writer, connection = await upgraded(door)
            writer.write(client_frame(PING, b"a") + client_frame(TEXT, b"b"))
            assert await read_frame(reader) == (0x8A, b"a")
            assert await read_frame(reader) == (0x81, b"b")
            connection.socket.ping(b"round 7")
            assert await read_frame(reader) == (0x89, b"round 7")
            writer.write(client_frame(PONG, b"round 7"))
            await until(lambda: connection.pongs == [b"round 7"])

    run_on_uvloop(main())


def test_binary_is_told_and_the_connection_stays() -> None:
    async def main() -> None:
        async with open_door() as door:
            reader, writer, _ = await upgraded(door)
            writer.write(client_frame(BINARY, b"\x00\xff") + client_frame(TEXT, b"b"))
            assert await read_frame(reader) == (0x81, b"binary")
            assert await read_frame(reader) == (0x81, b"b")

    run_on_uvloop(main())


class RecordingTransport(asyncio.Transport):
    """Counts writes in place of a kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.writes.append(data)

    def writelines(self, list_of_data) -> None:  # type: ignore[no-untyped-def]
        self.writes.append(b"".join(list_of_data))

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None:
        pass


def bare_socket() -> SocketProtocol:
    loop = asyncio.get_running_loop()
    return SocketProtocol(Ticker(loop), Intake(loop, 1 << 20), SocketLimits(), 0, lambda _: None)


def test_the_first_frame_of_a_tick_goes_at_once_and_the_others_together_at_its_end() -> None:
    async def main() -> None:
        transport = RecordingTransport()
        socket = bare_socket()
        socket.attach(transport, Echo(socket, Handshake("")), b"")
        for frame in (b"1", b"2", b"3"):
            socket.send(frame)
        assert transport.writes == [b"1"]
        await asyncio.sleep(0)
        assert transport.writes == [b"1", b"23"]
        socket.send(b"4")
        assert transport.writes == [b"1", b"23", b"4"]
        socket.send(b"5")
        socket.close(4000)
        assert transport.writes[-1] == b"5" + websocket.close_frame(4000)
        await asyncio.sleep(0)
        assert len(transport.writes) == 4
        socket.connection_lost(None)

    run_on_uvloop(main())


def test_much_in_one_tick_does_not_wait_for_its_end() -> None:
    async def main() -> None:
        transport = RecordingTransport()
        socket = bare_socket()
        socket.attach(transport, Echo(socket, Handshake("")), b"")
        frames = [b"%04d" % i + b"x" * 996 for i in range(200)]
        for frame in frames:
            socket.send(frame)
        assert sum(map(len, transport.writes)) > 100_000
        await asyncio.sleep(0)
        assert b"".join(transport.writes) == b"".join(frames)
        assert len(transport.writes) == 5
        socket.connection_lost(None)

    run_on_uvloop(main())


def test_a_slow_reader_pauses_and_resumes_its_connection() -> None:
    async def main() -> None:
        limits = GatewayLimits(send_buffer_bytes=4096, drain_s=0.1)
        async with open_door(limits, SLOW) as door:
            client, connection = await lazy_client(door)
            sent = 0
            while not connection.socket.paused:
                connection.socket.send(FRAME)
                sent += 1
                assert sent < 40
            assert connection.events == ["paused"]
            loop = asyncio.get_running_loop()
            # While paused a ping is answered once, later, with its newest payload.
            for payload in (b"old", b"new"):
                await loop.sock_sendall(client, client_frame(PING, payload))
            received = b""
            while not received.endswith(websocket.pong_frame(b"new")):
                received += await loop.sock_recv(client, 65536)
            assert connection.events == ["paused", "resumed"]
            assert received.count(FRAME) == sent
            assert websocket.pong_frame(b"old") not in received
            client.close()

    run_on_uvloop(main())


def test_who_goes_on_sending_to_a_slow_reader_reaches_a_bound() -> None:
    async def main() -> None:
        limits = GatewayLimits(send_buffer_bytes=4096, drain_s=0.1)
        async with open_door(limits, SLOW, round_s=0.1) as door:
            client, connection = await lazy_client(door)
            for _ in range(200):
                connection.socket.send(FRAME)
            transport = connection.socket._transport  # type: ignore[attr-defined]
            assert transport.get_write_buffer_size() <= SLOW.write_bytes_max + 70_000
            await until(lambda: connection.closed)
            assert connection.closed == [(False, 4001)]
            await until(lambda: len(door.sweep) == 0)
            client.close()

    run_on_uvloop(main())


def test_an_abort_is_reported_once() -> None:
    async def main() -> None:
        async with open_door() as door:
            _reader, _writer, connection = await upgraded(door)
            connection.socket.abort()
            connection.socket.abort()
            connection.socket.send(b"nothing")
            await until(lambda: connection.closed)
            assert connection.closed == [(False, 1006)]
            connection.socket.abort()
            connection.socket.close(4000)

    run_on_uvloop(main())


def test_clients_that_vanish_in_the_middle_of_a_burst_harm_nobody_else() -> None:
    async def main() -> None:
        faults: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
        async with open_door() as door:
            clients = [await upgraded(door) for _ in range(20)]
            reader, kept, last = await upgraded(door)
            rude = clients[::2]
            for burst in range(30):
                for _, writer, _ in rude:
                    if burst == 5:
                        raw = writer.get_extra_info("socket")
                        linger = struct.pack("ii", 1, 0)  # closing sends a reset
                        raw.setsockopt(tcp.SOL_SOCKET, tcp.SO_LINGER, linger)
                        writer.transport.abort()
                for _, _, connection in [*clients, (None, None, last)]:
                    for _ in range(10):
                        connection.socket.send(FRAME[:1000])
                await asyncio.sleep(0)
            await until(lambda: all(connection.closed for _, _, connection in rude))
            last.socket.send(b"\x81\x03end")
            received = b""
            while not received.endswith(b"\x81\x03end"):
                chunk = await reader.read(65536)
                assert chunk
                received += chunk
            assert len(received) == 30 * 10 * 1000 + 5
            kept.close()
        assert not faults

    run_on_uvloop(main())


def limited(**fields: float) -> SocketLimits:
    """Limits of input that are soon reached."""
    return SocketLimits(input=InputLimits(**fields))  # type: ignore[arg-type]


def test_who_sends_more_frames_than_allowed_is_read_later_and_loses_none() -> None:
    async def main() -> None:
        async with open_door(sockets=limited(frames_per_s=200, frames_burst=100)) as door:
            _, writer, flooding = await upgraded(door)
            _, other, calm = await upgraded(door)
            flooding.echoes = False
            frames = [client_frame(TEXT, b"%d" % number) for number in range(300)]
            began = asyncio.get_running_loop().time()
            writer.write(b"".join(frames))
            await until(lambda: door.gateway.intake.paused == 1)
            other.write(client_frame(TEXT, b"calm"))
            await until(lambda: calm.texts == [b"calm"])
            assert len(flooding.texts) < 300
            await until(lambda: len(flooding.texts) == 300)
            assert flooding.texts == [b"%d" % number for number in range(300)]
            assert asyncio.get_running_loop().time() - began > 0.5
            await until(lambda: door.gateway.intake.paused == 0)
            writer.write(client_frame(TEXT, b"again"))
            await until(lambda: flooding.texts[-1] == b"again")

    run_on_uvloop(main())


def test_who_sends_more_bytes_than_allowed_is_read_later_and_loses_none() -> None:
    async def main() -> None:
        limits = limited(bytes_per_s=400_000, bytes_burst=100_000)
        async with open_door(sockets=limits) as door:
            _, writer, connection = await upgraded(door)
            connection.echoes = False
            texts = [b"%04d" % number + b"x" * 2_000 for number in range(150)]
            began = asyncio.get_running_loop().time()
            writer.write(b"".join(client_frame(TEXT, text) for text in texts))
            await until(lambda: len(connection.texts) == 150)
            assert connection.texts == texts
            assert asyncio.get_running_loop().time() - began > 0.2
            assert door.gateway.intake.bytes > 0

    run_on_uvloop(main())


def test_what_is_charged_for_is_waited_for() -> None:
    async def main() -> None:
        async with open_door(sockets=limited(frames_per_s=500, frames_burst=100)) as door:
            _, writer, connection = await upgraded(door)
            connection.socket.charge(300)
            began = asyncio.get_running_loop().time()
            writer.write(client_frame(TEXT, b"a"))
            await until(lambda: connection.texts == [b"a"])
            writer.write(client_frame(TEXT, b"b"))
            await until(lambda: connection.texts == [b"a", b"b"])
            assert asyncio.get_running_loop().time() - began > 0.2

    run_on_uvloop(main())


def test_of_many_pings_at_once_the_first_and_the_last_are_answered() -> None:
    async def main() -> None:
        async with open_door() as door:
            reader, writer, _ = await upgraded(door)
            pings = b"".join(client_frame(PING, b"%d" % number) for number in range(50))
            writer.write(pings + client_frame(TEXT, b"end"))
            seen = [await read_frame(reader) for _ in range(3)]
            assert sorted(seen) == [(0x81, b"end"), (0x8A, b"0"), (0x8A, b"49")]
            assert seen[0] == (0x8A, b"0")

    run_on_uvloop(main())


def test_a_message_that_does_not_end_is_closed_by_the_sweep() -> None:
    async def main() -> None:
        limits = SocketLimits(message_s=0.2, close_s=0.3)
        async with open_door(sockets=limits, round_s=0.05) as door:
            reader, writer, connection = await upgraded(door)
            other_reader, other, calm = await upgraded(door)
            writer.write(client_frame(TEXT, b"x" * 1000)[:500])
            for number in range(10):
                frame = client_frame(TEXT, b"%d" % number)
                other.write(frame[:3])
                await asyncio.sleep(0.05)  # always in the middle of one, and never of the same
                other.write(frame[3:])
                assert await read_frame(other_reader) == (0x81, b"%d" % number)
            assert await read_close(reader) == 1008
            assert connection.closed == [(False, 1008)]
            assert not calm.closed

    run_on_uvloop(main())


def test_who_holds_the_most_of_what_is_not_complete_goes_when_it_is_too_much() -> None:
    async def main() -> None:
        limits = GatewayLimits(unfinished_bytes_max=200_000, drain_s=0.1)
        async with open_door(limits, round_s=0.05) as door:
            small = await upgraded(door)
            large = await upgraded(door)
            third = await upgraded(door)
            half = client_frame(TEXT, b"x" * 400_000)
            small[1].write(half[:40_000])
            large[1].write(half[:120_000])
            await until(lambda: door.gateway.intake.unfinished_bytes > 150_000)
            third[1].write(half[:60_000])
            assert await read_close(large[0]) == 1008
            assert large[2].closed == [(False, 1008)]
            await until(lambda: 90_000 < door.gateway.intake.unfinished_bytes < 110_000)
            for _, writer, connection in (small, third):
                assert not connection.closed
                writer.transport.abort()
            await until(lambda: door.gateway.intake.unfinished_bytes == 0)

    run_on_uvloop(main())
