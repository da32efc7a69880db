"""What operators see of a coordinator at /metrics."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_BATCH_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000)
_COMMIT_BUCKETS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0)

_PASS_BUCKETS = (0.01, 0.1, 1.0, 10.0, 60.0, 600.0)


class Metrics:
    """The metrics of one coordinator, in a registry of the caller's."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
            return Counter(f"onward_coordinator_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
            return Gauge(f"onward_coordinator_{name}", text, labels, registry=registry)

        self.queue = gauge("queue_requests", "Requests waiting for a commit")
        self.partitions = gauge("partitions_held", "Partitions held")
        self.uplinks = gauge("uplinks", "Edges connected")
        self.store_full = gauge("store_full", "1 while the log's disk takes nothing")
        self.report_lag = gauge("report_lag_entries", "Entries that presence has not processed")
        self.alarm = gauge("alarm", "1 while the alarm is raised", ("name",))
        self.log_bytes = gauge("log_bytes", "Bytes of the log, by the store's own count")
        self.uplink_bytes = gauge("uplink_bytes", "Most bytes that wait for one edge")
        self.accepted = counter("accepted", "Messages accepted")
        self.relayed = counter("relayed", "Transient messages accepted")
        self.recorded = counter("recorded", "Presence events recorded")
        self.refused = counter("refused", "Appends refused", ("code",))
        self.removed = counter("removed", "What retention removed, by its reason", ("reason",))
        self.deposed = counter("deposed", "Partitions found to have another owner at a commit")
        self.batch = Histogram(
            "onward_coordinator_batch_requests",
            "Requests in one commit",
            buckets=_BATCH_BUCKETS,
            registry=registry,
        )
        self.retention_s = Histogram(
            "onward_coordinator_retention_seconds",
            "Time of one pass of retention",
            buckets=_PASS_BUCKETS,
            registry=registry,
        )
        self.commit_s = Histogram(
            "onward_coordinator_commit_seconds",
            "Time from the start of a commit to its end",
            buckets=_COMMIT_BUCKETS,
            registry=registry,
        )

    def close(self) -> None:
        """Let go of whatever is asked for numbers: a registry lives as long as the interpreter,
        which cannot take event loops and channels down with itself."""
        for asked in (self.report_lag, self.partitions, self.uplinks):
            asked.set_function(lambda: 0)
