"""The systemd units start what exists, drain, and are confined."""

import configparser
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "deploy/systemd"
SERVICES = ["edge", "coordinator", "presence", "notifier"]


def unit(service: str) -> configparser.SectionProxy:
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string((FOLDER / f"onward-{service}.service").read_text())
    assert set(parser.sections()) == {"Unit", "Service", "Install"}
    return parser["Service"]


def test_there_is_one_unit_per_service() -> None:
    assert {p.name for p in FOLDER.glob("*.service")} == {f"onward-{s}.service" for s in SERVICES}


@pytest.mark.parametrize("service", SERVICES)
def test_a_unit_starts_its_service_and_drains_it(service: str) -> None:
    settings = unit(service)
    python, *words = settings["ExecStart"].split()
    assert python.endswith("/bin/python")
    assert words == ["-P", "-m", f"services.{service}"]
    assert importlib.util.find_spec(f"services.{service}.__main__"), "no such module"
    assert settings["EnvironmentFile"] == f"/etc/onward/{service}.env"
    assert settings["KillSignal"] == "SIGTERM"
    assert int(settings["TimeoutStopSec"]) >= 5
    assert settings["Restart"] == "on-failure"
    assert settings["RestartPreventExitStatus"] == "2"


@pytest.mark.parametrize("service", SERVICES)
def test_a_unit_is_confined(service: str) -> None:
    settings = unit(service)
    assert settings["DynamicUser"] == "yes"
    assert settings["NoNewPrivileges"] == "yes"
    assert settings["ProtectSystem"] == "strict"
    assert settings["CapabilityBoundingSet"] == ""


@pytest.mark.parametrize("service", ["coordinator", "presence"])
def test_a_service_that_keeps_something_has_a_directory_for_it(service: str) -> None:
    settings = unit(service)
    name = f"onward-{service}"
    assert settings["StateDirectory"] == name
    assert settings["Environment"] == f"ONWARD_{service.upper()}_DATA_DIR=%S/{name}"


def test_the_notifier_alone_is_given_the_key_files_of_channels_as_its_guide_names_them() -> None:
    for service in SERVICES:
        given = unit(service).get("LoadCredential")
        assert given == ("channels:/etc/onward/channels" if service == "notifier" else None)
    guide = (FOLDER / "README.md").read_text()
    assert "install -d -m 0700 /etc/onward /etc/onward/channels\n" in guide
    # As systemd.exec(5) has it: the credential's name, "_", and the file's name.
    assert "credentials=/run/credentials/onward-notifier.service\n" in guide
    assert "install -m 0600 firebase.json /etc/onward/channels/firebase.json\n" in guide
    assert "ONWARD_FCM_CREDENTIALS=$credentials/channels_firebase.json" in guide


def test_systemd_itself_finds_no_fault(tmp_path: Path) -> None:
    """Where systemd is not installed the other tests must do."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        return
    copies = []
    for service in SERVICES:
        text = (FOLDER / f"onward-{service}.service").read_text()
        copy = tmp_path / f"onward-{service}.service"
        # The program and its manual are not installed where tests run.
        text = text.replace("/opt/onward/.venv/bin/python", sys.executable)
        copy.write_text(text.replace("file:///opt/onward", f"file://{FOLDER.parents[1]}"))
        copies.append(str(copy))
    done = subprocess.run([analyze, "verify", "--man=no", *copies], capture_output=True, text=True)
    faults = [row for row in done.stderr.splitlines() if "onward" in row]
    assert not faults, done.stderr
