"""The page on channels: its commands work, and its settings are settings."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.chassis.settings import variables
from services.notifier.apprise_settings import Settings as AppriseSettings
from services.notifier.settings import Settings
from services.notifier.vapid import read_vapid
from tests.docs.test_code_blocks import CHANNELS

KNOWN = {variable.name for variable in variables(Settings, "notifier")} | {
    variable.name for variable in variables(AppriseSettings, "apprise")
}
LINES = [line for b in CHANNELS if b.language == "sh" for line in b.text.splitlines()]


def assigned() -> Iterator[str]:
    for line in LINES:
        name, equals, _ = line.partition("=")
        if equals and name.startswith("ONWARD_"):
            yield name


def test_what_is_set_is_a_setting() -> None:
    names = set(assigned())
    assert "ONWARD_FCM_CREDENTIALS" in names
    assert names <= KNOWN


def test_every_line_is_a_setting_or_a_command_that_is_tried() -> None:
    for line in LINES:
        assert line.startswith(("ONWARD_", "openssl ")), line


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl on this machine")
def test_a_key_made_as_the_page_says_is_taken_and_its_public_half_is_ours(tmp_path: Path) -> None:
    make, show = [line for line in LINES if line.startswith("openssl ")]
    subprocess.run(["sh", "-ec", make], cwd=tmp_path, check=True, capture_output=True, timeout=20)
    shown = subprocess.run(
        ["sh", "-ec", show], cwd=tmp_path, check=True, capture_output=True, text=True, timeout=20
    )
    made = read_vapid(str(tmp_path / "vapid.pem"), "mailto:ops@example.org", "KEY", "SUBJECT")
    assert shown.stdout == made.public_key
