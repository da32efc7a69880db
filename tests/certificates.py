"""Certificates for tests: a CA, and what it signs, as PEM files."""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Usages = tuple[x509.ObjectIdentifier, ...]
BOTH: Usages = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


@dataclass(frozen=True)
class Files:
    """The three files of a service."""

    ca: Path
    cert: Path
    key: Path

    def environ(self, service: str) -> dict[str, str]:
        """As settings of a service."""
        prefix = f"ONWARD_{service.upper()}_TLS"
        return {
            f"{prefix}_CA_FILE": str(self.ca),
            f"{prefix}_CERT_FILE": str(self.cert),
            f"{prefix}_KEY_FILE": str(self.key),
        }


class Authority:
    """A CA of its own, whose files lie in `directory`."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        basic = x509.BasicConstraints(ca=True, path_length=0)
        made = _builder(self._name, self._name, self._key, days=30)
        signed = made.add_extension(basic, critical=True).sign(self._key, hashes.SHA256())
        self.file = directory / f"{name}.pem"
        self.file.write_bytes(signed.public_bytes(serialization.Encoding.PEM))

    def sign(
        self,
        name: str = "service",
        *,
        hosts: tuple[str, ...] = ("127.0.0.1",),
        days: float = 1,
        usages: Usages = BOTH,
    ) -> Files:
        """A certificate for hosts (names or IPs); `days` below zero: it has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = _builder(subject, self._name, key, days)
        for extension in (
            x509.SubjectAlternativeName([_host(host) for host in hosts]),
            x509.ExtendedKeyUsage(usages),
        ):
            made = made.add_extension(extension, critical=False)
        signed = made.sign(self._key, hashes.SHA256())
        files = Files(self.file, self._directory / f"{name}.pem", self._directory / f"{name}.key")
        # As whoever renews certificates should: whole files, by renaming.
        for path, content in ((files.key, _pem(key)), (files.cert, _pem(signed))):
            fresh = path.with_suffix(".new")
            fresh.write_bytes(content)
            fresh.replace(path)
        return files


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: float
) -> x509.CertificateBuilder:
    until = datetime.now(UTC) + timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(until - timedelta(days=90))
        .not_valid_after(until)
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(made: x509.Certificate | ec.EllipticCurvePrivateKey) -> bytes:
    if isinstance(made, x509.Certificate):
        return made.public_bytes(serialization.Encoding.PEM)
    return made.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
