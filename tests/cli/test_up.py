"""`run_up` in a process of its own: what refuses to start, and what is left behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.cli import up_data
from services.cli.up_machine import draw_ports
from tests.processes import alive, descendants, slowness
from tests.waiting import wait_for

ROOT = Path(__file__).parents[2]
PROGRAM = (
    "import sys; from pathlib import Path; from services.cli.up import run_up; "
    "run_up(Path(sys.argv[1]), int(sys.argv[2]))"
)


def command(data_dir: Path, port: int = 0) -> list[str]:
    return [sys.executable, "-c", PROGRAM, str(data_dir), str(port)]


def environ(**variables: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}", **variables}


def refused(data_dir: Path, port: int = 0, **variables: str) -> str:
    """The one sentence of an `onward up` that ends with code 2."""
    ended = subprocess.run(
        command(data_dir, port), env=environ(**variables), capture_output=True, text=True,
        timeout=40,
    )  # fmt: skip
    assert ended.returncode == 2, ended.stdout + ended.stderr
    sentences = ended.stderr.splitlines()
    assert len(sentences) == 1, ended.stderr
    return sentences[0]


def test_a_second_one_on_the_same_data_directory_is_refused(tmp_path: Path) -> None:
    with up_data.held(tmp_path):
        assert "another onward up uses" in refused(tmp_path)


def test_a_busy_port_is_refused(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert "--port" in refused(tmp_path, other.getsockname()[1])


def test_a_data_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "--data-dir" in refused(tmp_path / "file")


def test_a_variable_that_would_mean_nothing_is_refused(tmp_path: Path) -> None:
    assert "ONWARD_ETCD" in refused(tmp_path, ONWARD_ETCD="127.0.0.1:2379")


@pytest.mark.parametrize(
    ("variable", "value"),
    [("ONWARD_SMTP_URL", "http://mail"), ("ONWARD_PRESENCE_GRACE_S", "soon"),
     ("ONWARD_EDGE_ROUNDS", "1")],
)  # fmt: skip
def test_a_wrong_setting_of_a_service_is_told_and_ends_everything(
    tmp_path: Path, variable: str, value: str
) -> None:
    sentence = refused(tmp_path, **{variable: value})
    assert variable in sentence
    assert variable.split("_")[1].lower() in sentence or "notifier" in sentence


@contextmanager
def running(data_dir: Path) -> Iterator[tuple["subprocess.Popen[str]", list[int]]]:
    """An `onward up` with all its children started, and their pids."""
    process = subprocess.Popen(
        command(data_dir), env=environ(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip
    try:
        wait_for(lambda: len(descendants(process.pid)) >= 5, 15)
        yield process, descendants(process.pid)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("moment_s", [0.0, 0.3, 1.0])
def test_a_kill_leaves_no_child_whenever_it_comes(tmp_path: Path, moment_s: float) -> None:
    with running(tmp_path) as (process, pids):
        time.sleep(moment_s)  # Not a wait for something: the moment of the kill is the case.
        pids = list({*pids, *descendants(process.pid)})
        process.kill()
        process.wait()
        # One that was just importing what it needs notices only then.
        wait_for(lambda: not any(map(alive, pids)), 5 * slowness())
    # The directory is free again at once.
    with up_data.held(tmp_path):
        pass


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_ends_everything_within_five_seconds(tmp_path: Path, number: int) -> None:
    with running(tmp_path) as (process, pids):
        began = time.monotonic()
        process.send_signal(number)
        output, _ = process.communicate(timeout=10)
        assert process.returncode == 0, output
        assert time.monotonic() - began < 5
        assert not any(map(alive, pids))
        assert output.splitlines()[-1] == "onward: stopped"


def test_the_port_is_drawn_when_none_is_asked_for() -> None:
    assert draw_ports(0).http != draw_ports(0).edge
