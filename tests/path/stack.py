"""The whole suite as an operator starts it, and programs that talk to it, for tests of the path."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.processes import alive, descendants
from tests.waiting import wait_for

ROOT = Path(__file__).parents[2]
ONWARD = str(Path(sys.executable).with_name("onward"))

# Times short enough for tests; every one is a setting that an operator has too.
QUICK = {
    "ONWARD_PRESENCE_GRACE_S": "1.5",
    "ONWARD_PRESENCE_GRACE_CLEAN_S": "1.5",
    "ONWARD_PRESENCE_GRACE_DEAD_EDGE_S": "3",
}


def free_port() -> int:
    """A port on loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def free_row(count: int) -> int:
    """The first of as many such ports in a row."""
    while True:
        first = free_port()
        try:
            for port in range(first + 1, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first


class Lines:
    """The lines a process prints, collected as they come."""

    def __init__(self, stream: Any) -> None:
        self.all: list[str] = []
        self._thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._thread.start()

    def _read(self, stream: Any) -> None:
        for line in stream:
            self.all.append(line.rstrip("\n"))


def kill(pid: int, number: int) -> None:
    """Send a signal, unless the process has died with its parent already."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


class Program:
    """A process with its output collected, ended by its pid at the latest with the test."""

    def __init__(self, arguments: list[str], environ: dict[str, str], cwd: Path = ROOT) -> None:
        self.process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd,
            env=environ,
        )
        self.output = Lines(self.process.stdout)
        self.errors = Lines(self.process.stderr)

    def signal(self, number: int) -> None:
        """Send a signal, if the process is still there."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and reap."""
        self.process.kill()
        self.process.wait(10)

    def end(self, deadline_s: float = 10) -> int:
        """SIGTERM, wait, and return the exit code."""
        self.process.terminate()
        return self.process.wait(deadline_s)


class Suite(Program):
    """`onward up` on a data directory, with the programs of `tree` if one is given.

    `options`: more than one of a kind, and where they keep what they share, such as
    `("--edges", "2")`. `urls` has one of each edge, `url` the first edge's.
    """

    def __init__(
        self,
        data_dir: Path,
        environ: dict[str, str],
        port: int = 0,
        tree: Path | None = None,
        options: Sequence[str] = (),
    ) -> None:
        edges = int(dict(zip(options[::2], options[1::2], strict=True)).get("--edges", 1))
        self.port = port or free_row(edges)
        self.urls = [f"http://127.0.0.1:{port}" for port in range(self.port, self.port + edges)]
        self.url = self.urls[0]
        self.data_dir = data_dir
        program = [ONWARD]
        if tree is not None:
            # What PYTHONPATH names comes before this installation of the project.
            program = [sys.executable, "-P", "-m", "services.cli"]
            folders = (tree, tree / "gen", tree / "sdk/python")
            environ = environ | {"PYTHONPATH": os.pathsep.join(map(str, folders))}
        arguments = [*program, "up", "--data-dir", str(data_dir), "--port", str(self.port)]
        arguments += options
        self.started_at = time.monotonic()
        super().__init__(arguments, base_environ() | environ)

    def wait_ready(self, deadline_s: float = 40) -> float:
        """Wait for the ready line; returns the seconds since the start."""

        def ready() -> bool:
            assert self.process.poll() is None, "\n".join(self.output.all + self.errors.all)
            return f"onward ready: {' '.join(self.urls)}" in self.output.all

        try:
            wait_for(ready, deadline_s, "the ready line")
        except AssertionError as error:
            raise AssertionError("\n".join([*self.output.all, *self.errors.all])) from error
        return time.monotonic() - self.started_at

    def kill_everything(self) -> None:
        """SIGKILL `onward up` and every process below it, all at once."""
        pids = [self.process.pid, *descendants(self.process.pid)]
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in pids:
                kill(pid, number)
        self.process.wait(10)
        wait_for(lambda: not any(map(alive, pids)), 10, "every process is gone")

    def child(self, name: str) -> int:
        """The pid of a child by its name: `coordinator`, and of several `coordinator-2`."""
        told = f"ONWARD_UP_CHILD={name}".encode()
        for pid in descendants(self.process.pid):
            try:
                if told in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    return pid
            except OSError:
                continue  # it has just ended
        raise AssertionError(f"no process runs {name}")

    def get(self, path: str) -> Any:
        """The JSON that `GET path` answers."""
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:
            return json.load(answer)

    def publish(self, subject: str, text: str, user: str = "bob", **fields: Any) -> dict[str, Any]:
        """Publish by HTTP; returns the answer, or raises what urllib raises."""
        request = urllib.request.Request(
            f"{self.url}/v1/publish?user={user}",
            json.dumps({"subject": subject, "text": text, **fields}).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            return dict(json.load(answer))

    def command(self, *arguments: str, deadline_s: float = 30) -> list[Any]:
        """Run `onward …  --json` to its end; returns the objects it printed."""
        done = subprocess.run(
            [ONWARD, *arguments, "--json"],
            env=base_environ() | {"ONWARD_URL": self.url},
            capture_output=True,
            text=True,
            timeout=deadline_s,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def explain(self, user: str, subject: str, seq: int) -> dict[str, Any]:
        """What `GET /v1/explain` tells of one message."""
        story = self.get(f"/v1/explain?user={user}&subject={subject}&seq={seq}")
        outcomes = story["outcomes"]
        assert len(outcomes) == 1, story
        return dict(outcomes[0])


class Subscriber(Program):
    """`onward subscribe … --json`, with its state in a folder of its own."""

    def __init__(self, suite: Suite, state: Path, *arguments: str) -> None:
        environ = base_environ() | {"ONWARD_URL": suite.url, "XDG_STATE_HOME": str(state)}
        super().__init__([ONWARD, "subscribe", *arguments, "--json"], environ)

    @property
    def events(self) -> list[dict[str, Any]]:
        """Every event printed so far."""
        return [json.loads(line) for line in list(self.output.all)]

    def messages(self) -> list[tuple[int, str, str]]:
        """(seq, kind, text) of every message printed so far."""
        return [
            (int(e["seq"]), e["kind"], e["text"]) for e in self.events if e["event"] == "message"
        ]

    def wait_event(self, name: str, deadline_s: float = 20) -> dict[str, Any]:
        """Wait for an event of that name."""

        def found() -> dict[str, Any] | None:
            assert self.process.poll() is None, "\n".join(self.errors.all)
            return next((e for e in self.events if e["event"] == name), None)

        return wait_for(found, deadline_s, f"the event {name}") or {}

    def wait_messages(self, count: int, deadline_s: float = 20) -> list[tuple[int, str, str]]:
        """Wait until that many messages were printed."""
        wait_for(lambda: len(self.messages()) >= count, deadline_s, f"{count} messages")
        return self.messages()


def base_environ() -> dict[str, str]:
    """An environment without settings of Onward."""
    return {k: v for k, v in os.environ.items() if not k.startswith("ONWARD_")}


@contextmanager
def ended(*programs: Program) -> Iterator[None]:
    """Ends the programs with the block, whatever happened in it."""
    try:
        yield
    finally:
        for program in programs:
            if program.process.poll() is None:
                below = descendants(program.process.pid)
                program.process.kill()
                program.process.wait(10)
                for pid in below:
                    kill(pid, signal.SIGKILL)
