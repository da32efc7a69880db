"""What the edge shows of its sessions, subjects and uplinks at /metrics: read when asked for."""

from collections.abc import Callable

from prometheus_client import Gauge

from services.edge.exchange import Exchange
from services.edge.gateway import Gateway

SESSIONS = Gauge("onward_edge_sessions", "Sessions, until their last event is durable")
SUBSCRIPTIONS = Gauge("onward_edge_subscriptions", "Subscriptions of local sessions")
SUBJECTS = Gauge("onward_edge_subjects", "Subjects watched")
DELIVERED = Gauge("onward_edge_messages_sent", "Messages written to sockets since the start")
HELD_PUBLISHES = Gauge("onward_edge_held_publishes", "Publishes that no owner has answered yet")
HELD_BYTES = Gauge("onward_edge_held_publish_bytes", "Bytes of such publishes")
HELD_EVENTS = Gauge("onward_edge_held_events", "Presence events that no owner has answered yet")
OWING = Gauge(
    "onward_edge_ended_unprocessed", "Ended sessions and follows that presence has not processed"
)
HALF_OPEN = Gauge("onward_edge_half_open", "TCP connections without a complete request")
REQUESTS = Gauge("onward_edge_http_connections", "TCP connections that HTTP is spoken on")
NOT_READ = Gauge(
    "onward_edge_sockets_not_read", "WebSockets whose clients send more than they may, now"
)
UNFINISHED = Gauge("onward_edge_unfinished_bytes", "Bytes of incomplete messages that are kept")
FRAMES_RECEIVED = Gauge("onward_edge_frames_received", "Frames of clients since the start")
BYTES_RECEIVED = Gauge("onward_edge_bytes_received", "Bytes in such frames")


def follow(exchange: Exchange, gateway: Gateway) -> None:
    """Shows them from now on."""
    intake = gateway.intake
    shown: list[tuple[Gauge, Callable[[], float]]] = [
        (SESSIONS, lambda: len(exchange.connections)),
        (SUBSCRIPTIONS, lambda: exchange.hub.subscriptions),
        (SUBJECTS, lambda: len(exchange.hub)),
        (DELIVERED, lambda: exchange.hub.fan_outs.delivered),
        (HELD_PUBLISHES, lambda: exchange.outbox.publishes),
        (HELD_BYTES, lambda: exchange.outbox.publish_bytes),
        (HELD_EVENTS, lambda: exchange.outbox.events),
        (OWING, lambda: len(exchange.marks)),
        (HALF_OPEN, lambda: len(gateway.doorstep)),
        (REQUESTS, lambda: gateway.requests),
        (NOT_READ, lambda: intake.paused),
        (UNFINISHED, lambda: intake.unfinished_bytes),
        (FRAMES_RECEIVED, lambda: intake.frames),
        (BYTES_RECEIVED, lambda: intake.bytes),
    ]
    for gauge, read in shown:
        gauge.set_function(read)
