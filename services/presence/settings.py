"""The settings of the presence service."""

from dataclasses import dataclass

from services.chassis.settings import setting
from services.chassis.shared_settings import SharedSettings
from services.presence.breaker import BreakerLimits
from services.presence.notifications import Limits
from services.presence.state import Graces
from services.presence.user_data import UserLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(SharedSettings):
    """Read from `ONWARD_PRESENCE_…`, once, in `__main__`."""

    name: str = setting(
        "presence-1", doc="name of this member, stable over restarts; a second one replaces it"
    )
    listen: str = setting("127.0.0.1:0", doc="host:port of the gRPC server; port 0 draws one")
    advertise: str = setting(
        "", doc="host:port that others reach this process at; empty: the address it listens on"
    )
    data_dir: str = setting(
        "onward-data/presence",
        doc="directory of the store, without another; one process at a time may use it",
    )
    store: str = setting(
        "",
        secret=True,
        doc="postgresql://user@host[,host]/database of the store that all presence services share; "
        "a password is better in a PGPASSFILE; empty: "
        "a store in data_dir, for this process alone",
    )
    store_answer_s: float = setting(
        5.0,
        least=0.5,
        most=60,
        doc="seconds that PostgreSQL may take to answer; then presence gives up its term and "
        "claims anew; less notices a fail-over sooner and suffers more from pauses; below 3, a "
        "process that is stopped makes others fail for a moment rather than wait",
    )
    era: int = setting(
        0,
        least=0,
        most=32_767,
        doc="top bits of every epoch; raise it by one after etcd lost or replaced its data",
    )
    metrics_port: int = setting(0, least=0, most=65535, doc="port of /metrics; 0: none")
    plugins: tuple[str, ...] = setting(
        (),
        doc="host:port of each notifier plugin, parted by commas; the first that is ready wins a "
        "channel. One without TLS, where services have it, is written grpc://host:port",
    )

    routing: str = setting(
        "",
        doc="path of the routing file (YAML): which messages are notified by which policy, on "
        "which channels, with which words; read anew whenever it changes; empty: none",
    )

    grace_s: float = setting(
        10.0,
        least=0.05,
        most=3600,
        doc="seconds that a client which vanished still answers for its messages; longer spares "
        "notifications to those who return, and delays them to those who do not",
    )
    grace_clean_s: float = setting(
        3.0, least=0.05, most=3600, doc="the same after a clean close, in seconds"
    )
    grace_dead_edge_s: float = setting(
        15.0,
        least=0.05,
        most=3600,
        doc="the same when an edge died with its clients, who need time to find another",
    )
    returns_per_s: float = setting(
        400.0,
        least=1,
        most=1_000_000,
        doc="clients of a dead edge that can return in a second, all in all; that grace is longer "
        "by the time that all of them need, so that those still on their way are not notified",
    )
    away_after_s: float = setting(
        300.0,
        least=0,
        most=86_400,
        doc="seconds after which a client that is online, and said that nobody looks at it, "
        "silences nothing any more; 0: it always does",
    )
    hold_max_s: float = setting(
        120.0,
        least=0.05,
        most=3600,
        doc="longest time that a client which came back, and acknowledges nothing, holds one "
        "notification back, in seconds",
    )
    hold_check_s: float = setting(
        1.0,
        least=0.01,
        most=60,
        doc="how often a notification held back is looked at, in seconds; sooner finds an "
        "acknowledgement sooner and costs a transaction each",
    )
    collapse_s: float = setting(
        30.0,
        least=0,
        most=86_400,
        doc="seconds between two notifications of one subject to one user; messages in between "
        "are told together",
    )
    expiry_s: float = setting(
        86_400.0,
        least=1,
        most=31_622_400,
        doc="seconds after which a notification is not sent any more",
    )
    retry_first_s: float = setting(
        2.0, least=0.001, doc="longest wait before the first retry, in seconds; doubles with each"
    )
    retry_longest_s: float = setting(
        600.0, least=0.001, doc="longest wait before any retry, in seconds"
    )
    retry_tries_max: int = setting(
        8,
        least=1,
        most=100,
        doc="tries of one delivery; then it is a dead letter, if it is old enough for one",
    )
    dead_letter_after_s: float = setting(
        3_600.0,
        least=0,
        most=31_622_400,
        doc="seconds from the first try that counts, or from a replay, for which a delivery is "
        "tried on when its tries are used up, as long as it is known not to have been sent or "
        "its plugin says when to ask again; less gives up sooner, so that a provider which is out "
        "for longer leaves dead letters",
    )
    breaker_first_s: float = setting(
        1.0, least=0.01, doc="seconds that a plugin which failed as a whole is left alone at first"
    )
    breaker_longest_s: float = setting(
        60.0, least=0.01, doc="the same at most, after failures in a row"
    )
    notify_deadline_s: float = setting(
        30.0, least=0.05, doc="seconds that a plugin has for one batch; then its fate is unknown"
    )
    render_deadline_s: float = setting(
        2.0,
        least=0.1,
        most=60,
        doc="seconds that up to 100 deliveries with a template may take to get their words; then "
        "each is rendered alone, and one at fault is a dead letter",
    )
    render_budget_s: float = setting(
        0.25,
        least=0.01,
        most=10,
        doc="seconds of the processor that the template of one delivery may take; more lets heavy "
        "templates through, and keeps the others waiting while one loops",
    )
    entitlement: str = setting(
        "",
        doc="host:port of the hook that is asked whether users who are away may read what they are "
        "sent (EntitlementService of extension.v1); without TLS grpc://host:port; empty: nobody "
        "is asked",
    )
    entitlement_deadline_s: float = setting(
        2.0,
        least=0.05,
        most=60,
        doc="seconds that the hook has for an answer; then what asks waits",
    )
    entitlement_cache_s: float = setting(
        60.0,
        least=0,
        most=86_400,
        doc="seconds that its ALLOWED is relied on, where it does not say how long; less takes "
        "back a right sooner and asks more often",
    )
    plugins_wait_s: float = setting(
        5.0,
        least=0,
        doc="seconds after the start that nothing is sent while a configured plugin has not said "
        "what it serves, so that none of its notifications goes to a plugin for any channel",
    )
    plugin_bytes_max: int = setting(
        32 * 1024 * 1024,
        least=64 * 1024,
        doc="bytes of message contents in all calls of one plugin together; less makes batches of "
        "large messages smaller",
    )
    watches_max: int = setting(
        100,
        least=0,
        doc="stories watched at a time, each at the cost of one read whenever its user or subject "
        "is touched, and as many watches of who is there; more are refused",
    )
    backend_follows_max: int = setting(
        10_000,
        least=1,
        doc="subjects that one user may follow without a client, by backends and by themselves; "
        "more are refused",
    )
    external_tokens_max: int = setting(
        16,
        least=1,
        most=1_000,
        doc="external tokens that a user may have when one is added without a client; more are "
        "refused",
    )
    read_deadline_s: float = setting(
        2.0, least=0.05, doc="seconds that a coordinator has for a read of the log"
    )
    handovers_max: int = setting(
        8, least=1, most=256, doc="handovers at a time; more catch up sooner and delay live work"
    )
    handover_messages_max: int = setting(
        100,
        least=1,
        most=1_000,
        doc="messages of one subject that a handover decides one by one; the rest is one record",
    )
    report_entries_max: int = setting(
        500, least=1, doc="log entries in one transaction; fewer keep other work waiting less"
    )
    fanout_users_max: int = setting(
        200,
        least=1,
        doc="waiting users of one message decided in one transaction; those of a larger crowd "
        "follow in further ones, interleaved with other work",
    )
    sweep_every_s: float = setting(
        60.0, least=0.05, doc="how often sessions of edges that died are looked for, in seconds"
    )
    suppression_window_s: float = setting(
        3600.0, least=1, doc="suppressions for one reason are counted together for this long"
    )
    records_keep_s: float = setting(
        604_800.0,
        least=60,
        doc="seconds that records of notifications and suppressions are kept; a client that stays "
        "away for longer is not notified of older messages that the log may still have",
    )
    follows_keep_s: float = setting(
        2_592_000.0,
        least=60,
        doc="seconds after a user was last there, with any client, that the user's follows end: "
        "nothing is sent to somebody who may not be entitled any more",
    )
    clients_keep_s: float = setting(
        604_800.0,
        least=60,
        doc="seconds that a client without follows and external tokens is remembered; events of "
        "its former sessions must not come later than that",
    )
    extension_deadline_s: float = setting(
        30.0,
        least=0.05,
        most=600,
        doc="seconds that an extension has for one call; then it is told the same again",
    )
    extension_calls_max: int = setting(
        16,
        least=1,
        most=1_000,
        doc="calls of one extension at a time, each of another partition; more catch up sooner and "
        "ask more of it",
    )
    retain_extension_s: float = setting(
        604_800.0,
        least=60,
        doc="seconds that what an extension was not told yet is kept; one that stays away for "
        "longer is told the gap",
    )
    retain_extension_max: int = setting(
        10_000_000,
        least=1_000,
        doc="the same, counted: a service of presence keeps no more of what no extension has "
        "acknowledged, nor more than 1 GiB of what was to be told of users; where there is more, "
        "the oldest goes of the partitions that have most",
    )
    drain_s: float = setting(
        3.0, least=0, most=60, doc="seconds that calls under way have to end at a stop"
    )

    def graces(self) -> Graces:
        """The graces, as the core takes them."""
        return Graces(self.grace_s, self.grace_clean_s, self.grace_dead_edge_s)

    def limits(self) -> Limits:
        """The bounds of a notification's life."""
        return Limits(
            self.collapse_s,
            self.expiry_s,
            self.retry_first_s,
            self.retry_longest_s,
            self.retry_tries_max,
            self.dead_letter_after_s,
        )

    def user_limits(self) -> UserLimits:
        """How much a backend may give one user."""
        return UserLimits(self.backend_follows_max, self.external_tokens_max)

    def breaker_limits(self) -> BreakerLimits:
        """The bounds of a plugin's breaker."""
        return BreakerLimits(self.breaker_first_s, self.breaker_longest_s)
