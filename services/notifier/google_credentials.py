"""Reads the key file of a Google service account, and says what is wrong with it."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from services.chassis.errors import SettingError

FILE_BYTES_MAX = 65_536  # such a file has about 2 kB
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """Who asks, and with what key."""

    project: str
    email: str
    token_url: str
    key_id: str
    key: RSAPrivateKey = field(repr=False)


def read_service_account(path: str, variable: str) -> ServiceAccount:
    """The account in the file at `path`. Raises SettingError naming `variable` and what is wrong.

    Nothing of the file is repeated in the sentence.
    """

    def wrong(what: str) -> SettingError:
        return SettingError(
            f"{variable} is {path!r}, and {what}; set it to the JSON file of a service account's "
            "key, as the Firebase console makes it (Project settings, Service accounts)"
        )

    try:
        with Path(path).open("rb") as file:
            text = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise wrong(f"this file cannot be read ({error.strerror})") from None
    if len(text) > FILE_BYTES_MAX:
        raise wrong("this file is too large for a key")
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        raise wrong("this file is not JSON") from None
    if not isinstance(said, dict):
        raise wrong("this file holds no JSON object")
    if said.get("type") != "service_account":
        raise wrong("its `type` is not `service_account`")
    for name in ("project_id", "client_email", "private_key", "token_uri"):
        if not isinstance(said.get(name), str) or not said[name]:
            raise wrong(f"it has no `{name}`")
    if not said["project_id"].replace("-", "").replace(":", "").replace(".", "").isalnum():
        raise wrong("its `project_id` is not the name of a project")
    if not _may_be_asked(said["token_uri"]):
        raise wrong("its `token_uri` is not an https: URL")
    key = _key(said["private_key"])
    if key is None:
        raise wrong("its `private_key` is not an RSA key in PEM")
    key_id: Any = said.get("private_key_id")
    return ServiceAccount(
        project=said["project_id"],
        email=said["client_email"],
        token_url=said["token_uri"],
        key_id=key_id if isinstance(key_id, str) else "",
        key=key,
    )


def _key(pem: str) -> RSAPrivateKey | None:
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, RSAPrivateKey) else None


def _may_be_asked(url: str) -> bool:
    """Whether it is https:, or http: on this machine, where nobody listens in."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    if not parts.hostname:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)
