"""Settings that every service has: most with one variable for all, those of TLS with its own."""

from dataclasses import dataclass

from services.chassis.settings import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedSettings:
    """What every service must know. `shared` ones are read without a service's name."""

    etcd: str = setting("127.0.0.1:2379", shared=True, doc="host:port of etcd")
    secret: str = setting(
        "",
        shared=True,
        secret=True,
        least=16,
        doc="the shared secret that calls between services carry, 16 characters or more; required "
        "unless the three files of TLS are set, and asked for beside them if it is set too",
    )
    tls_ca_file: str = setting(
        "",
        doc="PEM file of the CAs whose certificates this service takes from the others, for TLS "
        "between services; all who hold one are let in, so let them sign nothing else. Files are "
        "read again when they change",
    )
    tls_cert_file: str = setting(
        "", doc="PEM file of this service's certificate, for servers and clients, with its chain"
    )
    tls_key_file: str = setting("", doc="PEM file of that certificate's key, without a password")
    tls_name: str = setting(
        "",
        doc="a name that the certificate of every service called must be for, instead of the host "
        "or IP address at which it is called",
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
