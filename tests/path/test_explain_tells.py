"""`onward explain` tells every outcome there is, in one screen and as JSON.

One suite with a routing file, an entitlement hook, and a plugin that is told how to answer. Each
case brings one outcome about as users, publishers and providers do, and waits for its story.
"""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from onward.presence.v1 import presence_pb2
from typer.testing import CliRunner

from services.cli.__main__ import app
from services.presence.explain import _SUPPRESSED
from tests.path.explain_cases import CASES, ROUTING, SETTINGS, Case, arrived_before, plain
from tests.path.explain_stage import CONTENT, TOKEN, Stage
from tests.path.scripted_plugin import ScriptedPlugin
from tests.path.stack import ONWARD, Program, Suite, base_environ, ended
from tests.waiting import wait_for

LINES, COLUMNS = 24, 100


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    folder = tmp_path_factory.mktemp("explain")
    (folder / "routing.yaml").write_text(ROUTING)
    always = {"tel": "ACCEPTED", "mailto": "ACCEPTED", "https": "MISCONFIGURED"}
    with ScriptedPlugin(("fcm", "apns"), once=("webpush",), always=always) as plugin:
        given = {
            "ONWARD_PRESENCE_ROUTING": str(folder / "routing.yaml"),
            "ONWARD_PRESENCE_PLUGINS": f"grpc://{plugin.address}",
            "ONWARD_PRESENCE_ENTITLEMENT": f"grpc://{plugin.address}",
        }
        up = Suite(folder / "data", SETTINGS | given)
        with ended(up):
            up.wait_ready()
            yield up


def cli(suite: Suite, *arguments: str) -> str:
    """What `onward` prints, on a screen of the usual size."""
    environ = {"ONWARD_URL": suite.url, "COLUMNS": str(COLUMNS)}
    done = CliRunner().invoke(app, arguments, env=environ)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_outcome_is_told_in_one_screen_and_as_json(suite: Suite, case: Case) -> None:
    with ExitStack() as after:
        stage = Stage(suite, case.name, case.place, after)
        seq = case.drive(stage)
        stage.wait(seq, case.state, case.reason)
        asked = ("explain", "--user", stage.user, "--subject", stage.subject, "--seq", str(seq))
        screen, [line] = cli(suite, *asked), cli(suite, *asked, "--json").splitlines()
    told = json.loads(line)
    assert (told["state"], told.get("reason", "")) == (case.state, case.reason)
    assert case.words in told["text"]
    lines = screen.splitlines()
    assert len(lines) <= LINES, screen
    assert max(map(len, lines)) <= COLUMNS, screen
    reason = f" ({case.reason})" if case.reason else ""
    assert lines[0] == f"{stage.subject} for {stage.user}, message {seq}: {case.state}{reason}"
    # As it reads where lines were broken.
    flowing = " ".join(screen.split())
    for words in (case.words, *case.shown):
        assert " ".join(words.split()) in flowing, screen
    for secret in (CONTENT, TOKEN):
        assert secret not in screen + line


def test_no_state_and_no_suppression_is_left_out() -> None:
    states = set(presence_pb2.Outcome.State.keys())
    told = {case.state for case in CASES}
    # Presence is hardly ever behind for long enough to be asked.
    assert states - told == {"STATE_UNSPECIFIED", "NOT_YET"}
    suppressed = {case.reason for case in CASES if case.state == "SUPPRESSED"}
    # The log of a running suite keeps everything for ten minutes; and what arrived by another
    # channel is no suppression of the whole.
    assert _SUPPRESSED.keys() - suppressed == {"TRIMMED", "RECEIPTED"}


def test_a_message_that_had_arrived_spares_the_next_channel(suite: Suite) -> None:
    with ExitStack() as after:
        stage = Stage(suite, "RECEIPTED", "/tell/escalated/2", after)
        seq = arrived_before(stage)
    told = stage.story(seq)
    assert told["state"] == "NOTIFIED"
    assert [(one["channel"], one["state"], one["reason"]) for one in told["deliveries"]] == [
        ("fcm", "delivered", ""), ("apns", "cancelled", "RECEIPTED"),
    ]  # fmt: skip
    asked = ("explain", "--user", stage.user, "--subject", stage.subject, "--seq", str(seq))
    screen = " ".join(cli(suite, *asked).split())
    assert "Not sent by apns: it had arrived on another channel before." in screen
    assert "apns cancelled (RECEIPTED)" in screen


def test_the_newest_messages_of_a_subject_stand_together_where_the_same_is_told(
    suite: Suite,
) -> None:
    with ExitStack() as after:
        stage = Stage(suite, "several", "/tell/several", after)
        socket = stage.connect()
        seq = stage.publish(30)
        for _ in range(seq):
            socket.receive()
        stage.acknowledge(socket, seq)
        stage.wait(seq, "ACKNOWLEDGED", "LIVE")
        stage.publish(user=stage.user)
        stage.wait(seq, "ACKNOWLEDGED", "LIVE")
        screen = cli(suite, "explain", "--user", stage.user, "--subject", stage.subject)
    assert f"1–{seq}" in screen
    assert len(screen.splitlines()) <= LINES


def test_the_program_prints_the_same_in_the_zone_of_here(suite: Suite) -> None:
    with ExitStack() as after:
        stage = Stage(suite, "program", "/tell/program", after)
        seq = plain("ACCEPTED")(stage)
        stage.wait(seq, "NOTIFIED")
    environ = base_environ() | {
        "ONWARD_URL": suite.url,
        "COLUMNS": str(COLUMNS),
        "TZ": "NORTH-3",
        "PYTHONIOENCODING": "utf8",
    }
    asked = ["explain", "--user", stage.user, "--subject", stage.subject, "--seq", str(seq)]
    program = Program([ONWARD, *asked], environ)
    with ended(program):
        wait_for(lambda: program.process.poll() is not None, 30, "it ends")
        assert program.process.returncode == 0, program.errors.all
    wait_for(lambda: len(program.output.all) > 4, 5, "its output")
    hour = time.strftime("%Y-%m-%d", time.gmtime(time.time() + 3 * 3600))
    assert program.output.all[1].startswith(f"Sent by fcm at {hour}")
    assert program.output.all[1].endswith(" NORTH.")


def test_logs_have_neither_content_nor_tokens(suite: Suite) -> None:
    printed = "\n".join([*suite.output.all, *suite.errors.all])
    for file in Path(suite.data_dir).rglob("*.log"):
        printed += file.read_text(errors="replace")
    assert printed
    assert CONTENT not in printed
    assert TOKEN not in printed
