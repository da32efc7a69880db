"""Builds the load programs with the C compiler, and talks to them by lines of text."""

import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SOURCES = Path(__file__).parent
NAMES = ("subscribe", "publish", "floor")
_FLAGS = ("-O2", "-Wall", "-Wextra", "-Wno-unused-function", "-Werror")


class ProgramFailed(Exception):
    """A load program ended, or said nothing in time. The text is its own."""


def compiler() -> str | None:
    """The C compiler of this machine, if it has one."""
    return shutil.which(os.environ.get("CC", "cc"))


def build(directory: Path) -> None:
    """Compiles every load program into `directory`."""
    cc = compiler()
    assert cc is not None, "no C compiler"
    for name in NAMES:
        command = [cc, *_FLAGS, "-o", str(directory / name), str(SOURCES / f"{name}.c")]
        subprocess.run(command, check=True)


class Program:
    """A load program that runs; `ask` sends a line and reads one."""

    def __init__(self, binary: Path, options: dict[str, Any]) -> None:
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        self._name = binary.name
        self.process = subprocess.Popen(
            [str(binary), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def tell(self, line: str) -> None:
        """Sends a line; nothing is answered."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise ProgramFailed(self._last_words()) from None

    def read(self, deadline_s: float = 10) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], deadline_s)
        line = self.process.stdout.readline() if readable else ""
        if not line:
            raise ProgramFailed(self._last_words())
        return line.strip()

    def wait_for(self, word: str, deadline_s: float) -> None:
        """Waits for a line that is this word."""
        line = self.read(deadline_s)
        if line != word:
            raise ProgramFailed(f"{self._name} printed {line!r} in place of {word!r}")

    def report(self) -> dict[str, Any]:
        """What it has counted since `mark`."""
        self.tell("report")
        return dict(json.loads(self.read()))

    def end(self) -> None:
        """Ends it; its connections are reset or closed by the kernel."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    pass  # a line that it did not live to read

    def _last_words(self) -> str:
        self.process.kill()
        _, errors = self.process.communicate()
        return f"{self._name} ended or was silent: {errors.strip() or self.process.returncode}"


@contextmanager
def running(directory: Path, name: str, **options: Any) -> Iterator[Program]:
    """A load program that ends with the block."""
    program = Program(directory / name, options)
    try:
        yield program
    finally:
        program.end()


def counted(programs: Sequence[Program], seconds: float) -> list[dict[str, Any]]:
    """Lets programs count for some seconds, all over the same time."""
    for program in programs:
        program.tell("mark")
    time.sleep(seconds)
    return [program.report() for program in programs]
