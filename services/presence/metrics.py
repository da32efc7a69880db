"""What the presence service counts. Labels are our own words and plugin names, never user data."""

from collections.abc import Iterable
from contextlib import suppress

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5, 30)
_SIZES = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 5_000)

entries = Counter("onward_presence_entries_total", "Log entries that took effect", ["kind"])
report_seconds = Histogram(
    "onward_presence_report_seconds", "Time to make one Report take effect", buckets=_SECONDS
)
report_entries = Histogram(
    "onward_presence_report_entries", "Log entries in one Report", buckets=_SIZES
)
blocked_partitions = Gauge(
    "onward_presence_blocked_partitions", "Partitions whose reported entries cannot take effect"
)
store_seconds = Histogram(
    "onward_presence_store_seconds",
    "Time of a transaction: its work, and its commit to the disk",
    ["part"],
    buckets=_SECONDS,
)
store_queue = Gauge("onward_presence_store_queue", "Transactions that wait for the store, or run")
store_reads_seconds = Histogram(
    "onward_presence_store_read_seconds", "Time of a read of the store", buckets=_SECONDS
)
watches = Gauge("onward_presence_watches", "Stories being watched")
presence_watches = Gauge("onward_presence_presence_watches", "Who is there, being watched")
backend_follows = Counter(
    "onward_presence_backend_follows_total", "Follows that backends added or removed", ["change"]
)
users_refused = Counter(
    "onward_presence_users_refused_total",
    "Changes of users' data refused, by what there would have been too many of",
    ["of"],
)
deliveries = Gauge("onward_presence_deliveries", "Deliveries, by state", ["state"])
clients = Gauge("onward_presence_clients", "Clients: online, grace, waiting, known", ["state"])
handovers_waiting = Gauge("onward_presence_handovers_waiting", "Handovers not at their end")
handovers_running = Gauge("onward_presence_handovers_running", "Handovers being worked on")
fanouts_waiting = Gauge("onward_presence_fanouts_waiting", "Messages to crowds not at their end")
fanout_users = Histogram(
    "onward_presence_fanout_users", "Waiting users of a message decided at once", buckets=_SIZES
)
forgotten = Counter("onward_presence_forgotten_total", "Rows deleted, by kind", ["kind"])
alarm = Gauge("onward_presence_alarm", "1 while the alarm is raised", ["name"])
decisions = Counter(
    "onward_presence_decisions_total",
    "Messages decided, by DUE or the reason of a suppression",
    ["decision"],
)
notifications = Counter("onward_presence_notifications_total", "Notifications begun")
attempts = Counter(
    "onward_presence_attempts_total",
    "Tries of deliveries, by outcome",
    ["plugin", "channel", "outcome"],
)
receipts = Counter(
    "onward_presence_receipts_total",
    "What was learnt of deliveries after the answer, by kind; UNKNOWN_ID: of none that is kept",
    ["kind"],
)
breaker_open = Gauge(
    "onward_presence_breaker_open", "1 while a channel is left alone", ["plugin", "channel"]
)
claim_batch = Histogram(
    "onward_presence_claim_batch",
    "Deliveries claimed at once; 0: they were held, or had ended",
    ["plugin", "channel"],
    buckets=_SIZES,
)
wait_seconds = Histogram(
    "onward_presence_wait_seconds", "Time from being due to the claim", buckets=_SECONDS
)
notify_seconds = Histogram(
    "onward_presence_notify_seconds",
    "Time of a call to a plugin",
    ["plugin", "channel"],
    buckets=_SECONDS,
)
rendered = Counter(
    "onward_presence_rendered_total",
    "Deliveries with a template: rendered, or given no words by its fault or the machine's",
    ["result"],
)
render_seconds = Histogram(
    "onward_presence_render_seconds", "Time to render the templates of a batch", buckets=_SECONDS
)
render_starts = Counter(
    "onward_presence_render_starts_total",
    "Starts of the process that runs templates; more than one: a template had ended it",
)
entitlement_seconds = Histogram(
    "onward_presence_entitlement_seconds",
    "Time of a question to the entitlement hook",
    buckets=_SECONDS,
)
entitlement_verdicts = Counter(
    "onward_presence_entitlement_verdicts_total",
    "Users and subjects asked about: ALLOWED, DENIED, or NONE",
    ["verdict"],
)
plugin_queue = Gauge(
    "onward_presence_plugin_queue", "Deliveries due; counted up to 100,000", ["plugin", "channel"]
)
plugin_calls = Gauge("onward_presence_plugin_calls", "Calls under way", ["plugin", "channel"])
plugin_connected = Gauge("onward_presence_plugin_connected", "1 while a plugin answers", ["plugin"])
handovers = Counter("onward_presence_handovers_total", "Handovers brought to their end")
graces = Counter("onward_presence_graces_total", "Graces that ended without a return")
dead_edge_clients = Counter(
    "onward_presence_dead_edge_clients_total", "Sessions found at an edge that was gone"
)
happenings = Counter(
    "onward_presence_happenings_total",
    "Happenings recorded for extensions, by kind; none while no extension is registered",
    ["kind"],
)
extension_calls = Counter(
    "onward_presence_extension_calls_total",
    "Calls to extensions, by what they tell and the status they ended with",
    ["extension", "call", "status"],
)
extension_calls_now = Gauge(
    "onward_presence_extension_calls_under_way", "Calls to an extension under way", ["extension"]
)
extension_told = Counter(
    "onward_presence_extension_told_total",
    "Happenings that extensions have acknowledged, by kind; those in a gap too",
    ["extension", "kind"],
)
extension_seconds = Histogram(
    "onward_presence_extension_seconds",
    "Time of a call to an extension",
    ["extension"],
    buckets=_SECONDS,
)
extension_connected = Gauge(
    "onward_presence_extension_connected", "1 while an extension answers", ["extension"]
)
extension_behind = Gauge(
    "onward_presence_extension_behind",
    "Happenings that an extension has not acknowledged, in all partitions",
    ["extension"],
)
partitions_held = Gauge("onward_presence_partitions_held", "Partitions held")


def forget_plugin(label: str, channels: Iterable[str]) -> None:
    """What stands of a plugin now is over; what was counted stays."""
    with suppress(KeyError):
        plugin_connected.remove(label)
    for channel in channels:
        for gauge in (breaker_open, plugin_queue, plugin_calls):
            with suppress(KeyError):
                gauge.remove(label, channel)
