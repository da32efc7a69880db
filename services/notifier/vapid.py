"""Says who sends a Web Push: a signed claim for each push service (RFC 8292)."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from pathlib import Path

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from services.chassis.errors import SettingError

CLAIM_S = 43_200  # a claim's life; push services take 24 h at most, and clocks differ
KEY_FILE_BYTES_MAX = 65_536
_RAW_CHARACTERS = 43  # 32 bytes in base64url


@dataclass(frozen=True, slots=True)
class Vapid:
    """The operator's key, and whom a push service may write to."""

    key: ec.EllipticCurvePrivateKey = field(repr=False)
    subject: str

    @property
    def public_key(self) -> str:
        """What pages give to `subscribe()` as applicationServerKey: base64url, no padding."""
        point = self.key.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        return urlsafe_b64encode(point).decode().rstrip("=")

    def authorization(self, origin: str, now_s: float) -> str:
        """The header for a push service at `origin`. Claims are made anew for each."""
        claims = {"aud": origin, "exp": int(now_s) + CLAIM_S, "sub": self.subject}
        return f"vapid t={jwt.encode(claims, self.key, 'ES256')}, k={self.public_key}"


def read_vapid(key: str, subject: str, key_variable: str, subject_variable: str) -> Vapid:
    """The key in PEM, in a file of it, or as 43 characters of base64url. Raises SettingError.

    Of the key nothing is repeated.
    """
    if not _is_contact(subject):
        raise SettingError(
            f"{subject_variable} is {subject!r}; set it to a mailto: or https: URL where push "
            "services find whoever runs this, such as mailto:ops@example.org"
        )
    read = _of_raw(key) if len(key) == _RAW_CHARACTERS else None
    if read is None:
        read = _of_pem(key.replace("\\n", "\n") if "-----BEGIN" in key else _file(key))
    if read is None:
        raise SettingError(
            f"{key_variable} is no private key of the curve P-256; set it to one, as PEM or as the "
            "path of a PEM file: openssl ecparam -name prime256v1 -genkey -noout -out vapid.pem"
        )
    return Vapid(read, subject)


def _is_contact(subject: str) -> bool:
    if not (subject.isascii() and subject.isprintable()) or " " in subject or len(subject) > 255:
        return False
    if subject.startswith("mailto:"):
        return "@" in subject.removeprefix("mailto:").strip("@")
    return subject.startswith("https://") and len(subject) > len("https://")


def _file(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            return file.read(KEY_FILE_BYTES_MAX).decode("ascii", "replace")
    except (OSError, ValueError):
        return ""  # Not named in the sentence: it may be a key that was written wrongly.


def _of_pem(pem: str) -> ec.EllipticCurvePrivateKey | None:
    start = pem.find("-----BEGIN", pem.find("-----END EC PARAMETERS") + 1)
    try:
        key = serialization.load_pem_private_key(pem[max(start, 0) :].encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    return None


def _of_raw(text: str) -> ec.EllipticCurvePrivateKey | None:
    try:
        number = int.from_bytes(urlsafe_b64decode(text + "="), "big")
        return ec.derive_private_key(number, ec.SECP256R1())
    except ValueError:
        return None
