"""docs/writing-a-notifier.md: both ways to a working plugin, from scratch, as they are written.

Only what would collide with others on this machine is put elsewhere: folders, ports.
"""

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.docs.test_code_blocks import NOTIFIER_PAGE, Block
from tests.path.stack import ONWARD, Suite, ended, free_port
from tests.plugins.templates import PATH, ROOT, TEMPLATES, environ
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(900)
SHELL = [block for block in NOTIFIER_PAGE if block.language == "sh"]
MAKE_UP, *_ = SHELL
WAITS_S = 60  # for the grace of ten seconds, and for what it takes on a busy machine


def the(language: str, *words: str) -> Block:
    """The block of a language that holds these words."""
    (block,) = [
        b for b in NOTIFIER_PAGE if b.language == language and all(w in b.text for w in words)
    ]
    return block


class Reader:
    """Somebody who follows the guide, in `folder` instead of /tmp."""

    def __init__(self, folder: Path, suite: Suite, port: int) -> None:
        self._places = {
            "/tmp/": f"{folder}/", "onward-data": str(suite.data_dir), "7500": str(port)
        }  # fmt: skip
        # What the first of a terminal's blocks activates, others of that terminal have too.
        path = f"{Path(ONWARD).parent}{os.pathsep}{PATH}"
        self._environ = environ() | {
            "ONWARD_URL": suite.url, "ONWARD_PLUGIN_LISTEN": f"127.0.0.1:{port}",
            "XDG_STATE_HOME": str(folder / "state"), "PATH": path
        }  # fmt: skip
        self.folder = folder

    def text(self, block: Block) -> str:
        text = block.text
        for written, place in self._places.items():
            text = text.replace(written, place)
        return text

    def does(self, block: Block) -> str:
        """Plays a block to its end; it must succeed. What it prints."""
        done = subprocess.run(
            ["sh", "-ec", self.text(block)], cwd=ROOT, env=self._environ,
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{block.text}\n{done.stdout[-3_000:]}\n{done.stderr[-3_000:]}"
        return done.stdout

    @contextmanager
    def leaves_running(self, block: Block) -> Iterator[None]:
        """Plays a block that goes on, once it is ready."""
        out = self.folder / "plugin.out"
        with out.open("w") as stdout, (self.folder / "plugin.log").open("w") as log:
            process = subprocess.Popen(
                ["sh", "-ec", self.text(block)], cwd=ROOT, env=self._environ,
                stdout=stdout, stderr=log,
            )  # fmt: skip
        try:
            wait_for(lambda: "outbox ready" in out.read_text(), WAITS_S, "the plugin is ready")
            yield
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """With `make up` running as the guide's first block says."""
    port = free_port()
    (name, value), *_ = re.findall(r"^(\w+)=(\S+) make up$", MAKE_UP.text)
    assert value == "127.0.0.1:7500"
    up = Suite(tmp_path / "data", {name: f"127.0.0.1:{port}"})
    with ended(up):
        up.wait_ready()
        yield Reader(tmp_path, up, port)


def wait_for_words(path: Path, words: str) -> None:
    there: Callable[[], bool] = lambda: path.exists() and words in path.read_text()  # noqa: E731
    wait_for(there, WAITS_S, f"{words!r} in {path}")


def test_in_python(reader: Reader) -> None:
    reader.does(the("sh", "cp -r plugins/python"))
    (reader.folder / "outbox/send.py").write_text(the("python", "NAME =").text)
    with reader.leaves_running(the("sh", "notifier.py")):
        assert " conforms" in reader.does(the("sh", "onward conformance", "outbox/sent"))
        reader.does(the("sh", "onward subscribe"))
        wait_for_words(reader.folder / "outbox/sent/ann@example.org", "are you there?")
        assert "accepted" in reader.does(the("sh", "onward explain")).lower()


def test_in_go(reader: Reader) -> None:
    TEMPLATES["go"].need()
    reader.does(the("sh", "cp -r plugins/go"))
    (reader.folder / "outbox-go/send.go").write_text(the("go", "func send").text)
    with reader.leaves_running(the("sh", "go build")):
        reader.does(the("sh", "onward subscribe"))
        said = reader.does(the("sh", "onward conformance", "outbox-go/sent"))
        assert " conforms" in said
        wait_for_words(reader.folder / "outbox-go/sent/ann@example.org", "still away?")
