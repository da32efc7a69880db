"""Client frames for the tests: masked, and wrong wherever a test wants them wrong."""

import struct

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def client_frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    reserved: int = 0,
    key: bytes | None = b"\x11\x22\x33\x44",
    length_form: int | None = None,
) -> bytes:
    """One frame as a client sends it; `key` None leaves it unmasked."""
    size = len(payload)
    form = length_form or (7 if size <= 125 else 16 if size < 1 << 16 else 64)
    masked = 0x80 if key is not None else 0
    head = bytes(((0x80 if fin else 0) | reserved | opcode,))
    if form == 7:
        head += bytes((masked | size,))
    elif form == 16:
        head += bytes((masked | 126,)) + struct.pack(">H", size)
    else:
        head += bytes((masked | 127,)) + struct.pack(">Q", size)
    if key is None:
        return head + payload
    return head + key + bytes(byte ^ key[i % 4] for i, byte in enumerate(payload))


def close_payload(code: int, reason: bytes = b"") -> bytes:
    return struct.pack(">H", code) + reason
