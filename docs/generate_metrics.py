"""Writes docs/metrics.md from the metrics of every service. Run by `make metrics`."""

import ast
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from services.coordinator.metrics import Metrics

ROOT = Path(__file__).parents[1]
PAGE = Path(__file__).with_name("metrics.md")
SERVICES = ["edge", "coordinator", "presence", "notifier"]
HEAD = """# Metrics

The edge serves them at `GET /metrics` on its own port, the other services on the port that their
`…_METRICS_PORT` names, at the address `ONWARD_METRICS_HOST`; both in Prometheus' text format, with
the usual metrics of a Python process. No label holds anything that a user sent. Counters end in
`_total`; a gauge said to count since the start does so too, and begins anew with its process.

This page is generated from the code by `make metrics`.
"""
LIMITS = """## Limits, and where it shows that one is reached

"""

_REFUSED = 'onward_edge_frames_refused_total{code="%s"}'
_CLOSED = 'onward_edge_sockets_closed_total{code="%s"}'
_STARTS = 'onward_edge_subscriptions_begun_total{outcome="TOO_MANY"}'
_UNREAD = "onward_edge_sockets_not_read"
# Setting → the metric that shows that it is reached, or how near it is.
SHOWN_BY = {
    "edge_content_bytes_max": _REFUSED % "CONTENT_TOO_LARGE",
    "edge_frame_bytes_max": _CLOSED % "1009",
    "edge_headers_bytes_max": _REFUSED % "HEADERS_TOO_LARGE",
    "edge_subscriptions_max": _REFUSED % "TOO_MANY_SUBSCRIPTIONS",
    "edge_subscriptions_in_all_max": "onward_edge_subscriptions",
    "edge_publish_rate": _REFUSED % "RATE_LIMITED",
    "edge_publish_burst": _REFUSED % "RATE_LIMITED",
    "edge_http_publish_rate": 'onward_edge_http_requests_total{status="429"}',
    "edge_http_publish_burst": 'onward_edge_http_requests_total{status="429"}',
    "edge_callback_rate": 'onward_edge_http_requests_total{status="429"}',
    "edge_callback_burst": 'onward_edge_http_requests_total{status="429"}',
    "edge_drain_rate": "onward_edge_sessions",
    "edge_external_tokens_max": _REFUSED % "TOO_MANY_EXTERNAL_TOKENS",
    "edge_recovery_messages_max": _STARTS,
    "edge_recovery_bytes_max": _STARTS,
    "edge_recoveries_bytes_max": _STARTS,
    "edge_history_max": _REFUSED % "ARGUMENT_INVALID",
    "edge_sockets_max": "onward_edge_sockets",
    "edge_requests_max": "onward_edge_http_connections",
    "edge_half_open_max": "onward_edge_half_open",
    "edge_address_connections_max": "onward_edge_connections_refused_total",
    "edge_frame_rate": _UNREAD,
    "edge_frame_burst": _UNREAD,
    "edge_input_rate_bytes": _UNREAD,
    "edge_input_burst_bytes": _UNREAD,
    "edge_unfinished_bytes_max": "onward_edge_unfinished_bytes",
    "edge_stories_max": "onward_edge_story_streams",
    "edge_write_high_bytes": "onward_edge_lagging",
    "edge_write_bytes_max": _CLOSED % "4001",
    "edge_send_buffer_bytes": "onward_edge_lagging",
    "edge_receive_buffer_bytes": _UNREAD,
    "edge_ring_messages": "onward_edge_messages_read_again",
    "edge_ring_bytes": "onward_edge_messages_read_again",
    "edge_rings_bytes": "onward_edge_ring_bytes",
    "edge_backlogs_bytes": "onward_edge_backlog_bytes",
    "edge_held_publishes_max": "onward_edge_held_publishes",
    "edge_held_bytes_max": "onward_edge_held_publish_bytes",
    "coordinator_queue_appends_max": "onward_coordinator_queue_requests",
    "coordinator_batch_appends_max": "onward_coordinator_batch_requests",
    "coordinator_uplink_bytes_max": "onward_coordinator_uplink_bytes",
    "coordinator_uplink_transient_bytes_max": "onward_coordinator_transients_dropped_total",
    "coordinator_recent_bytes_max": "onward_coordinator_recent_bytes",
    "coordinator_report_entries_max": "onward_coordinator_report_entries",
    "coordinator_clients_max": 'onward_coordinator_refused_total{code="TOO_MANY_CLIENTS"}',
    "coordinator_external_tokens_max": (
        'onward_coordinator_refused_total{code="TOO_MANY_EXTERNAL_TOKENS"}'
    ),
    "coordinator_follows_max": 'onward_coordinator_refused_total{code="TOO_MANY_SUBSCRIPTIONS"}',
    "coordinator_retain_messages": "onward_coordinator_removed_total",
    "coordinator_retain_bytes": "onward_coordinator_log_bytes",
    "presence_retry_tries_max": "onward_presence_attempts_total",
    "presence_plugin_bytes_max": "onward_presence_plugin_queue",
    "presence_watches_max": "onward_presence_watches",
    "presence_backend_follows_max": 'onward_presence_users_refused_total{of="follows"}',
    "presence_external_tokens_max": 'onward_presence_users_refused_total{of="external tokens"}',
    "presence_handovers_max": "onward_presence_handovers_running",
    "presence_handover_messages_max": "onward_presence_handovers_total",
    "presence_report_entries_max": "onward_presence_report_entries",
    "presence_fanout_users_max": "onward_presence_fanout_users",
    "notifier_smtp_connections": "onward_notifier_smtp_connections_total",
    "notifier_fcm_connections": 'onward_notifier_http_under_way{channel="fcm"}',
    "notifier_webpush_connections": 'onward_notifier_http_under_way{channel="webpush"}',
    "notifier_batch_max": "onward_notifier_batch",
    "notifier_calls_max": "onward_notifier_under_way",
    "presence_extension_calls_max": "onward_presence_extension_calls_under_way",
    "presence_retain_extension_max": "onward_presence_extension_told_total",
}


@dataclass(frozen=True, order=True)
class Metric:
    """One metric, as operators see it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str

    @property
    def row(self) -> str:
        """Its row of the table."""
        labels = ", ".join(f"`{label}`" for label in self.labels)
        text = " ".join(self.text.split()).rstrip(".").replace("|", "\\|")
        return f"| `{self.name}` | {self.kind} | {labels} | {text} |"


def metrics() -> dict[str, list[Metric]]:
    """By service; `every` service's first."""
    importlib.import_module("services.chassis.server")
    for service in SERVICES:
        for path in sorted((ROOT / "services" / service).glob("*.py")):
            if "prometheus_client" in path.read_text() and path.stem != "__main__":
                importlib.import_module(f"services.{service}.{path.stem}")
    own = CollectorRegistry()
    Metrics(own)
    found = {*_of(REGISTRY), *_of(own), *_asked()}
    of_one = tuple(f"onward_{service}_" for service in SERVICES)
    groups = {"every": sorted(one for one in found if not one.name.startswith(of_one))}
    for service in SERVICES:
        prefix = f"onward_{service}_"
        groups[service] = sorted(one for one in found if one.name.startswith(prefix))
    return groups


def _of(registry: CollectorRegistry) -> Iterator[Metric]:
    for collector in list(registry._collector_to_names):
        if isinstance(collector, MetricWrapperBase) and collector._name.startswith("onward_"):
            ending = "_total" if collector._type == "counter" else ""
            labels = tuple(collector._labelnames)
            text = collector._documentation
            yield Metric(collector._name + ending, collector._type, labels, text)


def _asked() -> Iterator[Metric]:
    """Gauges of the coordinator that are made when it is put together: `ask(name, text, …)`."""
    path = ROOT / "services/coordinator/__main__.py"
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "ask":
            name, text = (ast.literal_eval(one) for one in node.args[:2])
            yield Metric(f"onward_coordinator_{name}", "gauge", (), text)


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for service, rows in metrics().items():
        title = "Every service" if service == "every" else service.capitalize()
        table = ["| metric | kind | labels | meaning |", "|---|---|---|---|"]
        parts.append(f"## {title}\n\n" + "\n".join([*table, *(one.row for one in rows)]) + "\n")
    table = ["| setting | shows in |", "|---|---|"]
    table += [f"| `ONWARD_{name.upper()}` | `{metric}` |" for name, metric in SHOWN_BY.items()]
    parts.append(LIMITS + "\n".join(table) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
