"""A key file that is wrong is named with what is wrong, and nothing of it is repeated."""

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from services.chassis.errors import SettingError
from services.notifier.google_credentials import read_service_account
from tests.notifier.fake_fcm import EMAIL, KEY_ID, PEM, PROJECT

GOOD = {
    "type": "service_account",
    "project_id": PROJECT,
    "private_key_id": KEY_ID,
    "private_key": PEM,
    "client_email": EMAIL,
    "token_uri": "https://oauth2.googleapis.com/token",
}
CURVE = (
    ec.generate_private_key(ec.SECP256R1())
    .private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    .decode()
)


def written(folder: Path, text: str) -> str:
    path = folder / "key.json"
    path.write_text(text)
    return str(path)


def test_a_service_account_is_read(tmp_path: Path) -> None:
    account = read_service_account(written(tmp_path, json.dumps(GOOD)), "X")
    assert (account.project, account.email, account.key_id) == (PROJECT, EMAIL, KEY_ID)
    assert "PRIVATE" not in repr(account)
    assert "key=" not in repr(account)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"type": "authorized_user"}, "`type` is not `service_account`"),
        ({"type": None}, "`type` is not `service_account`"),
        ({"project_id": ""}, "no `project_id`"),
        ({"project_id": "a/../b"}, "`project_id` is not"),
        ({"client_email": 7}, "no `client_email`"),
        ({"private_key": None}, "no `private_key`"),
        ({"private_key": "hunter2"}, "`private_key` is not an RSA key"),
        ({"private_key": CURVE}, "`private_key` is not an RSA key"),
        ({"token_uri": ""}, "no `token_uri`"),
        ({"token_uri": "http://example.org/token"}, "`token_uri` is not an https: URL"),
        ({"token_uri": "file:///etc/passwd"}, "`token_uri` is not an https: URL"),
        ({"token_uri": "https://[x"}, "`token_uri` is not an https: URL"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, changes: Any, what: str) -> None:
    path = written(tmp_path, json.dumps(GOOD | changes))
    with pytest.raises(SettingError) as raised:
        read_service_account(path, "ONWARD_FCM_CREDENTIALS")
    assert what in str(raised.value)
    assert str(raised.value).startswith("ONWARD_FCM_CREDENTIALS is ")
    assert "hunter2" not in str(raised.value)
    assert "PRIVATE" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "not JSON"),
        (PEM, "not JSON"),
        ("[]", "no JSON object"),
        ("[" * 50_000, "not JSON"),
        (" " * 70_000, "too large"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(SettingError, match=what):
        read_service_account(written(tmp_path, text), "X")


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="cannot be read"):
        read_service_account(str(tmp_path / "none.json"), "X")
    with pytest.raises(SettingError, match="cannot be read"):
        read_service_account(str(tmp_path), "X")
