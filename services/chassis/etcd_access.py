"""How this process proves to etcd who it is, and etcd to it: certificates, user and password.

Knows which files hold what, and reads them anew for every connection, so that a renewed certificate
or password needs no restart. Must not know when connections are made. The password is read from a
file and appears nowhere else: not in a field, a log line or an exception.
"""

from dataclasses import dataclass
from pathlib import Path

import grpc

from services.chassis.errors import SettingError, Unavailable


@dataclass(frozen=True, slots=True)
class Access:
    """Files and a user; everything empty: an etcd that is open to all, without TLS."""

    ca_file: str = ""  # PEM; signs etcd's certificates. Empty: those that the system trusts
    cert_file: str = ""  # PEM; our certificate, with key_file
    key_file: str = ""
    user: str = ""
    password_file: str = ""

    @property
    def encrypted(self) -> bool:
        """Whether connections use TLS: if there is any file for it."""
        return bool(self.ca_file or self.cert_file)

    def check(self) -> None:
        """Raises SettingError if something is missing, or a file cannot be read."""
        pairs = (
            ("CERT_FILE", self.cert_file, "KEY_FILE", self.key_file),
            ("USER", self.user, "PASSWORD_FILE", self.password_file),
        )
        for one, first, other, second in pairs:
            if bool(first) != bool(second):
                missing, given = (other, one) if first else (one, other)
                raise SettingError(
                    f"ONWARD_ETCD_{missing} is not set; it belongs to ONWARD_ETCD_{given}"
                )
        for name, path in (
            ("CA_FILE", self.ca_file),
            ("CERT_FILE", self.cert_file),
            ("KEY_FILE", self.key_file),
            ("PASSWORD_FILE", self.password_file),
        ):
            try:
                _content(path)
            except Unavailable as fault:
                raise SettingError(f"ONWARD_ETCD_{name}: {fault}; name a readable file") from None

    def channel_credentials(self) -> grpc.ChannelCredentials | None:
        """What the files hold now; None: no TLS. Raises Unavailable if one cannot be read."""
        if not self.encrypted:
            return None
        return grpc.ssl_channel_credentials(
            root_certificates=_content(self.ca_file),
            private_key=_content(self.key_file),
            certificate_chain=_content(self.cert_file),
        )

    def password(self) -> str:
        """What the password's file holds now, without the line's end. Raises Unavailable."""
        content = _content(self.password_file) or b""
        try:
            return content.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            raise Unavailable(f"{self.password_file} holds no text") from None


def _content(path: str) -> bytes | None:
    if not path:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise Unavailable(f"{path} cannot be read ({error.strerror})") from None
