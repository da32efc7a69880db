"""Running a service: exit codes, signals, a parent that dies."""

import os
import select
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]


def start(code: str, **environ: str) -> "subprocess.Popen[str]":
    """A Python process with the repository on its path, its output piped."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}", "PATH": os.environ["PATH"], **environ},
    )


def test_a_wrong_setting_is_one_sentence_and_exit_code_2() -> None:
    process = start("""
        from services.chassis.errors import SettingError
        from services.chassis.process import run
        async def main(stop):
            raise SettingError("ONWARD_X is 'y'; set it to a number")
        run(main)
    """)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (2, "ONWARD_X is 'y'; set it to a number\n")


def test_sigterm_ends_it_with_exit_code_0() -> None:
    process = start("""
        from services.chassis.process import run
        async def main(stop):
            print("ready", flush=True)
            await stop.wait()
            print("drained", flush=True)
        run(main)
    """)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=20)
    assert (process.returncode, output) == (0, "drained\n")


def test_a_bug_ends_it_with_code_1_and_its_place_but_not_its_words() -> None:
    process = start("""
        import threading
        from services.chassis.process import run
        def fail():
            int("what Ann wrote")
        async def main(stop):
            thread = threading.Thread(target=fail)
            thread.start()
            thread.join()
            fail()
        run(main)
    """)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "wrote" not in errors
    assert errors.count("ValueError") == 2
    assert errors.count("uncaught") == 2
    assert "<string>:5" in errors


CHILD = """
import asyncio
from services.chassis.process import run

async def main(stop):
    print("ready", flush=True)
    await asyncio.sleep(60)

run(main)
"""


def test_a_child_dies_with_its_parent(tmp_path: Path) -> None:
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    parent = start(f"""
        import os, subprocess, sys, time
        child = subprocess.Popen([sys.executable, {str(script)!r}], stdout=subprocess.PIPE,
            env=os.environ | {{"ONWARD_DIE_WITH_PARENT": "1"}})
        assert child.stdout.readline() == b"ready\\n"
        print(child.pid, flush=True)
        time.sleep(60)
    """)
    assert parent.stdout is not None
    line = parent.stdout.readline()
    assert line, "the child did not start"
    descriptor = os.pidfd_open(int(line))
    parent.kill()
    parent.communicate()
    assert select.select([descriptor], [], [], 10)[0], "the child lives on"
    os.close(descriptor)
