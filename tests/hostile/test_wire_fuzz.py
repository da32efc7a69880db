"""Random bytes at every level of the wire into a real edge: it stays whole, and serves others.

`ONWARD_FUZZ_S` makes it last so many seconds instead, and print how the edge's memory grew.
"""

import json
import os
import random
import socket
import time
from collections.abc import Callable

from tests.hostile.raw import RawClient, dial, frame, handshake
from tests.hostile.scene import edge_memory, tell
from tests.path.stack import Suite

SECONDS = float(os.environ.get("ONWARD_FUZZ_S", "0"))
BATCHES = 12  # of the default run
CONNECTIONS = 12  # a batch, at each of the three levels
FRAMES = 20  # a connection, at most
SEED = int(os.environ.get("ONWARD_FUZZ_SEED", "1"))

REQUESTS = [
    handshake("eve"),
    b"GET /v1/history?subject=/f&user=eve HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST /v1/publish?user=eve HTTP/1.1\r\nHost: localhost\r\nContent-Length: 28\r\n\r\n"
    b'{"subject":"/f","text":"hi"}',
    b"GET /v1/explain?user=eve&subject=/f HTTP/1.1\r\nHost: localhost\r\n\r\n",
]
TEXTS = [
    b'{"id":"1","subscribe":{"subscriptions":[{"subject":"/f","history":3},{"subject":"/g"}]}}',
    b'{"id":"2","subscribe":{"subscriptions":[{"subject":"/f","afterSeq":"1"}]}}',
    b'{"id":"3","unsubscribe":{"subjects":["/f"]}}',
    b'{"id":"4","publish":{"subject":"/f","text":"hi","publicationId":"p","headers":{"a":"b"}}}',
    b'{"id":"5","publish":{"subject":"/f","data":"aGk=","contentType":"x/y","transient":true}}',
    b'{"id":"6","setExternalToken":{"uri":"fcm:abc","replaces":"fcm:old"}}',
    b'{"id":"7","removeExternalToken":{"uri":"fcm:abc"}}',
    b'{"id":"8","setActivity":{"active":true}}',
    b'{"id":"9","refresh":{"token":"x"}}',
    b'{"id":"10","ack":{"positions":[{"subject":"/f","seq":"1"}]}}',
    b'{"id":"11","connect":{"clientId":"c","lastGeneration":"7"}}',
    b'{"id":"12","logout":{}}',
]
PIECES = [
    *(b"{", b"}", b'"', b"[", b"]", b"null", b"-1", b"1e999", b"\\u0000", b"\xff", b"\r\n"),
    *(b": ", b"\x00", b"18446744073709551616", b"/", b"%2f", b"Content-Length: 99\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n", b"Upgrade: h2c\r\n"),
]


def mutated(chance: random.Random, data: bytes) -> bytes:
    """`data` with a few changes of chance."""
    text = bytearray(data)
    for _ in range(chance.randint(0, 4)):
        at = chance.randrange(len(text) + 1)
        how = chance.randrange(5)
        if how == 0 and at < len(text):
            text[at] = chance.randrange(256)
        elif how == 1:
            del text[at : at + chance.randint(1, 20)]
        elif how == 2:
            text[at:at] = text[at : at + chance.randint(1, 60)]
        elif how == 3:
            text[at:at] = chance.choice(PIECES)
        else:
            text[at:at] = chance.randbytes(chance.choice([1, 3, 200]))
    return bytes(text)


def some_frame(chance: random.Random) -> bytes:
    """A frame, whole or not quite."""
    payload = (
        mutated(chance, chance.choice(TEXTS)) if chance.random() < 0.5 else chance.randbytes(7)
    )
    opcode = chance.choice([0, 1, 1, 1, 2, 8, 9, 10, chance.randrange(16)])
    made = frame(opcode, payload[:120] if opcode > 7 else payload, fin=chance.random() < 0.8)
    return made if chance.random() < 0.6 else mutated(chance, made)


def send(one: socket.socket, data: bytes, chance: random.Random) -> bool:
    """Sends in one piece or two, without waiting for answers; False if the edge has hung up."""
    cut = chance.choice([0, 0, 0, chance.randint(0, len(data))])
    try:
        for part in (data[:cut], data[cut:]):
            one.send(part)
        one.setblocking(False)
        while one.recv(65_536):
            pass
    except BlockingIOError:
        one.setblocking(True)
        return True
    except OSError:
        pass
    return False


def fuzz_http(port: int, chance: random.Random) -> int:
    """Requests; returns how many inputs were sent."""
    sent = 0
    with dial(port) as one:
        for _ in range(chance.randint(1, 3)):
            sent += 1
            if not send(one, mutated(chance, chance.choice(REQUESTS)), chance):
                break
    return sent


def fuzz_frames(port: int, chance: random.Random) -> int:
    """Frames of RFC 6455, before and after `connect`."""
    client = RawClient(port, "eve")
    if chance.random() < 0.5:
        client.ask(connect={"clientId": f"f-{chance.randrange(4)}"})
    sent = 0
    with client.socket as one:
        for _ in range(FRAMES):
            sent += 1
            if not send(one, some_frame(chance), chance):
                break
    return sent


def fuzz_texts(port: int, chance: random.Random) -> int:
    """JSON in whole frames, which ends no connection but by logging out."""
    client = RawClient(port, "eve")
    client.ask(connect={"clientId": f"t-{chance.randrange(4)}"})
    sent = 0
    with client.socket as one:
        for _ in range(FRAMES):
            sent += 1
            text = mutated(chance, chance.choice(TEXTS)).decode(errors="replace").encode()
            if not send(one, frame(1, text), chance):
                break
    return sent


def test_random_input_at_every_level_harms_nobody(suite: Suite) -> None:
    chance = random.Random(SEED)
    levels: list[Callable[[int, random.Random], int]] = [fuzz_http, fuzz_frames, fuzz_texts]
    healthy = RawClient(suite.port, "ann")
    healthy.ask(connect={"clientId": "ann", "subscriptions": {"list": [{"subject": "/ann"}]}})
    pid = suite.child("edge")
    memory: list[tuple[float, int]] = []
    inputs = batches = 0
    began = time.monotonic()
    while time.monotonic() - began < SECONDS if SECONDS else batches < BATCHES:
        for level in levels:
            for _ in range(CONNECTIONS):
                inputs += level(suite.port, chance)
        batches += 1
        published = healthy.ask(publish={"subject": "/ann", "text": str(batches)})
        assert published["published"]["seq"] == str(batches), f"seed {SEED}, batch {batches}"
        if batches % 10 == 0:
            memory.append((time.monotonic() - began, edge_memory(suite)))
    assert suite.child("edge") == pid
    logs = (suite.data_dir / "logs" / "edge.log").read_text()
    for event in ("session_failed", "request_failed", "Traceback", "Exception in callback"):
        assert event not in logs, f"seed {SEED}: {event}"
    if SECONDS:
        tell(inputs=inputs, batches=batches, **slope(memory))


def slope(memory: list[tuple[float, int]]) -> dict[str, float]:
    """Of the second half, in KiB a minute, by least squares; and the memory at its ends."""
    half = memory[len(memory) // 2 :]
    times = [at for at, _ in half]
    mean_at, mean = sum(times) / len(half), sum(size for _, size in half) / len(half)
    rise = sum((at - mean_at) * (size - mean) for at, size in half)
    run = sum((at - mean_at) ** 2 for at in times)
    return {
        "kib_per_minute": round(rise / run / 1024 * 60, 1),
        "half_mib": round(half[0][1] / 1048576, 1),
        "end_mib": round(half[-1][1] / 1048576, 1),
        "start_mib": round(memory[0][1] / 1048576, 1),
    }


def test_the_slope_is_seen() -> None:
    memory = [(float(at), 1024 * at) for at in range(100)]
    assert slope(memory)["kib_per_minute"] == 60.0
    assert json.dumps(slope(memory))
