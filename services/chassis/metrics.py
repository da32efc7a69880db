"""The /metrics port of services that serve no HTTP themselves."""

from prometheus_client import start_http_server

from services.chassis.errors import StartError


def serve(port: int, host: str = "127.0.0.1") -> None:
    """Serve /metrics on `host:port` from a thread of its own; 0: do not."""
    if port == 0:
        return
    try:
        start_http_server(port, host)
    except OSError as error:
        raise StartError(
            f"the metrics port {host}:{port} cannot be opened ({error.strerror}); choose another"
        ) from None
