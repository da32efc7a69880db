"""The example extension stands by itself: generated, started and tested as its README says."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.path.stack import Program, base_environ, ended
from tests.waiting import wait_for

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy with its own stubs, out of reach of this project's."""
    copy = tmp_path / "fcm_chat_extension"
    shutil.copytree(
        ROOT / "plugins/python/fcm_chat_extension",
        copy,
        ignore=shutil.ignore_patterns("onward", "__pycache__", "*.sqlite*"),
    )
    shutil.copytree(ROOT / "protos", copy / "protos")
    subprocess.run(
        ["sh", "generate.sh"],
        cwd=copy,
        env=environ(),
        check=True,
        timeout=60,
    )
    return copy


def environ(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in base_environ().items() if name != "PYTHONPATH"}
    return kept | {"PYTHON": sys.executable, "PYTHONDONTWRITEBYTECODE": "1"} | more


def test_its_own_tests_pass(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=folder,
        env=environ(),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr[-1_000:]


def test_it_says_where_it_serves_and_ends_when_asked(folder: Path) -> None:
    program = Program(
        [sys.executable, "extension.py"],
        environ(ONWARD_SECRET="a secret of sixteen or more", EXTENSION_LISTEN="127.0.0.1:0"),
        folder,
    )
    with ended(program):
        wait_for(lambda: program.output.all, 30, "the ready line")
        assert program.output.all[0].startswith("fcm-chat ready: 127.0.0.1:")
        assert program.end() == 0


def test_without_a_secret_it_says_so(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "extension.py"],
        cwd=folder,
        env=environ(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("fcm-chat: ONWARD_SECRET is not set")
    assert not (folder / "fcm-chat.sqlite").exists()
