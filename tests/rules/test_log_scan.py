"""The look through the logs of a run finds what it must find, and a run that leaks fails."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.log_scan import CANARY, leaks_in, logs_below

ROOT = Path(__file__).parents[2]
PLANTED = [
    ("token=eyJhbGciOiJIUzI1NiJ9.e30.c2ln", "a token"),
    ("endpoint=mailto:x", "an external token"),
    ("gone=fcm:abc", "an external token"),
    ("to=ann@example.org", "a mail address"),
    (f"text={CANARY}", "marked content"),
    ("secret=0123456789abcdef", "a shared secret"),
    ('frame={"publish":{"subject":"/a"}}', "a message or frame as JSON"),
]


@pytest.mark.parametrize(("words", "what"), PLANTED)
def test_a_planted_leak_is_found(tmp_path: Path, words: str, what: str) -> None:
    path = tmp_path / "edge.log.1"
    path.write_text(f"level=info event=session_opened\nlevel=debug event=frame {words}\n")
    (leak,) = [leak for log in logs_below(tmp_path) for leak in leaks_in(log)]
    assert (leak.line, leak.what, leak.event) == (2, what, "frame")
    path.unlink()


def test_the_secret_of_a_data_directory_is_looked_for_in_its_logs(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("drawn-and-not-known\n")
    (tmp_path / "logs").mkdir()
    log = tmp_path / "logs/coordinator.log"
    log.write_text("event=call authorization=drawn-and-not-known\n")
    assert [leak.what for leak in leaks_in(log)] == ["the shared secret"]
    log.unlink()


@pytest.mark.parametrize("processes", [0, 2])
def test_a_run_whose_logs_leak_has_failed(tmp_path: Path, processes: int) -> None:
    """Another run of pytest, with one test that passes and logs a token under an innocent name."""
    test = tmp_path / "test_leak.py"
    test.write_text(
        "from services.chassis import logs\n"
        "def test_it():\n"
        "    logs.get('x').debug('frame_refused', because='eyJ' + 'hbGciOiJIUzI1NiJ9')\n"
    )
    arguments = ["-q", "-c", ROOT / "pyproject.toml", "--rootdir", ROOT, "-p", "tests.conftest"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments, "-n", str(processes),
         "--basetemp", tmp_path / "run", test],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "tests.log:1: a token in 'frame_refused'" in done.stdout
    for log in logs_below(tmp_path / "run"):
        log.unlink()
