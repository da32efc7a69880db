"""What a process shows to its peers and asks of them: the shared secret, mutual TLS, or both.

`Trust` goes to every server and channel. `Certificates` are the three files of mutual TLS, read
again when they change; a set that does not hold together is not taken, and the one before it
stays. It knows files and handshakes; it must not know gRPC.

Drive it: `trust = trust_of(settings, "edge")` at the start, which raises StartError with the
remedy; then `Server(address, trust, …)` and `open_channel(address, trust)`.
"""

import os
import ssl
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from prometheus_client import Gauge

from services.chassis import logs
from services.chassis.errors import SettingError, StartError

LOOKED_AT_EVERY_S = 1.0  # whether a file has changed
# A handshake takes a few exchanges; one that takes more stands still.
_EXCHANGES_MAX = 10
_LOST_RACES_MAX = 3  # files that change while they are read are read again, this often

log = logs.get(__name__)
_EXPIRES = Gauge(
    "onward_tls_certificate_expires_timestamp_seconds",
    "When this process's certificate for its peers expires (Unix time); 0: none is used",
)


class TlsSettings(Protocol):
    """What the settings of every service say of its peers."""

    @property
    def secret(self) -> str: ...
    @property
    def tls_ca_file(self) -> str: ...
    @property
    def tls_cert_file(self) -> str: ...
    @property
    def tls_key_file(self) -> str: ...
    @property
    def tls_name(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Pems:
    """What the three files held at one moment; it was found to hold together."""

    ca: bytes
    cert: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Trust:
    """What calls carry, and what is asked of them. With neither part nobody may serve.

    `secret` goes with every call and is asked of every call; empty: no secret. `certificates`:
    connections are TLS, and both ends show a certificate; None: they are plain.
    """

    secret: str = ""
    certificates: "Certificates | None" = None

    def __post_init__(self) -> None:
        assert self.secret or self.certificates, "nobody serves strangers"

    def __repr__(self) -> str:
        parts = ["secret"] * bool(self.secret) + ["certificates"] * bool(self.certificates)
        return f"Trust({', '.join(parts)})"


def trust_of(settings: TlsSettings, service: str) -> Trust:
    """Reads and tries the files. Raises SettingError that names the variable and the remedy."""
    prefix = f"ONWARD_{service.upper()}_TLS"
    files = {
        f"{prefix}_CA_FILE": settings.tls_ca_file,
        f"{prefix}_CERT_FILE": settings.tls_cert_file,
        f"{prefix}_KEY_FILE": settings.tls_key_file,
    }
    missing = [name for name, path in files.items() if not path]
    if not missing:
        return Trust(settings.secret, Certificates(files, settings.tls_name))
    if len(missing) < len(files):
        raise SettingError(
            f"{missing[0]} is not set, and others of {prefix}_… are; set all three, or none"
        )
    if settings.tls_name:
        raise SettingError(
            f"{prefix}_NAME is set, and {missing[0]} is not; without TLS it means nothing"
        )
    if not settings.secret:
        raise SettingError(
            f"ONWARD_SECRET is not set; set it to the shared secret, 16 characters or more, or set "
            f"{', '.join(files)} for mutual TLS"
        )
    return Trust(settings.secret)


class Certificates:
    """The three files of a process, by the variables that name them: CA, certificate, key.

    `name`: what a peer's certificate must be for, whatever address it is reached at; empty: for
    that address. Any thread may ask for what is current.
    """

    def __init__(self, files: dict[str, str], name: str = "") -> None:
        self.name = name
        self._files = files
        self._lock = threading.Lock()
        self._look_at = 0.0
        self._stamp = self._stamp_now()
        self._pems = self._read()

    def current(self) -> Pems:
        """What the files hold; the same object until they change."""
        with self._lock:
            now = time.monotonic()
            if now >= self._look_at:
                self._look_at = now + LOOKED_AT_EVERY_S
                self._look()
            return self._pems

    def _look(self) -> None:
        stamp = self._stamp_now()
        if stamp == self._stamp:
            return
        try:
            self._pems = self._read()
        except StartError as error:
            # Perhaps one file is new and another is not yet: then all is well in a moment.
            log.warning("certificates_refused", reason=str(error))
        else:
            log.info("certificates_renewed")
        self._stamp = stamp

    def _stamp_now(self) -> tuple[tuple[int, int, int], ...] | None:
        """What changes when a file does, or who may read it; None: one cannot be looked at."""
        try:
            seen = [Path(path).stat() for path in self._files.values()]
        except OSError:
            return None
        return tuple((one.st_ctime_ns, one.st_size, one.st_ino) for one in seen)

    def _read(self) -> Pems:
        for _ in range(_LOST_RACES_MAX):
            contents = [_content(name, path) for name, path in self._files.items()]
            pems = Pems(*contents)
            expires = _tried(pems, self._files)
            if contents == [_content(name, path) for name, path in self._files.items()]:
                break
        _EXPIRES.set(expires)
        return pems


def _content(name: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise StartError(
            f"{name} is {path}, which cannot be read ({error.strerror}); name a PEM file that "
            "this process may read"
        ) from None


def _tried(pems: Pems, names: dict[str, str]) -> float:
    """When the certificate expires (Unix time). Raises StartError if this set could not serve both
    ends of a connection: it is tried in a handshake with itself."""
    ca, cert, key = names
    _check_certificates(pems.ca, ca)
    _check_certificates(pems.cert, cert)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False  # names are for who is reached at an address
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.verify_mode = ssl.CERT_REQUIRED
    try:
        for context in (client, server):
            context.load_verify_locations(cadata=pems.ca.decode("ascii", "ignore"))
            _load(context, pems)
    except (ssl.SSLError, ValueError) as error:
        other = getattr(error, "reason", "") == "KEY_VALUES_MISMATCH"
        wrong = f"is not the key of {cert}" if other else "is no private key without a password"
        raise StartError(f"{key} {wrong}; name the PEM file of that key") from None
    try:
        shown = _shake_hands(client, server)
    except ssl.SSLCertVerificationError as error:
        raise StartError(
            f"{cert} does not hold before {ca} ({error.verify_message}); name a certificate that "
            "one of those CAs has signed, for servers and clients, and that is valid now"
        ) from None
    except ssl.SSLError as error:
        raise StartError(f"{cert} cannot be used ({error.reason}); make another") from None
    return ssl.cert_time_to_seconds(str(shown["notAfter"]))


def _check_certificates(pem: bytes, name: str) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(
            cadata=pem.decode("ascii", "ignore")
        )
    except (ssl.SSLError, ValueError):
        raise StartError(f"{name} holds no certificate; name a PEM file with one") from None


def _load(context: ssl.SSLContext, pems: Pems) -> None:
    """The chain and key as they were read: the files may have changed since."""
    paths: list[str] = []
    files: list[int] = []
    try:
        for content in (pems.cert, pems.key):
            file = os.memfd_create("onward")
            files.append(file)
            os.write(file, content)
            paths.append(f"/proc/self/fd/{file}")
        # Whoever is asked for a password would wait for ever.
        chain, key = paths
        context.load_cert_chain(chain, key, "")
    finally:
        for file in files:
            os.close(file)


def _shake_hands(client: ssl.SSLContext, server: ssl.SSLContext) -> dict[str, object]:
    """What the server showed to the client. Raises ssl.SSLError if either refuses the other."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(back, there)
    far = server.wrap_bio(there, back, server_side=True)
    for _ in range(_EXCHANGES_MAX):
        if all([_greeted(near), _greeted(far)]):
            return dict(near.getpeercert() or {})
    raise ssl.SSLError("the handshake does not end")


def _greeted(end: ssl.SSLObject) -> bool:
    try:
        end.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True
