"""Sockets that are bound to where clients connect, for one process or for several that share it.

Knows addresses and SO_REUSEPORT; must not know what is served there.
"""

import socket as tcp

from services.chassis.errors import StartError


def bound_socket(address: str, *, shared: bool) -> tcp.socket:
    """A socket bound to `address` (`host:port`, port 0 draws one), which does not listen yet.

    `shared`: others that are bound so too have the same address, and the kernel deals connections
    out among those that listen. Raises StartError if the address cannot be had.
    """
    host, _, port = address.rpartition(":")
    bound = tcp.socket(tcp.AF_INET6 if ":" in host else tcp.AF_INET, tcp.SOCK_STREAM)
    bound.setsockopt(tcp.SOL_SOCKET, tcp.SO_REUSEADDR, 1)
    if shared:
        bound.setsockopt(tcp.SOL_SOCKET, tcp.SO_REUSEPORT, 1)
    bound.setblocking(False)
    try:
        bound.bind((host.strip("[]"), int(port)))
    except (OSError, ValueError, OverflowError) as error:
        bound.close()
        reason = error.strerror if isinstance(error, OSError) else "it is no host:port"
        raise StartError(
            f"cannot listen on {address} ({reason}); set ONWARD_EDGE_ADDRESS to another host:port"
        ) from None
    return bound


def reserved_socket(address: str) -> tcp.socket:
    """A socket that keeps `address` for workers that share it, as `bound_socket`.

    It is looked first whether somebody listens there already, who may share it unasked: two edges
    started by mistake at one address would each have half of the clients.
    """
    alone = bound_socket(address, shared=False)
    try:
        alone.listen(1)
        host, port = address.rpartition(":")[0], alone.getsockname()[1]
    except OSError:
        raise StartError(
            f"cannot listen on {address} (another process does); set ONWARD_EDGE_ADDRESS to "
            "another host:port"
        ) from None
    finally:
        alone.close()
    return bound_socket(f"{host}:{port}", shared=True)
