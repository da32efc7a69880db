"""The coordinator's settings, read once from `ONWARD_COORDINATOR_…`."""

from dataclasses import dataclass

from services.chassis.settings import setting
from services.chassis.shared_settings import SharedSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(SharedSettings):
    """Everything an operator can set."""

    name: str = setting(
        "coordinator-1",
        doc="stable name of this member; a process that starts under the name of another ends it",
    )
    listen: str = setting("127.0.0.1:0", doc="host:port to serve gRPC on; port 0 draws one")
    advertise: str = setting(
        "", doc="host:port that edges reach this process at; empty: the address it listens on"
    )
    data_dir: str = setting(
        "onward-data/coordinator", doc="folder of the log; one process at a time may use it"
    )
    metrics_port: int = setting(
        0, least=0, most=65_535, doc="port of /metrics on 127.0.0.1; 0: none"
    )
    partitions: int = setting(
        256,
        least=1,
        most=65_536,
        doc="number of partitions; frozen in etcd at the first start, later values are ignored",
    )
    era: int = setting(
        0,
        least=0,
        most=32_767,
        doc="top bits of every epoch; raise it by one after etcd lost or replaced its data",
    )
    queue_appends_max: int = setting(
        20_000,
        least=1,
        doc="appends waiting for a commit; beyond it requests are refused as OVERLOADED",
    )
    batch_appends_max: int = setting(
        2_000, least=1, doc="appends in one commit; larger costs latency, smaller throughput"
    )
    uplink_bytes_max: int = setting(
        16 * 1024 * 1024,
        least=65_536,
        doc="bytes waiting for one edge; an edge further behind has its stream closed and resumes",
    )
    recent_bytes_max: int = setting(
        16 * 1024 * 1024,
        least=0,
        doc="bytes of entries kept in memory for presence; older ones are read from the store",
    )
    report_entries_max: int = setting(
        1_000, least=1, most=10_000, doc="entries in one report to presence"
    )
    clients_max: int = setting(
        64, least=1, most=10_000, doc="clients of one user; beyond it TOO_MANY_CLIENTS"
    )
    external_tokens_max: int = setting(
        16,
        least=1,
        most=1_000,
        doc="external tokens of one user; beyond it TOO_MANY_EXTERNAL_TOKENS",
    )
    follows_max: int = setting(
        1_000, least=1, doc="subjects one client may follow; beyond it TOO_MANY_SUBSCRIPTIONS"
    )
    dedupe_window_s: int = setting(
        3_600,
        least=60,
        doc="seconds a publicationId is remembered; tell edges the same in their settings",
    )
    retain_s: int = setting(
        7 * 86_400, least=600, doc="seconds a message is kept; older ones cannot be recovered"
    )
    retain_messages: int = setting(
        10_000, least=100, doc="messages kept per subject; none younger than 10 minutes is removed"
    )
    retain_bytes: int = setting(
        10 * 1024**3,
        least=1024 * 1024,
        doc="bytes of the log in all; beyond it the oldest messages go first",
    )
    drain_s: float = setting(
        3.0, least=0, most=60, doc="seconds that a stop waits for commits and deliveries"
    )
