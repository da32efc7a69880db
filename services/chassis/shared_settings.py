"""Settings that every service has: most with one variable for all, those of TLS with its own."""

from dataclasses import dataclass

from services.chassis.etcd_access import Access
from services.chassis.settings import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedSettings:
    """What every service must know. `shared` ones are read without a service's name."""

    etcd: str = setting(
        "127.0.0.1:2379",
        shared=True,
        doc="host:port of etcd; of each member, parted by commas: one is asked, and the next when "
        "it fails",
    )
    etcd_ca_file: str = setting(
        "",
        shared=True,
        doc="PEM file of the CAs that sign etcd's certificates, for TLS to etcd; empty: no TLS, or "
        "with a certificate of ours those that the system trusts. Files are read again for every "
        "connection",
    )
    etcd_cert_file: str = setting(
        "", shared=True, doc="PEM file of the certificate that is shown to etcd, with its chain"
    )
    etcd_key_file: str = setting(
        "", shared=True, doc="PEM file of that certificate's key, without a password"
    )
    etcd_user: str = setting(
        "", shared=True, doc="user of etcd, who may read and write what is under /onward/"
    )
    etcd_password_file: str = setting(
        "",
        shared=True,
        doc="file of that user's password; without TLS it is sent for everybody to read",
    )
    secret: str = setting(
        "",
        shared=True,
        secret=True,
        least=16,
        doc="the shared secret that calls between services carry, 16 characters or more; required "
        "unless the three files of TLS are set, and asked for beside them if it is set too",
    )
    public_url: str = setting(
        "",
        shared=True,
        doc="https://host[:port] at which the world reaches the edges: where links in "
        "notifications lead, and where providers report what became of them; empty: there are no "
        "links, and providers are not told where",
    )
    link_secret: str = setting(
        "",
        shared=True,
        secret=True,
        least=16,
        doc="what links in notifications are signed with, 16 characters or more, the same for all "
        "services; empty: ONWARD_SECRET, and without that there are no links. With another, links "
        "sent before are not good any more",
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

    def link_key(self) -> str:
        """What links in notifications are signed with; empty: there are none."""
        return self.link_secret or self.secret

    def etcd_access(self) -> Access:
        """How to get into etcd."""
        return Access(
            self.etcd_ca_file,
            self.etcd_cert_file,
            self.etcd_key_file,
            self.etcd_user,
            self.etcd_password_file,
        )
