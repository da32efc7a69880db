"""What the edge counts about its sockets. Labels are our own words and numbers only."""

from prometheus_client import Counter, Gauge

SOCKETS = Gauge("onward_edge_sockets", "WebSockets that are open now")
SOCKETS_CLOSED = Counter(
    "onward_edge_sockets_closed_total",
    "WebSockets that ended, by close code; `client` if the client closed",
    ["code"],
)
CONNECTIONS_REFUSED = Counter(
    "onward_edge_connections_refused_total",
    "Connections closed before or instead of their request, by the limit they reached",
    ["limit"],
)
HANDSHAKES_REFUSED = Counter(
    "onward_edge_handshakes_refused_total", "Handshakes turned down, by refusal code", ["code"]
)
PONGS = Counter("onward_edge_pongs_total", "Pongs that clients have sent, answers to pings or not")
