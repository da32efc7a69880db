"""docs/deploying.md: its commands are for what exists, and what can be run here is run."""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from services.chassis.tls import Trust, trust_of
from services.cli.__main__ import app
from services.notifier.webhook import secret_of
from tests.deploy.dockerfile import SERVICES
from tests.deploy.settings_check import settings_of
from tests.docs.test_code_blocks import DEPLOYING, Block

ROOT = Path(__file__).parents[2]
SETTINGS = (ROOT / "docs/settings.md").read_text()
PAGE = (ROOT / "docs/deploying.md").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())
# What the operator makes.
UNTRACKED = ("deploy/.env", "deploy/channels.env", "deploy/channels/firebase.json")
VALUES: dict[str, Any] = yaml.safe_load((ROOT / "deploy/helm/onward/values.yaml").read_text())


def the(words: str) -> Block:
    """The block that holds these words."""
    (block,) = [block for block in DEPLOYING if words in block.text]
    return block


def commands() -> list[list[str]]:
    """Every command of every block, as words; continued lines are one."""
    lines = "\n".join(block.text for block in DEPLOYING).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if not re.match(r"\s*(for|done|do)\b", line)]


@pytest.mark.parametrize("block", DEPLOYING, ids=lambda block: block.text[:30])
def test_a_block_is_shell(block: Block) -> None:
    subprocess.run(["sh", "-n"], input=block.text, text=True, check=True)


def test_the_secrets_it_makes_are_those_that_compose_asks_for(tmp_path: Path) -> None:
    (tmp_path / "deploy").mkdir()
    subprocess.run(
        ["sh", "-eu"], input=the("ONWARD_SECRET").text, cwd=tmp_path, text=True, check=True
    )
    made = dict(line.split("=") for line in (tmp_path / "deploy/.env").read_text().splitlines())
    asked = set(re.findall(r"\$\{(\w+):\?", (ROOT / "deploy/compose.yaml").read_text()))
    assert set(made) == asked
    assert all(len(value) == 64 for value in made.values())
    assert (tmp_path / "deploy/.env").stat().st_mode & 0o077 == 0


def test_the_certificates_it_makes_are_ones_that_services_take(tmp_path: Path) -> None:
    block = the("openssl x509")
    program = ["sh", "-eu"]
    subprocess.run(
        program, input=block.text, cwd=tmp_path, text=True, check=True, capture_output=True
    )

    class Given:
        secret = ""
        tls_ca_file, tls_cert_file = str(tmp_path / "ca.crt"), str(tmp_path / "tls.crt")
        tls_key_file, tls_name = str(tmp_path / "tls.key"), "onward.internal"

    trust: Trust = trust_of(Given(), "edge")
    assert trust.certificates is not None


def test_every_file_and_service_that_it_names_is_there() -> None:
    for path in re.findall(r"\bdeploy/[\w./-]+\w", PAGE):
        assert (ROOT / path).exists() or path in UNTRACKED, path
    for words in commands():
        if words[:2] == ["docker", "compose"]:
            assert words[2:4] == ["-f", "deploy/compose.yaml"]
            named = [word for word in words[5:] if re.fullmatch(r"[a-z]+-\d", word)]
            assert set(named) <= set(COMPOSE["services"])
        if words[:3] == ["docker", "volume", "rm"]:
            assert words[3].removeprefix("deploy_") in COMPOSE["volumes"]
    loop = next(block.text for block in DEPLOYING if "--build-arg" in block.text)
    assert f"for service in {' '.join(SERVICES)}; do" in loop


def test_every_setting_that_it_names_is_one() -> None:
    known = set(re.findall(r"`(ONWARD_\w+)`", (ROOT / "docs/settings.md").read_text()))
    named = set(re.findall(r"`(ONWARD_\w+)", PAGE)) - {"ONWARD_EDGE_PORT"}
    assert named
    assert named <= known, named - known


def test_every_value_of_the_chart_that_it_sets_is_one() -> None:
    for words in commands():
        if words[:1] == ["helm"]:
            for pair in (words[i + 1] for i, word in enumerate(words) if word == "--set"):
                place: Any = VALUES
                for key in pair.partition("=")[0].split("."):
                    if key.startswith("ONWARD_"):
                        assert f"`{key}`" in SETTINGS, pair
                        break
                    assert key in place, pair
                    place = place[key]
    secret = the("create secret generic onward \\\n").text
    made = set(re.findall(r"--from-literal=([\w-]+)=", secret))
    text = "".join(p.read_text() for p in (ROOT / "deploy/helm/onward/templates").glob("*"))
    assert made == set(re.findall(r"\bkey: ([\w-]+)", text))


def test_the_secrets_of_channels_that_it_makes_are_what_notifiers_take(tmp_path: Path) -> None:
    (tmp_path / "deploy/channels").mkdir(parents=True)
    (tmp_path / "firebase.json").write_text("{}")
    (tmp_path / "bin").mkdir()
    for program in ("sudo", "docker"):
        (tmp_path / "bin" / program).write_text("#!/bin/sh\n")
        (tmp_path / "bin" / program).chmod(0o755)
    environ = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}
    program = the("deploy/channels.env").text
    subprocess.run(["sh", "-eu"], input=program, cwd=tmp_path, env=environ, text=True, check=True)
    file = tmp_path / "deploy/channels.env"
    assert file.stat().st_mode & 0o077 == 0
    name, _, named_file = (tmp_path / "deploy/.env").read_text().strip().partition("=")
    assert f'env_file: ["${{{name}:-' in (ROOT / "deploy/compose.yaml").read_text()
    assert tmp_path / "deploy" / named_file == file
    given = dict(line.split("=", 1) for line in file.read_text().splitlines())
    settings = settings_of("notifier", given)
    assert Path(settings.fcm_credentials).parent == Path("/etc/onward/channels")
    assert (tmp_path / "deploy/channels" / Path(settings.fcm_credentials).name).exists()
    assert [secret_of(one) for one in settings.webhook_secrets]
    named = re.findall(r"--from-literal=(ONWARD_\w+)=", the("onward-channels").text)
    assert named
    assert all(f"`{name}`" in SETTINGS for name in named)


def test_every_onward_command_is_one() -> None:
    for words in commands():
        if words[:1] == ["onward"]:
            done = CliRunner().invoke(app, [words[1], "--help"], env={"COLUMNS": "200"})
            assert done.exit_code == 0
            assert all(word in done.stdout for word in words if word.startswith("--"))


def test_the_refusals_that_it_quotes_are_what_services_say() -> None:
    source = (ROOT / "services/coordinator/sql_rows.py").read_text()
    assert (
        "the log ends at {stored_tail} but had reached {tail_known}: it is an older copy" in source
    )
    assert "is not above {stored_epoch}: etcd has lost its data; " in source
    for schema in re.findall(r"\b(onward_(?:log|presence))\b", PAGE):
        assert any(
            f'SCHEMA = "{schema}"' in path.read_text()
            for path in (ROOT / "services").rglob("postgres_*.py")
        )
