"""The shell with real processes: small programs that stand in for the services."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from services.cli import up_data
from services.cli.supervision import Limits, Supervision
from services.cli.up_machine import draw_ports
from services.cli.up_plan import Child
from services.cli.up_processes import Processes
from tests.waiting import until

SERVER = """
import http.server, os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: (print("draining", flush=True), os._exit(0)))
if "stubborn" in sys.argv: signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("hello", os.getpid(), flush=True)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/readyz" else 404); self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def server(name: str, port: int, *words: str) -> Child:
    command = (sys.executable, "-I", "-S", "-c", SERVER, str(port), *words)
    return Child(name, command, dict(os.environ), http_port=port, http_path="/readyz", shown=True)


class Terminal:
    """What is shown, and the children's pids as they print them."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.ready = 0

    def show(self, line: str) -> None:
        self.lines.append(line)

    def became_ready(self) -> None:
        self.ready += 1

    def pids(self) -> list[int]:
        return [int(row.split()[1]) for row in self.lines if row.startswith("hello")]


def processes(directory: Path, children: list[Child], terminal: Terminal) -> Processes:
    core = Supervision(
        {child.name: child.needs for child in children},
        {(child.name,): 1.0 for child in children},
        Limits(backoff_first_s=0.05),
    )
    show, ready = terminal.show, terminal.became_ready
    return Processes(children, core, directory, "s" * 16, show, show, ready)


def test_children_are_restarted_shown_and_stopped_in_order(run: Any, tmp_path: Path) -> None:
    async def body() -> None:
        ports = draw_ports(0)
        terminal = Terminal()
        children = [server("a", ports.http[0]), server("b", ports.edge[0])]
        with up_data.held(tmp_path) as directory:
            task = asyncio.create_task(processes(directory, children, terminal).run())
            await until(lambda: terminal.ready)
            os.kill(terminal.pids()[0], signal.SIGKILL)
            await until(lambda: len(terminal.pids()) == 3)
            await until(lambda: any("is ready again" in row for row in terminal.lines))
            assert terminal.ready == 1
            assert any("ended by SIGKILL; starting it again" in row for row in terminal.lines)
            os.kill(os.getpid(), signal.SIGTERM)
            assert await task == 0
            assert terminal.lines[-2:] == ["draining", "draining"]

    run(body())


def test_one_that_ignores_sigterm_is_killed_after_its_share(run: Any, tmp_path: Path) -> None:
    async def body() -> None:
        terminal = Terminal()
        children = [server("a", draw_ports(0).http[0], "stubborn")]
        with up_data.held(tmp_path) as directory:
            task = asyncio.create_task(processes(directory, children, terminal).run())
            await until(lambda: terminal.ready)
            os.kill(os.getpid(), signal.SIGINT)
            assert await task == 0
            assert "onward: a takes too long to stop" in terminal.lines

    run(body())


def test_a_refusal_to_start_is_shown_and_ends_everything(run: Any, tmp_path: Path) -> None:
    async def body() -> None:
        terminal = Terminal()
        program = "import sys; print('the port is in use', file=sys.stderr); sys.exit(2)"
        refusing = Child("b", (sys.executable, "-I", "-S", "-c", program), {})
        children = [server("a", draw_ports(0).http[0]), refusing]
        with up_data.held(tmp_path) as directory:
            assert await processes(directory, children, terminal).run() == 2
            assert "b cannot start: the port is in use" in terminal.lines

    run(body())


def test_a_child_that_prints_without_end_is_still_read(run: Any, tmp_path: Path) -> None:
    async def body() -> None:
        terminal = Terminal()
        program = "import time; print('x' * 5_000_000); print('after', flush=True); time.sleep(60)"
        child = Child("a", (sys.executable, "-I", "-S", "-c", program), {}, shown=True)
        with up_data.held(tmp_path) as directory:
            task = asyncio.create_task(processes(directory, [child], terminal).run())
            await until(lambda: terminal.lines and terminal.lines[-1] == "after")
            assert "onward: a line too long to show" in terminal.lines
            os.kill(os.getpid(), signal.SIGTERM)
            assert await task == 0

    run(body())


def test_a_program_that_is_not_there_is_tried_again(run: Any, tmp_path: Path) -> None:
    async def body() -> None:
        terminal = Terminal()
        with up_data.held(tmp_path) as directory:
            children = [Child("a", ("/nonexistent/program",), {})]
            task = asyncio.create_task(processes(directory, children, terminal).run())
            await until(lambda: len(terminal.lines) >= 4)
            assert terminal.lines[0] == "onward: a cannot be started: No such file or directory"
            os.kill(os.getpid(), signal.SIGTERM)
            assert await task == 0

    run(body())
