"""Every code block of README and docs is run here, or checked for what it is.

A block that no test below takes makes `test_every_block_is_taken` fail.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from google.protobuf import json_format
from onward.client.v1 import client_pb2
from onward.notifier.v1 import notifier_pb2, notifier_pb2_grpc

from services.chassis.channel import credentials
from services.cli.conformance_rules import RULES
from tests.path.stack import Suite, base_environ, ended, free_port
from tests.waiting import wait_for

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "ARCHITECTURE.md", "STYLE.md", *sorted(
    str(page.relative_to(ROOT))
    for folder in ("docs", "deploy")
    for page in (ROOT / folder).rglob("*.md")
)]  # fmt: skip
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: where it stands, its language, its text."""

    page: str
    language: str
    text: str

    def starts(self, words: str) -> bool:
        """Whether the block's text begins so."""
        return self.text.startswith(words)


BLOCKS = [
    Block(page, language, text)
    for page in PAGES
    for language, text in FENCE.findall((ROOT / page).read_text())
    if language
]
TOUR = [block for block in BLOCKS if block.page == "README.md" and block.language == "sh"]
OPERATING = [b for b in BLOCKS if b.page == "docs/operating.md" and b.language == "sh"]
MAKES = [  # nothing but targets of the Makefile
    block
    for block in BLOCKS
    if block.language == "sh" and all(line[:5] == "make " for line in block.text.splitlines())
]
SYSTEMD = [b for b in BLOCKS if b.page.startswith("deploy/systemd") and b.language == "sh"]
NOTIFYING = [b for b in BLOCKS if b.page == "docs/notifications.md" and b.language == "sh"]
# tests/docs/test_notifications.py reads it.
YAML = [b for b in BLOCKS if b.page == "docs/notifications.md" and b.language == "yaml"]
# tests/docs/test_deploying.py runs those that need no container engine, and reads the others.
USERS = [b for b in BLOCKS if b.page == "docs/users.md" and b.language == "sh"]
DEPLOYING = [b for b in BLOCKS if b.page == "docs/deploying.md" and b.language == "sh"]
# tests/presence/test_templates.py renders them.
TEMPLATES = [b for b in BLOCKS if b.page == "docs/templates.md" and b.language == "yaml"]

# tests/docs/test_channels.py takes them, and tests/browser/test_web_push.py what a browser runs.
CHANNELS = [b for b in BLOCKS if b.page == "docs/channels.md"]
# tests/plugins/test_guide.py follows it, in `make test-plugins`.
NOTIFIER_PAGE = [b for b in BLOCKS if b.page == "docs/writing-a-notifier.md"]
GUIDE = [b for b in NOTIFIER_PAGE if b.language == "sh"]

# tests/docs/test_writing_an_extension.py runs them, and the program of that page.
EXTENSION = [b for b in BLOCKS if b.page == "docs/writing-an-extension.md" and b.language == "sh"]


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """`onward up` with the console notifier, as `make up` runs it."""
    up = Suite(tmp_path_factory.mktemp("data"), {})
    with ended(up):
        up.wait_ready()
        yield up


def shell(block: Block, suite: Suite) -> "subprocess.Popen[str]":
    """Run a block as a reader would, against the suite instead of port 8080."""
    text = block.text.replace("127.0.0.1:8080", f"127.0.0.1:{suite.port}")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.Popen(
        ["sh", "-ec", text],
        cwd=ROOT,
        env=base_environ()
        | {"ONWARD_URL": suite.url, "PATH": path, "XDG_STATE_HOME": str(suite.data_dir / "state")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output(block: Block, suite: Suite) -> str:
    """What a block prints; it must succeed."""
    process = shell(block, suite)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return out


def test_every_block_is_taken() -> None:
    shells = TOUR + OPERATING + NOTIFYING + MAKES + SYSTEMD + DEPLOYING + USERS
    taken = {
        "sh": shells + CHANNELS + GUIDE + EXTENSION,
        "js": CHANNELS,
        "python": PYTHON,
        "json": JSON,
        "yaml": YAML + TEMPLATES,
        "go": NOTIFIER_PAGE,
    }
    for block in BLOCKS:
        assert block in taken.get(block.language, []), block


def test_commands_of_make_are_targets_of_the_makefile() -> None:
    for command in (line for block in MAKES for line in block.text.splitlines()):
        words = [*shlex.split(command, comments=True), "-n"]
        subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
    assert [block.text for block in TOUR[:2]] == ["make up\n", "make test\n"]


def test_the_tour_does_what_it_says(suite: Suite) -> None:
    _, _, first, subscribe, second, away, kept, status, curl = TOUR
    assert "hello" in output(first, suite)
    reader = shell(subscribe, suite)
    try:
        wait_for(
            lambda: list(suite.get("/v1/explain?user=ann&subject=/chat/1")["clients"]),
            20, "Ann is there",
        )  # fmt: skip
        output(second, suite)
        assert reader.stdout is not None
        wait_for(lambda: "are you there?" in reader.stdout.readline(), 10, "the message arrives")
    finally:
        subprocess.run(["pkill", "-KILL", "-P", str(reader.pid)], check=False)
        reader.kill()
        reader.wait()
    story = output(away, suite)
    assert "call me" not in story, "explain shows no content"
    printed = wait_for(
        lambda: next((line for line in suite.output.all if "2 messages in /chat/1" in line), ""),
        30, "the console notifier prints",
    )  # fmt: skip
    assert "call me" in printed
    assert output(kept, suite) == "5\n", "a transient message has no number"
    assert "all is well" in output(status, suite)
    assert json.loads(output(curl, suite))["seq"] == "1"


def test_a_publisher_says_what_the_file_leaves_open(suite: Suite) -> None:
    [publish] = NOTIFYING
    assert int(output(publish, suite)) > 0


def test_the_status_is_shown_as_the_operators_guide_says(suite: Suite) -> None:
    (block,) = [block for block in OPERATING if block.starts("onward status")]
    assert output(block, suite).startswith(f"Onward at {suite.url}: all is well")


def test_a_backend_looks_after_users_as_the_guide_says(suite: Suite) -> None:
    first, commands, wants, profile, there, ends = USERS
    assert '{"added":2}' in output(first, suite)
    printed = wait_for(
        lambda: next((line for line in suite.output.all if "/orders/7" in line), ""),
        30, "the console notifier prints",
    )  # fmt: skip
    assert "It is on its way." in printed
    listed = output(commands, suite)
    assert "2 follows added" in listed and "1 follow removed" in listed
    assert "mailto:ann@example.org" in listed
    assert '"timeZone":"Europe/Berlin"' in output(wants, suite)
    assert "22:00-07:00, days 1,2,3,4,5" in output(profile, suite)
    assert "/orders/7: 0 there, 0 away" in output(there, suite)
    output(ends, suite)
    assert suite.get("/v1/users/ann/follows")["follows"] == []


PYTHON = [block for block in BLOCKS if block.language == "python"]
JSON = [block for block in BLOCKS if block.language == "json"]


def test_the_program_of_the_readme_publishes(suite: Suite, tmp_path: Path) -> None:
    (block,) = [b for b in PYTHON if b.page == "README.md"]
    script = tmp_path / "program.py"
    script.write_text(block.text.replace("8080", str(suite.port)))
    subprocess.run([sys.executable, script], cwd=ROOT, check=True, timeout=30)
    texts = [m["text"] for m in suite.get("/v1/history?subject=/chat/1")["messages"]]
    assert "from a program" in texts


def test_the_plugin_of_the_guide_sends(tmp_path: Path) -> None:
    (block,) = [b for b in PYTHON if "services.notifier.harness" in b.text]
    port, secret = free_port(), "0123456789abcdef"
    script = tmp_path / "plugin.py"
    script.write_text(block.text.replace("7500", str(port)))
    environ = base_environ() | {"OUTBOX": str(tmp_path), "ONWARD_SECRET": secret}
    process = subprocess.Popen([sys.executable, script], cwd=ROOT, env=environ)
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = notifier_pb2_grpc.NotifierServiceStub(channel)
            delivery = notifier_pb2.Delivery(
                delivery_id="d1", notification_id="n1", attempt=1, endpoint="mailto:a@b.example",
                user="ann", subject="/chat/1", first_seq=1, last_seq=1, count=1,
                title="From bob", body="hello", templated=True,
            )  # fmt: skip
            delivery.messages.add(seq=1, text="what the template hides")
            delivery.expires_at.FromSeconds(int(time.time()) + 60)
            answer = stub.Notify(
                notifier_pb2.NotifyRequest(deliveries=[delivery]),
                metadata=credentials(secret), wait_for_ready=True, timeout=20,
            )  # fmt: skip
        assert answer.results[0].outcome == notifier_pb2.Result.ACCEPTED
        assert (tmp_path / "d1.txt").read_text() == "From bob\nhello\n"
    finally:
        process.kill()
        process.wait()


def test_the_guide_to_notifiers_names_every_rule_that_plugins_are_examined_by() -> None:
    rows = [
        line for line in (ROOT / NOTIFIER_PAGE[0].page).read_text().splitlines() if "| `" in line
    ]
    named = {name for row in rows for name in re.findall(r"`([a-z-]+)`", row.split("|")[1])}
    assert {rule.name for rule in RULES} <= named


@pytest.mark.parametrize("block", JSON, ids=lambda block: block.page)
def test_a_json_block_is_a_frame_or_claims(block: Block) -> None:
    value = json.loads(block.text)
    if "sub" in value:
        assert set(value["onward"]) <= {"subscribe", "publish", "external_tokens", "admin"}
    else:
        json_format.ParseDict(value, client_pb2.ClientFrame())
