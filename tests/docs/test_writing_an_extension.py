"""The extension of the guide does what the guide says, as a reader would try it."""

import os
import shlex
import sqlite3
import subprocess
import sys
from pathlib import Path

from tests.docs.test_code_blocks import BLOCKS, EXTENSION
from tests.path.stack import Program, Subscriber, Suite, base_environ, ended, free_port
from tests.waiting import wait_for

(PROGRAM,) = [
    b for b in BLOCKS if b.page == "docs/writing-an-extension.md" and b.language == "python"
]


def rows(path: Path, sql: str) -> list[tuple[object, ...]]:
    if not path.exists():
        return []
    with sqlite3.connect(path) as db:
        return db.execute(sql).fetchall()


def test_the_extension_of_the_guide_sees_what_happens(tmp_path: Path) -> None:
    run_it, try_it = EXTENSION
    assert shlex.split(run_it.text.splitlines()[1])[-2:] == ["python", "seen.py"]
    suite = Suite(tmp_path / "onward-data", {})
    port = free_port()
    (tmp_path / "seen.py").write_text(PROGRAM.text.replace("7700", str(port)))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with ended(suite):
        suite.wait_ready()
        environ = base_environ() | {"PATH": path, "ONWARD_URL": suite.url}
        activate = (". .venv/bin/activate\n", "")  # The environment of the tests stands for it.
        seen = Program(["sh", "-ec", run_it.text.replace(*activate)], environ, tmp_path)
        reader = Subscriber(suite, tmp_path / "state", "/chat/1", "--user", "ann")
        with ended(seen, reader):
            text = try_it.text.replace(*activate).replace("7700", str(port))
            done = subprocess.run(
                ["sh", "-ec", text], env=environ, cwd=tmp_path,
                capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            assert "seen is registered at" in done.stdout and "/chat/*" in done.stdout
            file = tmp_path / "seen.db"
            wait_for(
                lambda: rows(file, "SELECT * FROM said") == [("/chat/1", 1)],
                20, "it has seen the message, and no other",
            )  # fmt: skip
            reader.wait_event("connected")
            reader.kill()
            again = Subscriber(suite, tmp_path / "state", "/chat/1", "--user", "ann")
            with ended(again):
                again.wait_event("connected")
                wait_for(
                    lambda: rows(file, "SELECT user, here FROM seen") == [("ann", 1)],
                    20, "it has seen who came",
                )  # fmt: skip
                again.end()
            wait_for(
                lambda: rows(file, "SELECT user, here FROM seen") == [("ann", 0)],
                30, "it has seen who went",
            )  # fmt: skip
