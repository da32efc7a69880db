"""Unmasks the payload of a client's WebSocket frame (RFC 6455, section 5.3).

Uses the C routine that aiohttp is built with; a platform without it gets a slower one with
the same effect.
"""

from collections.abc import Callable


def unmask_slowly(key: bytes, payload: bytearray) -> None:
    """XORs `payload` in place with the 4 bytes of `key`, over and over."""
    size = len(payload)
    pad = int.from_bytes((key * (size // 4 + 1))[:size], "big")
    payload[:] = (int.from_bytes(payload, "big") ^ pad).to_bytes(size, "big")


def _choose() -> Callable[[bytes, bytearray], None]:
    try:
        # aiohttp ships the source of this module as Cython, so mypy cannot find it.
        from aiohttp._websocket.mask import (  # type: ignore[import-not-found]
            _websocket_mask_cython,
        )
    except ImportError:
        return unmask_slowly
    fast: Callable[[bytes, bytearray], None] = _websocket_mask_cython
    return fast


unmask = _choose()
