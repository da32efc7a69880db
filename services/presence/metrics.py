"""What the presence service counts. Labels are our own words and plugin names, never user data."""

from prometheus_client import Counter, Gauge, Histogram

entries = Counter("onward_presence_entries_total", "Log entries that took effect", ["kind"])
report_seconds = Histogram(
    "onward_presence_report_seconds",
    "Time to make one Report take effect",
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5),
)
decisions = Counter(
    "onward_presence_decisions_total",
    "Messages decided, by DUE or the reason of a suppression",
    ["decision"],
)
notifications = Counter("onward_presence_notifications_total", "Notifications begun")
attempts = Counter(
    "onward_presence_attempts_total", "Tries of deliveries, by outcome", ["plugin", "outcome"]
)
breaker_open = Gauge("onward_presence_breaker_open", "1 while a plugin is left alone", ["plugin"])
plugin_connected = Gauge("onward_presence_plugin_connected", "1 while a plugin answers", ["plugin"])
handovers = Counter("onward_presence_handovers_total", "Handovers brought to their end")
graces = Counter("onward_presence_graces_total", "Graces that ended without a return")
dead_edge_clients = Counter(
    "onward_presence_dead_edge_clients_total", "Sessions found at an edge that was gone"
)
owner = Gauge("onward_presence_owner", "1 while this process is the presence service that works")
