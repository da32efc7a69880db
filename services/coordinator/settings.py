"""The coordinator's settings, read once from `ONWARD_COORDINATOR_…`."""

from dataclasses import dataclass

from services.chassis.errors import SettingError
from services.chassis.settings import setting
from services.chassis.shared_settings import SharedSettings
from services.coordinator.uplinks import TRANSIENT_BYTES_MAX


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
        "onward-data/coordinator",
        doc="folder of the log, without a store; one process at a time may use it",
    )
    store: str = setting(
        "",
        secret=True,
        doc="postgresql://user@host[,host]/database of the log that all coordinators share, with "
        "a synchronous standby; a password is better in a PGPASSFILE; empty: a log in data_dir, "
        "for this coordinator alone",
    )
    store_answer_s: float = setting(
        3.0,
        least=0.5,
        most=60,
        doc="seconds that PostgreSQL may take to answer; then it is unknown what was written, and "
        "partitions are claimed anew; less notices a fail-over sooner and suffers more from pauses",
    )
    metrics_port: int = setting(0, least=0, most=65_535, doc="port of /metrics; 0: none")
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
    uplink_transient_bytes_max: int = setting(
        TRANSIENT_BYTES_MAX,
        least=0,
        doc="bytes waiting for one edge beyond which it is sent no transient messages",
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
        7 * 86_400, least=60, doc="seconds a message is kept; older ones cannot be recovered"
    )
    retain_messages: int = setting(
        10_000,
        least=100,
        doc="messages kept per subject; surplus ones go once they are older than retain_min_s",
    )
    retain_bytes: int = setting(
        10 * 1024**3,
        least=1024 * 1024,
        doc="bytes of the log in all; beyond it the oldest entries go, once they are older than "
        "retain_min_s and presence has processed them; a quarter above it nothing is accepted "
        "(STORE_FULL)",
    )
    retain_min_s: int = setting(
        600,
        least=1,
        doc="seconds during which no number and no bytes remove a message; less needs less disk, "
        "and at least twice unanswered_s and the lease's time is needed, or an absent client's "
        "messages could go before it is notified",
    )
    unanswered_s: int = setting(
        50,
        least=1,
        doc="seconds that a message may be unacknowledged before its client counts as offline: the "
        "edges' unacknowledged_s and the longest grace of presence, added",
    )
    subject_ttl_s: int = setting(
        90 * 86_400,
        least=60,
        doc="seconds after which a subject that nobody published on, and of which the log has "
        "nothing left, is forgotten with its retained message; its seqs never start again",
    )
    clients_forget_s: int = setting(
        90 * 86_400,
        least=60,
        doc="seconds after which a client that was not seen is forgotten with its follows and "
        "external tokens: nothing is sent for it any more",
    )
    drain_s: float = setting(
        3.0, least=0, most=60, doc="seconds that a stop waits for commits and deliveries"
    )


def check(settings: Settings) -> None:
    """Raises SettingError for what no single setting shows."""
    least = 2 * (settings.unanswered_s + settings.lease_ttl_s)
    if settings.retain_min_s < least:
        raise SettingError(
            f"ONWARD_COORDINATOR_RETAIN_MIN_S is {settings.retain_min_s}; set it to {least} or "
            "more: twice ONWARD_COORDINATOR_UNANSWERED_S and ONWARD_LEASE_TTL_S together"
        )
    for name in ("retain_s", "subject_ttl_s", "clients_forget_s"):
        if getattr(settings, name) < settings.retain_min_s:
            raise SettingError(
                f"ONWARD_COORDINATOR_{name.upper()} is {getattr(settings, name)}; set it to "
                f"{settings.retain_min_s} or more, which is ONWARD_COORDINATOR_RETAIN_MIN_S"
            )
