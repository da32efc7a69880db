"""What operators see of a coordinator at /metrics."""

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_COUNTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000)
_SECONDS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0)
_BYTES = (256, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216)
_PASS_SECONDS = (0.01, 0.1, 1.0, 10.0, 60.0, 600.0)


class Metrics:
    """The metrics of one coordinator, in a registry of the caller's."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._asked: list[Gauge] = []
        gauge, counter, histogram = self._gauge, self._counter, self._histogram
        # Limits and alarms.
        self.limit = gauge("limit", "What a limit is set to", "name")
        self.alarm = gauge("alarm", "1 while the alarm is raised", "name")
        self.store_full = gauge("store_full", "1 while the log's disk takes nothing")
        # From a request to its answer.
        self.queue = gauge("queue_requests", "Requests waiting for a commit")
        self.queue_s = histogram("queue_seconds", "Longest wait of a commit's requests", _SECONDS)
        self.batch = histogram("batch_requests", "Requests in one commit", _COUNTS)
        self.batch_bytes = histogram("batch_bytes", "Bytes that one commit appended", _BYTES)
        self.commit_s = histogram("commit_seconds", "From a commit's start to its end", _SECONDS)
        self.accepted = counter("accepted", "Messages accepted")
        self.relayed = counter("relayed", "Transient messages accepted")
        self.recorded = counter("recorded", "Presence events recorded")
        self.refused = counter("refused", "Appends refused", "code")
        self.deposed = counter("deposed", "Partitions found to have another owner at a commit")
        self.read_s = histogram("read_seconds", "Time of a read of the store", _SECONDS, "call")
        # To the edges.
        self.uplink_bytes = gauge("uplink_bytes", "Most bytes that wait for one edge")
        self.fell_behind = counter("uplinks_fell_behind", "Streams closed since too much waited")
        self.transients_dropped = counter(
            "transients_dropped", "Transient messages not sent to an edge that lags"
        )
        # To presence.
        self.report_entries = histogram("report_entries", "Entries in one report", _COUNTS)
        self.report_bytes = histogram("report_bytes", "Bytes of one report", _BYTES)
        self.report_s = histogram("report_seconds", "Time of a report that was taken", _SECONDS)
        self.report_failures = counter("report_failures", "Reports not taken", "status")
        # What is kept.
        self.log_bytes = gauge("log_bytes", "Bytes of the log, by the store's own count")
        self.removed = counter("removed", "What retention removed, by its reason", "reason")
        self.retention_s = histogram(
            "retention_seconds", "Time of one pass of retention", _PASS_SECONDS
        )

    def ask(self, name: str, text: str, number: Callable[[], float]) -> None:
        """Show a number that is asked for whenever somebody looks."""
        gauge = self._gauge(name, text)
        gauge.set_function(number)
        self._asked.append(gauge)

    def limits(self, limits: Mapping[str, float]) -> None:
        """Show what limits are set to."""
        for name, value in limits.items():
            self.limit.labels(name).set(value)

    def close(self) -> None:
        """Let go of whatever is asked for numbers: a registry lives as long as the interpreter,
        which cannot take event loops and channels down with itself."""
        for asked in self._asked:
            asked.set_function(lambda: 0)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"onward_coordinator_{name}", text, labels, registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"onward_coordinator_{name}", text, labels, registry=self.registry)

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        return Histogram(
            f"onward_coordinator_{name}", text, labels, buckets=buckets, registry=self.registry
        )
