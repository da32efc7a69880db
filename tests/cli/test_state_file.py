import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from onward_sdk import Identity

from services.cli.outcome import Failure
from services.cli.state_file import StateFile, default_path
from tests.cli.commands import PATHS


def test_a_new_file_draws_a_client_and_remembers_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "state.json"
    first = StateFile(path, "")
    drawn = first.open()
    assert drawn.client_id.startswith("cli-")
    first.keep(drawn)
    os.close(first._lock)
    assert StateFile(path, "").open().client_id == drawn.client_id


def test_what_was_kept_comes_back(tmp_path: Path) -> None:
    identity = Identity("ann-1", 7, "log-1", {"/a": 5, "/b": 0})
    state_file = StateFile(tmp_path / "s.json", "ann-1")
    assert state_file.open() == Identity("ann-1")
    state_file.keep(identity)
    assert StateFile(tmp_path / "s.json", "ann-1").open() == identity


def test_clients_in_one_file_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    for name, seq in (("one", 1), ("two", 2)):
        state_file = StateFile(path, name)
        state_file.open()
        state_file.keep(Identity(name, 1, "log-1", {"/a": seq}))
    assert StateFile(path, "one").open().positions == {"/a": 1}


def test_a_second_process_with_the_drawn_client_draws_another_and_keeps_nothing(
    tmp_path: Path,
) -> None:
    path = tmp_path / "s.json"
    first = StateFile(path, "")
    first.keep(first.open())
    before = path.read_bytes()
    second = StateFile(path, "")
    drawn = second.open()
    assert drawn.client_id != first.open().client_id
    second.keep(drawn)
    assert second.shared
    assert path.read_bytes() == before


def test_a_client_that_was_replaced_leaves_the_file_to_its_successor(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    state_file = StateFile(path, "ann-1")
    state_file.keep(state_file.open())
    before = path.read_bytes()
    state_file.keep(Identity("client-new", 1, "log-1", {"/a": 9}))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[]",
        b'{"version": 2, "drawn": "", "clients": {}}',
        b'{"version": 1, "drawn": "", "clients": {"a": {"log_id": "L", "positions": {"L": 3}}}}',
    ],
)
def test_what_is_no_state_file_is_named_with_the_remedy(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s.json"
    path.write_bytes(content)
    with pytest.raises(Failure, match=r"s\.json is no state file.*--state-file"):
        StateFile(path, "a").open()
    assert path.read_bytes() == content


def test_a_place_that_cannot_be_used_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Failure, match=r"cannot be used .*--state-file"):
        StateFile(tmp_path / "file" / "s.json", "").open()


def test_the_default_differs_by_server_user_and_client(tmp_path: Path) -> None:
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    asked = [("http://a", "ann", ""), ("http://b", "ann", ""), ("http://a", "bob", "")]
    paths = {default_path(environ, *one) for one in [*asked, ("http://a", "ann", "../x")]}
    assert len(paths) == 4
    assert {path.parent for path in paths} == {tmp_path / "onward"}


KEEPS_ON = """
import sys
from pathlib import Path
from onward_sdk import Identity
from services.cli.state_file import StateFile
state_file = StateFile(Path(sys.argv[1]), "ann-1")
state_file.open()
for seq in range(1, 1_000_000):
    state_file.keep(Identity("ann-1", 1, "L", {"/a" * 50: seq}))
    print(seq, flush=True)
"""


def test_a_kill_at_any_moment_leaves_a_whole_file_with_all_that_was_kept(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    for kept in (1, 7, 40):
        process = subprocess.Popen(
            [sys.executable, "-c", KEEPS_ON, str(path)],
            env={"PYTHONPATH": PATHS},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        for _ in range(kept):
            last = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().split()
        process.wait()
        process.stdout.close()
        said = int(rest[-1]) if rest else last
        held = StateFile(path, "ann-1").open().positions["/a" * 50]
        assert held in (said, said + 1), "what was said to be kept is there"
        assert json.loads(path.read_bytes())["version"] == 1
