"""Asks a container's service whether it can do its work: `python -m services.chassis.probe`.

What runs containers asks by it, since every port wants a certificate or the secret, which its own
checks cannot show. It reads the environment that the service itself has, and `SERVICE`, the
service's name. Exit code 0: it can; 1: it cannot (with `--alive`: it does not answer), and a
sentence says why; 2: it was set up wrong. Must not import a service.
"""

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.chassis.channel import open_channel
from services.chassis.errors import SettingError
from services.chassis.tls import Trust, trust_of

_ANSWER_S = 3.0
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}
_USAGE = "SERVICE is not set; set it to edge, coordinator, presence or notifier"


@dataclass(frozen=True, slots=True)
class Peer:
    """How the service is reached, and what it wants to be shown."""

    address: str  # host:port
    trust: Trust


@dataclass(frozen=True, slots=True)
class _Settings:
    secret: str
    tls_ca_file: str
    tls_cert_file: str
    tls_key_file: str
    tls_name: str


def peer(environ: Mapping[str, str]) -> Peer:
    """The service, by its own settings. Raises SettingError where they do not say."""
    service = environ.get("SERVICE", "")
    if not service:
        raise SettingError(_USAGE)
    prefix = f"ONWARD_{service.upper()}_"
    name = prefix + ("GRPC_ADDRESS" if service == "edge" else "LISTEN")
    host, _, port = environ.get(name, "").rpartition(":")
    if not host or port in ("", "0"):
        raise SettingError(f"{name} names no port; set it to host:port")
    tls = {part: environ.get(f"{prefix}TLS_{part}_FILE", "") for part in ("CA", "CERT", "KEY")}
    trust = trust_of(
        _Settings(
            environ.get("ONWARD_SECRET", ""),
            tls["CA"],
            tls["CERT"],
            tls["KEY"],
            environ.get(prefix + "TLS_NAME", ""),
        ),
        service,
    )
    advertised = environ.get(prefix + "ADVERTISE", "")
    if trust.certificates is not None and not trust.certificates.name and advertised:
        return Peer(advertised, trust)  # Its certificate is for that name.
    return Peer(f"{_EVERYWHERE.get(host, host)}:{port}", trust)


async def ask(whom: Peer, *, alive: bool) -> str:
    """Why it cannot do its work, in a sentence; empty: it can, or with `alive` it answers."""
    async with open_channel(whom.address, whom.trust) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        try:
            answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=_ANSWER_S)
        except grpc.aio.AioRpcError as error:
            return f"{whom.address} does not answer ({error.code().name})"
    if alive or answer.status == health_pb2.HealthCheckResponse.SERVING:
        return ""
    return f"{whom.address} answers that it cannot do its work now"


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """The exit code."""
    if list(arguments) not in ([], ["--alive"]):
        print("usage: python -m services.chassis.probe [--alive]", file=sys.stderr)
        return 2
    try:
        whom = peer(environ)
    except SettingError as error:
        print(error, file=sys.stderr)
        return 2
    why = asyncio.run(ask(whom, alive=bool(arguments)))
    if why:
        print(why, file=sys.stderr)
    return 1 if why else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
