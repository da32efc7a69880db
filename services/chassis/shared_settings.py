"""Settings that every service has, with the same variable for all of them."""

from dataclasses import dataclass

from services.chassis.settings import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedSettings:
    """What every service must know. Read from `ONWARD_…` without a service's name."""

    etcd: str = setting("127.0.0.1:2379", shared=True, doc="host:port of etcd")
    secret: str = setting(
        shared=True,
        secret=True,
        least=16,
        doc="the shared secret that calls between services carry, 16 characters or more",
    )
    lease_ttl_s: int = setting(
        5,
        shared=True,
        least=2,
        most=60,
        doc="seconds until a silent process loses what it holds; shorter fails over sooner and "
        "suffers more from pauses",
    )
    log_level: str = setting("info", shared=True, doc="debug, info, warning or error")
    metrics_host: str = setting(
        "127.0.0.1",
        shared=True,
        doc="address that …_METRICS_PORT is opened on; it asks for no secret, so anything but "
        "loopback belongs on a private network",
    )
