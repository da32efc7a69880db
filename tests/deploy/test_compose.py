"""The compose file: what it starts, and that each service takes the settings it gives."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.dockerfile import SERVICES
from tests.deploy.settings_check import foreign, settings_of

DEPLOY = Path(__file__).parents[2] / "deploy"
GIVEN = {
    "ONWARD_SECRET": "0123456789abcdef" * 2, "JWT_SECRET": "a key that tokens are signed with",
    "POSTGRES_PASSWORD": "p", "REPLICATION_PASSWORD": "r", "ONWARD_PASSWORD": "o",
}  # fmt: skip


def filled(text: str) -> str:
    """What compose makes of `${NAME…}` in a value."""

    def value(match: re.Match[str]) -> str:
        return GIVEN.get(match[1], match[3] if match[2] == ":-" else "")

    return re.sub(r"\$\{(\w+)(?:(:-|:\?)([^}]*))?\}", value, text)


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return dict(yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"])


def environ(service: dict[str, Any]) -> dict[str, str]:
    return {name: filled(str(value)) for name, value in service["environment"].items()}


def test_there_are_two_of_each_service_three_of_etcd_and_two_databases(
    services: dict[str, Any],
) -> None:
    for service, number in [*((service, 2) for service in SERVICES), ("etcd", 3), ("postgres", 2)]:
        names = [name for name in services if re.fullmatch(rf"{service}-\d", name)]
        assert len(names) == number
    assert {"prometheus", "grafana"} < set(services)


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("service", SERVICES)
def test_a_service_takes_its_settings_and_is_reached_by_its_name(
    service: str, number: int, services: dict[str, Any]
) -> None:
    name = f"{service}-{number}"
    given = environ(services[name])
    assert not foreign(service, given)
    settings = settings_of(service, given)
    assert services[name]["build"]["args"] == {"SERVICE": service}
    if service in ("coordinator", "presence"):
        assert (settings.name, settings.advertise.partition(":")[0]) == (name, name)
        assert settings.advertise.partition(":")[2] == settings.listen.partition(":")[2]
        assert settings.store.startswith("postgresql://onward:o@postgres-1,postgres-2/onward?")
    if service == "edge":
        assert settings.grpc_address.partition(":")[0] == name
        assert not settings.anonymous
    if service != "notifier":
        assert settings.etcd == "etcd-1:2379,etcd-2:2379,etcd-3:2379"
    # What a stop may take is less than what it is given.
    assert settings.drain_s < int(services[name]["stop_grace_period"].removesuffix("s"))


def test_presence_sends_by_the_notifiers(services: dict[str, Any]) -> None:
    plugins = environ(services["presence-1"])["ONWARD_PRESENCE_PLUGINS"].split(",")
    port = environ(services["notifier-1"])["ONWARD_NOTIFIER_LISTEN"].partition(":")[2]
    assert plugins == [f"notifier-1:{port}", f"notifier-2:{port}"]


def test_no_password_stands_in_the_file_and_none_is_optional() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    for name in GIVEN:
        uses = re.findall(rf"\$\{{{name}([^}}]*)\}}", text)
        assert uses
        assert all(use.startswith(":?") for use in uses)


def test_every_image_of_others_is_pinned(services: dict[str, Any]) -> None:
    for service in services.values():
        if "build" not in service:
            assert re.search(r":v?\d+\.\d+", service["image"]), service["image"]


def test_what_is_mounted_is_there(services: dict[str, Any]) -> None:
    mounts = [volume for service in services.values() for volume in service.get("volumes", [])]
    files = {volume.partition(":")[0] for volume in mounts if volume.startswith("./")}
    assert files
    assert all((DEPLOY / file).exists() for file in files)


def test_what_channels_need_is_given_to_the_notifiers_alone_and_kept_out_of_git(
    services: dict[str, Any],
) -> None:
    env_file = ["channels/none.env"]
    mount = "./channels:/etc/onward/channels:ro"
    for name, service in services.items():
        notifies = name.startswith("notifier-")
        assert ([filled(one) for one in service.get("env_file", [])] == env_file) is notifies
        assert (mount in service.get("volumes", [])) is notifies
    lines = (DEPLOY / env_file[0]).read_text().splitlines()
    assert all(line.startswith("#") for line in lines), "it is tracked"
    for path in ("channels.env", "channels/firebase.json", "channels/AuthKey_ABC.p8"):
        command = ["git", "check-ignore", "-q", "--no-index", path]
        assert subprocess.run(command, cwd=DEPLOY, check=False).returncode == 0, path


def test_nothing_that_channels_need_reaches_the_builder_of_images() -> None:
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert "*" in lines
    assert not [line for line in lines if line.startswith("!deploy") and "channels" in line]
    assert "!deploy/" not in lines


def test_compose_itself_finds_no_fault(tmp_path: Path) -> None:
    """Where docker-compose is not installed the other tests must do."""
    program = shutil.which("docker-compose")
    if program is None:
        return
    (tmp_path / "env").write_text("".join(f"{name}={value}\n" for name, value in GIVEN.items()))
    command = [program, "-f", str(DEPLOY / "compose.yaml"), "--env-file", str(tmp_path / "env")]
    done = subprocess.run([*command, "config", "-q"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
