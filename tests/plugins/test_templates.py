"""Each template builds and passes its tests with its language's tools, and `onward conformance`."""

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from onward.notifier.v1 import notifier_pb2, notifier_pb2_grpc

from services.chassis.channel import credentials
from services.cli.conformance_plugin import TITLE
from tests.certificates import Authority
from tests.path.stack import ONWARD
from tests.plugins.templates import ROOT, SECRET, TEMPLATES, Running, Template, environ
from tests.waiting import until

pytestmark = pytest.mark.timeout(1_800)  # Rust and Maven may build and fetch everything first
VERSIONS = re.compile(r"^//\s+-?\s*protoc\s+v.*$", re.MULTILINE)


@pytest.fixture(scope="module", params=TEMPLATES)
def template(request: pytest.FixtureRequest) -> Template:
    """A template whose tools are here, built; its own tests have passed."""
    found = TEMPLATES[request.param]
    found.need()
    for command in found.commands:
        found.run(command)
    return found


def conformance(*arguments: str, **more: str) -> dict[str, dict[str, str]]:
    """What `onward conformance` says of each rule; it must say that the plugin conforms."""
    ended = subprocess.run(
        [str(ONWARD), "conformance", *arguments, "--json"],
        env=environ(**more), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert ended.stdout, ended.stderr
    said = json.loads(ended.stdout)
    rules = {rule["name"]: rule for rule in said["rules"]}
    broken = [rule for rule in rules.values() if rule["verdict"] == "failed"]
    assert (ended.returncode, said["conforms"], broken) == (0, True, [])
    return rules


def test_it_conforms_and_its_log_tells_nothing(template: Template, tmp_path: Path) -> None:
    with Running(template, tmp_path, ONWARD_SECRET=SECRET) as plugin:
        rules = conformance(
            plugin.address, "--endpoint", "example:{n}", "--slow", "example:slow",
            "--sent", str(plugin.sent), ONWARD_SECRET=SECRET,
        )  # fmt: skip
    skipped = [name for name, rule in rules.items() if rule["verdict"] == "skipped"]
    assert skipped == ["callbacks"]
    assert "UNKNOWN" in rules["deadline"]["reason"]
    log = plugin.log.read_text()
    assert log, "it logs what it does"
    assert not [word for word in (TITLE, "A test.", "example:", SECRET) if word in log]


def test_it_serves_who_shows_a_certificate(template: Template, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    files = authority.sign("plugin")
    with Running(template, tmp_path, **files.environ("plugin")) as plugin:
        shown = ["--ca", str(files.ca), "--cert", str(files.cert), "--key", str(files.key)]
        rules = conformance(plugin.address, *shown, "--rule", "callers", "--rule", "delivery")
    assert rules["callers"]["verdict"] == "passed"


def test_what_is_under_way_is_answered_when_it_is_stopped(
    template: Template, tmp_path: Path
) -> None:
    async def body(address: str, process: "subprocess.Popen[bytes]") -> notifier_pb2.NotifyResponse:
        async with grpc.aio.insecure_channel(address) as channel:
            stub: notifier_pb2_grpc.NotifierServiceAsyncStub = (
                notifier_pb2_grpc.NotifierServiceStub(channel)
            )
            delivery = notifier_pb2.Delivery(delivery_id="a" * 32, endpoint="example:slow")
            request = notifier_pb2.NotifyRequest(deliveries=[delivery])
            call = stub.Notify(request, timeout=4, metadata=credentials(SECRET))
            await until(lambda: plugin.sent.exists() and plugin.sent.read_text())
            process.terminate()
            return await call

    with Running(template, tmp_path, ONWARD_SECRET=SECRET) as plugin:
        answer = asyncio.run(body(plugin.address, plugin.process))
        assert answer.results[0].outcome == notifier_pb2.Result.UNKNOWN


def test_what_go_generates_is_committed(tmp_path: Path) -> None:
    go = TEMPLATES["go"]
    go.need()
    protoc = f"PROTOC={sys.executable} -m grpc_tools.protoc"
    go.run(["env", protoc, "./generate.sh", str(tmp_path)])
    for name in ("notifier.pb.go", "notifier_grpc.pb.go"):
        fresh = (tmp_path / "notifierv1" / name).read_text()
        committed = (go.folder / "gen/notifierv1" / name).read_text()
        assert VERSIONS.sub("", fresh) == VERSIONS.sub("", committed), "run: go generate"


def test_the_lock_of_npm_names_no_host() -> None:
    assert "resolved" not in (ROOT / "plugins/node/package-lock.json").read_text()
