"""What the edge counts and times as it happens. Labels are our own words and numbers only."""

from typing import Final

from prometheus_client import Counter, Histogram

_SECONDS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_SIZES: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)

PUBLISH_SECONDS = Histogram(
    "onward_edge_publish_seconds",
    "From taking a publish to its answer: accepted, transient or refused",
    ["outcome"],
    buckets=_SECONDS,
)
EVENT_SECONDS = Histogram(
    "onward_edge_event_seconds",
    "From taking a presence event to its answer, by what happened",
    ["event"],
    buckets=_SECONDS,
)
FORMING_SECONDS = Histogram(
    "onward_edge_forming_seconds",
    "From a client's first frame to the answer that its session is durable",
    buckets=_SECONDS,
)
APPENDS_SENT = Histogram(
    "onward_edge_uplink_appends", "Appends in one write to a coordinator", buckets=_SIZES
)
DELIVERIES_TAKEN = Histogram(
    "onward_edge_uplink_deliveries", "Messages in one write of a coordinator", buckets=_SIZES
)
UPLINK_PAUSES = Counter(
    "onward_edge_uplink_pauses_total",
    "Pauses in reading from a coordinator, because too much was to be written to clients",
)
STARTS = Counter(
    "onward_edge_subscriptions_begun_total",
    "Subscriptions that began: live (not asked to recover), recovered, or why not",
    ["outcome"],
)
REFUSALS = Counter("onward_edge_frames_refused_total", "Frames answered by an error", ["code"])
CLOSES = Counter(
    "onward_edge_sessions_closed_total",
    "Sessions that this edge closed, by close code and our reason",
    ["code", "reason"],
)
