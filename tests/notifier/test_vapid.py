"""The operator's key in every form, and claims that are made anew."""

from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from services.chassis.errors import SettingError
from services.notifier.vapid import CLAIM_S, Vapid, read_vapid
from tests.notifier.fake_fcm import PEM as RSA
from tests.notifier.push_server import encoded

# Always the same: the public half is logged, and by chance another could look like a token there.
KEY = ec.derive_private_key(2**255 - 19, ec.SECP256R1())
SUBJECT = "mailto:ops@example.org"


def pem(key: Any, form: Any = serialization.PrivateFormat.PKCS8) -> str:
    encoding = serialization.Encoding.PEM
    return str(key.private_bytes(encoding, form, serialization.NoEncryption()).decode())


PARAMETERS = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
TRADITIONAL = pem(KEY, serialization.PrivateFormat.TraditionalOpenSSL)
RAW = encoded(KEY.private_numbers().private_value.to_bytes(32, "big"))


def read(key: str, subject: str = SUBJECT) -> Vapid:
    return read_vapid(key, subject, "ONWARD_WEBPUSH_VAPID_KEY", "ONWARD_WEBPUSH_SUBJECT")


@pytest.mark.parametrize(
    "text",
    [pem(KEY), TRADITIONAL, PARAMETERS + TRADITIONAL, pem(KEY).replace("\n", "\\n"), RAW],
    ids=["pkcs8", "traditional", "with parameters", "on one line", "raw"],
)
def test_the_key_is_read_in_every_form(text: str) -> None:
    assert read(text).public_key == Vapid(KEY, SUBJECT).public_key


@pytest.mark.parametrize("text", [pem(KEY), PARAMETERS + TRADITIONAL])
def test_the_key_may_be_in_a_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "vapid.pem"
    path.write_text(text)
    assert read(str(path)).public_key == Vapid(KEY, SUBJECT).public_key


@pytest.mark.parametrize(
    "text",
    [
        RSA,
        pem(ec.generate_private_key(ec.SECP384R1())),
        pem(KEY)[:-60],
        "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----",
        "/no/such/file.pem",
        "hunter2",
        "A" * 43,
        "\0",
    ],
)
def test_another_key_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(SettingError, match="ONWARD_WEBPUSH_VAPID_KEY is no private key") as raised:
        read(text)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    "subject",
    ["", "ops@example.org", "mailto:", "mailto:@", "http://example.org", "https://", "mailto:a b@c",
     "mailto:ä@example.org", "mailto:a@b\r\n"],
)  # fmt: skip
def test_a_subject_that_is_no_contact_is_refused(subject: str) -> None:
    with pytest.raises(SettingError, match="ONWARD_WEBPUSH_SUBJECT is"):
        read(RAW, subject)


def test_claims_are_made_anew_for_each_push_service() -> None:
    vapid = read(RAW)
    claims = []
    for origin, now_s in (("https://a.example", 2e9), ("https://b.example", 2e9 + 5)):
        token = vapid.authorization(origin, now_s).removeprefix("vapid t=").split(",")[0]
        claims.append(jwt.decode(token, KEY.public_key(), ["ES256"], audience=origin))
    assert [c["aud"] for c in claims] == ["https://a.example", "https://b.example"]
    assert [c["exp"] for c in claims] == [int(2e9) + CLAIM_S, int(2e9) + 5 + CLAIM_S]
    assert {c["sub"] for c in claims} == {SUBJECT}


def test_the_key_is_not_in_what_is_printed_of_it() -> None:
    assert "key" not in repr(read(RAW))
