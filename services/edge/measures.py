"""What the edge shows of its sessions, subjects and uplinks at /metrics: read when asked for."""

from collections.abc import Callable

from prometheus_client import Gauge

from services.edge.exchange import Exchange
from services.edge.exchange_backend import ExchangeBackend
from services.edge.gateway import Gateway
from services.edge.readers import Readers
from services.edge.uplink import Uplinks

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
LAGGING = Gauge("onward_edge_lagging", "Sessions whose socket is full: they are behind")
REFILLED = Gauge("onward_edge_refills", "Times that such a session was refilled since the start")
DELAYED = Gauge("onward_edge_delayed_events", "Ending events to be appended again a little later")
JOINING = Gauge("onward_edge_joining", "Subscriptions that wait until their subject is watched")
LINGERING = Gauge("onward_edge_lingering_subjects", "Subjects watched that nobody subscribes to")
RING_BYTES = Gauge("onward_edge_ring_bytes", "Bytes of recent messages that are kept")
RINGS_GIVEN_UP = Gauge(
    "onward_edge_rings_given_up",
    "Subjects whose recent messages were dropped for want of room",
)
BACKLOG_BYTES = Gauge("onward_edge_backlog_bytes", "Bytes to recover that wait for sockets")
WRITES = Gauge("onward_edge_fan_out_writes", "Writes to sockets that are still to be done")
SLICES = Gauge("onward_edge_fan_out_slices", "Slices of such writes done since the start")
TRANSIENTS = Gauge("onward_edge_transients_sent", "Transient messages written since the start")
TRANSIENTS_DROPPED = Gauge(
    "onward_edge_transients_dropped", "Transient messages not written to a subscriber, likewise"
)
GAPS = Gauge("onward_edge_gaps_sent", "Gaps told to clients since the start")
HOLES = Gauge("onward_edge_holes", "Times that messages missed were read, since the start")
AHEAD_AGAIN = Gauge(
    "onward_edge_messages_read_again", "Messages that waited behind a hole in vain, likewise"
)
READING = Gauge("onward_edge_reads", "Reads of the log under way")
READS_WAITING = Gauge("onward_edge_reads_waiting", "Reads of the log that wait their turn")
FORMING_BYTES = Gauge(
    "onward_edge_forming_bytes", "Bytes read for subscriptions that are not durable yet"
)
LOOK_UPS = Gauge("onward_edge_client_look_ups", "Returning clients whose follows are asked for")
ASKING_GONE = Gauge("onward_edge_gone_questions", "Questions to presence for lost endpoints")
TURNED_AWAY = Gauge(
    "onward_edge_look_ups_turned_away", "Reads and such questions beyond the limit, since the start"
)
LINKS_UP = Gauge("onward_edge_uplinks", "Streams to coordinators that are open")
CHANNELS = Gauge("onward_edge_read_channels", "Connections for reads and questions that are open")
HTTP_PUBLISHERS = Gauge("onward_edge_http_publishers", "Users whose publishes by HTTP are counted")
HALF_OPEN = Gauge("onward_edge_half_open", "TCP connections without a complete request")
REQUESTS = Gauge("onward_edge_http_connections", "TCP connections that HTTP is spoken on")
NOT_READ = Gauge(
    "onward_edge_sockets_not_read", "WebSockets whose clients send more than they may, now"
)
UNFINISHED = Gauge("onward_edge_unfinished_bytes", "Bytes of incomplete messages that are kept")
FRAMES_RECEIVED = Gauge(
    "onward_edge_frames_received",
    "Frames of clients since the start; long lists count as several",
)
BYTES_RECEIVED = Gauge("onward_edge_bytes_received", "Bytes in such frames")


Shown = list[tuple[Gauge, Callable[[], float]]]


def follow(
    exchange: Exchange,
    backend: ExchangeBackend,
    readers: Readers,
    uplinks: Uplinks,
    gateway: Gateway,
) -> None:
    """Shows them from now on."""
    others: Shown = [
        (LINKS_UP, lambda: len(uplinks.up)),
        (CHANNELS, lambda: len(readers)),
        (HTTP_PUBLISHERS, lambda: len(backend.rates)),
    ]
    for gauge, read in (*_of_core(exchange), *_of_hub(exchange), *_of_door(gateway), *others):
        gauge.set_function(read)


def _of_core(exchange: Exchange) -> Shown:
    outbox, lookups = exchange.outbox, exchange.lookups
    return [
        (SESSIONS, lambda: len(exchange.connections)),
        (HELD_PUBLISHES, lambda: outbox.publishes),
        (HELD_BYTES, lambda: outbox.publish_bytes),
        (HELD_EVENTS, lambda: outbox.events),
        (OWING, lambda: len(exchange.marks)),
        (LAGGING, lambda: len(exchange.lagging)),
        (REFILLED, lambda: exchange.refills),
        (DELAYED, lambda: exchange.delayed),
        (READING, lambda: lookups.reading),
        (READS_WAITING, lambda: lookups.waiting),
        (FORMING_BYTES, lambda: lookups.forming_bytes),
        (LOOK_UPS, lambda: lookups.clients),
        (ASKING_GONE, lambda: lookups.asking_gone),
        (TURNED_AWAY, lambda: lookups.turned_away),
    ]


def _of_hub(exchange: Exchange) -> Shown:
    """The hub is another one after the log was replaced."""
    return [
        (SUBSCRIPTIONS, lambda: exchange.hub.subscriptions),
        (SUBJECTS, lambda: len(exchange.hub)),
        (DELIVERED, lambda: exchange.hub.fan_outs.delivered),
        (JOINING, lambda: exchange.hub.joining),
        (LINGERING, lambda: exchange.hub.lingering),
        (RING_BYTES, lambda: exchange.hub.rings.bytes),
        (RINGS_GIVEN_UP, lambda: exchange.hub.rings.given_up),
        (BACKLOG_BYTES, lambda: exchange.hub.backlog_bytes),
        (WRITES, lambda: exchange.hub.fan_outs.writes),
        (SLICES, lambda: exchange.hub.fan_outs.slices),
        (TRANSIENTS, lambda: exchange.hub.fan_outs.transients),
        (TRANSIENTS_DROPPED, lambda: exchange.hub.fan_outs.transients_dropped),
        (GAPS, lambda: exchange.hub.fan_outs.gaps),
        (HOLES, lambda: exchange.hub.holes.opened),
        (AHEAD_AGAIN, lambda: exchange.hub.holes.again),
    ]


def _of_door(gateway: Gateway) -> Shown:
    intake = gateway.intake
    return [
        (HALF_OPEN, lambda: len(gateway.doorstep)),
        (REQUESTS, lambda: gateway.requests),
        (NOT_READ, lambda: intake.paused),
        (UNFINISHED, lambda: intake.unfinished_bytes),
        (FRAMES_RECEIVED, lambda: intake.frames),
        (BYTES_RECEIVED, lambda: intake.bytes),
    ]
