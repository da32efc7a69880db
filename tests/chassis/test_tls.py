"""The files of TLS: what is taken, what is refused in which words, and what a change does."""

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID
from prometheus_client import REGISTRY

from services.chassis import tls
from services.chassis.errors import SettingError, StartError
from services.chassis.shared_settings import SharedSettings
from services.chassis.tls import Certificates, Trust, trust_of
from tests.certificates import Authority, Files

SECRET = "a secret of sixteen or more"


def settings(files: Files | None = None, **changes: str) -> SharedSettings:
    paths: dict[str, str] = {}
    if files is not None:
        paths = {"tls_ca_file": str(files.ca), "tls_cert_file": str(files.cert),
                 "tls_key_file": str(files.key)}  # fmt: skip
    return SharedSettings(**(paths | changes))  # type: ignore[arg-type]


def certificates(files: Files) -> Certificates:
    return Certificates(files.environ("edge"))


def refused(changed: SharedSettings, error: type[SettingError] = StartError) -> str:
    with pytest.raises(error) as raised:
        trust_of(changed, "edge")
    assert raised.type is error
    return str(raised.value)


def test_a_secret_or_certificates_or_both_are_enough(tmp_path: Path) -> None:
    files = Authority(tmp_path).sign()
    assert trust_of(settings(secret=SECRET), "edge") == Trust(SECRET)
    alone = trust_of(settings(files), "edge")
    assert alone.certificates is not None and not alone.secret
    assert trust_of(settings(files, secret=SECRET), "edge").secret == SECRET
    assert SECRET not in repr(Trust(SECRET))


def test_with_neither_a_service_does_not_start() -> None:
    assert "ONWARD_SECRET is not set" in refused(settings(), SettingError)


@pytest.mark.parametrize("absent", ["ca", "cert", "key"])
def test_two_of_three_files_are_refused_by_the_name_of_the_third(
    tmp_path: Path, absent: str
) -> None:
    files = Authority(tmp_path).sign()
    said = refused(settings(files, **{f"tls_{absent}_file": "", "secret": SECRET}), SettingError)
    assert said.startswith(f"ONWARD_EDGE_TLS_{absent.upper()}_FILE is not set")


def test_a_name_without_certificates_would_mean_nothing() -> None:
    said = refused(settings(secret=SECRET, tls_name="onward"), SettingError)
    assert said.startswith("ONWARD_EDGE_TLS_NAME is set")


@pytest.mark.parametrize("absent", ["ca", "cert", "key"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, absent: str) -> None:
    files = Authority(tmp_path).sign()
    getattr(files, absent).unlink()
    said = refused(settings(files))
    assert said.startswith(f"ONWARD_EDGE_TLS_{absent.upper()}_FILE is {tmp_path}")
    assert "No such file" in said


@pytest.mark.parametrize(
    ("broken", "words"),
    [("ca", "holds no certificate"), ("cert", "holds no certificate"), ("key", "no private key")],
)
def test_a_file_of_something_else_is_named(tmp_path: Path, broken: str, words: str) -> None:
    files = Authority(tmp_path).sign()
    for content in (b"", b"something else", b"\xff\x00"):
        getattr(files, broken).write_bytes(content)
        said = refused(settings(files))
        assert said.startswith(f"ONWARD_EDGE_TLS_{broken.upper()}_FILE") and words in said


def test_a_key_with_a_password_is_refused_and_nobody_is_asked_for_it(tmp_path: Path) -> None:
    files = Authority(tmp_path).sign()
    key = serialization.load_pem_private_key(files.key.read_bytes(), None)
    files.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"password"),
        )
    )
    assert "without a password" in refused(settings(files))


def test_the_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    files, other = authority.sign("one"), authority.sign("two")
    said = refused(settings(files, tls_key_file=str(other.key)))
    assert "ONWARD_EDGE_TLS_KEY_FILE is not the key of ONWARD_EDGE_TLS_CERT_FILE" in said


def test_a_certificate_of_another_ca_is_refused(tmp_path: Path) -> None:
    other = Authority(tmp_path / "other").file
    said = refused(settings(Authority(tmp_path).sign(), tls_ca_file=str(other)))
    assert "ONWARD_EDGE_TLS_CERT_FILE does not hold before ONWARD_EDGE_TLS_CA_FILE" in said


def test_an_expired_certificate_is_refused(tmp_path: Path) -> None:
    said = refused(settings(Authority(tmp_path).sign(days=-1)))
    assert said.startswith("ONWARD_EDGE_TLS_CERT_FILE") and "expired" in said


@pytest.mark.parametrize(
    "usage", [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
)
def test_a_certificate_for_one_end_alone_is_refused(tmp_path: Path, usage: Any) -> None:
    said = refused(settings(Authority(tmp_path).sign(usages=(usage,))))
    assert said.startswith("ONWARD_EDGE_TLS_CERT_FILE") and "for servers and clients" in said


def test_what_is_current_is_the_same_until_a_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "LOOKED_AT_EVERY_S", 0)
    authority = Authority(tmp_path)
    read = certificates(authority.sign())
    first = read.current()
    assert read.current() is first
    renewed = authority.sign(days=5)
    assert read.current().cert == renewed.cert.read_bytes() != first.cert
    shown = REGISTRY.get_sample_value("onward_tls_certificate_expires_timestamp_seconds")
    assert shown is not None and shown > 4 * 86_400


def test_a_change_that_does_not_hold_together_waits_for_its_other_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "LOOKED_AT_EVERY_S", 0)
    authority = Authority(tmp_path)
    files, other = authority.sign("one"), authority.sign("two")
    read = certificates(files)
    first = read.current()
    other.cert.replace(files.cert)
    assert read.current() is first
    files.key.unlink()
    assert read.current() is first
    other.key.replace(files.key)
    assert read.current().key == files.key.read_bytes() != first.key
