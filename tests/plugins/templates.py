"""The notifier templates: what builds, tests and starts each, with its language's own tools.

Drive it: `TEMPLATES["go"].need()`, `build()`, then `with Running(template, folder) as plugin`.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import pytest

from tests.path.stack import base_environ

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build/plugins"
SECRET = "5d0c6f1e9b7a4c3d8e2f1a0b9c8d7e6f"
READY_S = 60
ENDED_S = 20
# Where the installers of these languages put them, if the caller's PATH does not say.
PLACES = [str(Path.home() / ".cargo/bin"), "/usr/local/go/bin"]
PATH = os.pathsep.join([os.environ["PATH"], *PLACES])


@dataclass(frozen=True)
class Template:
    """A template, its tools, and commands in its folder."""

    language: str
    tools: Sequence[str]
    commands: Sequence[Sequence[str]]  # build it and run its tests
    start: Sequence[str]

    @property
    def folder(self) -> Path:
        return ROOT / "plugins" / self.language

    def need(self) -> None:
        """Skip the test that calls this, if a tool is missing."""
        for tool in self.tools:
            if shutil.which(tool, path=PATH) is None:
                pytest.skip(f"{tool} is not installed")

    def run(self, command: Sequence[str], folder: Path | None = None) -> None:
        """Run a command to its end; it must succeed."""
        niced = ["nice", "-n", "10", *command]
        done = subprocess.run(
            niced, cwd=folder or self.folder, env=environ(), capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        said = f"{done.stdout[-6_000:]}\n{done.stderr[-6_000:]}"
        assert done.returncode == 0, f"{' '.join(command)}\n{said}"


VENV = BUILD / "python"
TEMPLATES = {
    one.language: one
    for one in (
        Template(
            "python",
            (),
            (
                (sys.executable, "-m", "venv", str(VENV)),
                (f"{VENV}/bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check",
                 "-r", "requirements-test.txt"),
                (f"{VENV}/bin/python", "-m", "pytest", "-q"),
            ),
            (f"{VENV}/bin/python", "notifier.py"),
        ),
        Template(
            "go",
            ("go",),
            (
                ("go", "vet", "./..."),
                ("go", "test", "./..."),
                ("go", "build", "-buildvcs=false", "-o", str(BUILD / "go/example-notifier"), "."),
            ),
            (str(BUILD / "go/example-notifier"),),
        ),
        Template(
            "node",
            ("node", "npm"),
            (("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"), ("npm", "test")),
            ("node", "src/main.js"),
        ),
        Template(
            "java",
            ("java", "mvn"),
            (("mvn", "-q", "-B", "package"),),
            ("java", "-jar", "target/example-notifier.jar"),
        ),
        Template(
            "rust",
            ("cargo",),
            (("cargo", "test", "--locked", "-q"), ("cargo", "build", "--locked", "-q")),
            ("target/debug/example-notifier",),
        ),
    )
}  # fmt: skip


def environ(**more: str) -> dict[str, str]:
    """What a tool or plugin is started with."""
    return base_environ() | {"PATH": PATH} | more


class Running:
    """A template that serves, on a drawn port. Leaving the block stops it as an operator does."""

    def __init__(self, template: Template, folder: Path, **settings: str) -> None:
        self.sent = folder / "sent.jsonl"
        self.log = folder / "plugin.log"
        own = {"ONWARD_PLUGIN_LISTEN": "127.0.0.1:0", "ONWARD_PLUGIN_SENT_LOG": str(self.sent)}
        out = folder / "plugin.out"
        with self.log.open("w") as log, out.open("w") as stdout:
            self.process = subprocess.Popen(
                template.start, cwd=template.folder, env=environ(**own, **settings),
                stdout=stdout, stderr=log,
            )  # fmt: skip
        self._out = out
        self.address = ""

    def __enter__(self) -> "Running":
        end = time.monotonic() + READY_S
        while not self._out.read_text().endswith("\n"):
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, "not ready in time"
            time.sleep(0.05)
        self.address = self._out.read_text().split()[-1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self.process.terminate()
        try:
            code = self.process.wait(ENDED_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        if kind is None:
            assert code == 0, self.log.read_text()[-2_000:]
