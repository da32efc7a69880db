"""Settings of the edge that stop the start, each with its sentence; through the real process."""

import os
import socket as tcp
import subprocess
import sys
from pathlib import Path

import pytest

from services.chassis.errors import SettingError
from services.edge.settings import Settings, check

ROOT = Path(__file__).parents[2]
SECRET = "sixteen characters"


def start(**variables: str) -> subprocess.CompletedProcess[str]:
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}",
        "ONWARD_SECRET": SECRET,
        "ONWARD_EDGE_ADDRESS": "127.0.0.1:0",
    }
    return subprocess.run(
        [sys.executable, "-m", "services.edge"],
        env=environ | variables,
        capture_output=True,
        text=True,
        timeout=30,
        cwd=ROOT,
    )


def test_a_wrong_setting_ends_the_start_with_one_sentence() -> None:
    ended = start(ONWARD_EDGE_SOCKETS_MAX="many")
    assert ended.returncode == 2
    assert ended.stderr.splitlines() == [
        "ONWARD_EDGE_SOCKETS_MAX is 'many'; set it to a whole number"
    ]


def test_a_busy_port_ends_the_start_with_one_sentence() -> None:
    with tcp.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        address = f"127.0.0.1:{busy.getsockname()[1]}"
        ended = start(ONWARD_EDGE_ADDRESS=address)
    assert ended.returncode == 2
    [sentence] = ended.stderr.splitlines()
    assert address in sentence
    assert "ONWARD_EDGE_ADDRESS" in sentence


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"secret": "short"}, "ONWARD_SECRET"),
        ({"jwt_hs256_secret": "short"}, "ONWARD_EDGE_JWT_HS256_SECRET"),
        ({"anonymous": True, "address": "0.0.0.0:8080"}, "ONWARD_EDGE_ANONYMOUS"),
        ({"anonymous": True, "address": "[::]:8080"}, "ONWARD_EDGE_ANONYMOUS"),
        ({"anonymous": True, "address": "edge.example.org:80"}, "ONWARD_EDGE_ANONYMOUS"),
        ({"write_high_bytes": 3_000_000}, "ONWARD_EDGE_WRITE_BYTES_MAX"),
        ({"public_url": "push.example.org"}, "ONWARD_PUBLIC_URL"),
        ({"public_url": "https://push.example.org/path"}, "ONWARD_PUBLIC_URL"),
        ({"public_url": "https://push.example.org?x"}, "ONWARD_PUBLIC_URL"),
    ],
)
def test_what_does_not_fit_together_is_named(changes: dict[str, object], named: str) -> None:
    with pytest.raises(SettingError, match=named):
        check(Settings(**{"secret": SECRET} | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.5:1", "[::1]:1", "localhost:1"])
def test_anonymous_access_is_for_loopback(address: str) -> None:
    check(Settings(secret=SECRET, anonymous=True, address=address))
