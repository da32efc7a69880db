"""What an operator should know of presence: names and sentences. Pure.

Knows how things stand, as numbers and names; must not know where they come from. Sentences name
plugins, channels and partitions; never users, tokens or content.
"""

from collections.abc import Sequence
from dataclasses import dataclass

# Every alarm there is, for the metrics.
NAMES = (
    "PLUGIN_AWAY",
    "PLUGIN_BREAKER_OPEN",
    "PLUGIN_NOT_SERVING",
    "NO_PLUGIN_FOR_CHANNEL",
    "EXTENSION_FAILS",
    "DEAD_LETTERS",
    "STORE_FULL",
    "CLAIM_REFUSED",
    "CURSOR_BLOCKED",
    "LOG_REPLACED",
    "LOG_UNREADABLE",
    "ROUTING_REFUSED",
    "ROUTING_NAMES_NO_PLUGIN",
    "TEMPLATE_FAILED",
    "ENTITLEMENT_UNREACHABLE",
)
# A plugin that is away for less is starting, or being started again.
AWAY_S = 3.0
# Of many things that an alarm is about.
_TOLD_MAX = 5


@dataclass(frozen=True, slots=True)
class PluginFacts:
    """What can be wrong with a plugin."""

    label: str
    address: str
    # For how many seconds it cannot be reached; 0: it can.
    away_s: float
    # Channels that are left alone, and why.
    open_channels: Sequence[str] = ()
    fault: str = ""
    # For how many seconds it has said that it does not serve; 0: it does not say so.
    unwell_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ExtensionFacts:
    """What can be wrong with an extension."""

    name: str
    address: str
    # For how many seconds it has taken nothing though it was to; 0: it takes what it is told.
    failing_s: float
    fault: str = ""
    # Happenings that it has not acknowledged.
    behind: int = 0


@dataclass(frozen=True, slots=True)
class Facts:
    """What can be wrong with presence."""

    plugins: Sequence[PluginFacts] = ()
    extensions: Sequence[ExtensionFacts] = ()
    # Channels of deliveries that are due, which no plugin serves.
    unserved: Sequence[str] = ()
    dead: int = 0
    # Names of templates that failed lately.
    failing_templates: Sequence[str] = ()
    # What the entitlement hook failed with; empty: it answers, or there is none.
    entitlement_fault: str = ""
    store_full: bool = False
    # Partitions whose entries were reported and cannot take effect.
    blocked: Sequence[int] = ()
    log_replaced: bool = False
    log_unreadable: bool = False
    # Partitions that the store would not have this process own.
    refused: Sequence[int] = ()
    # What is wrong with the routing file, which has changed; empty: nothing.
    routing: str = ""
    # Channels that the routing file names and no plugin serves.
    unclaimed: Sequence[str] = ()


def raised(facts: Facts) -> dict[str, str]:
    """The alarms: name to sentence."""
    alarms = _of_plugins(facts)
    failing = [one for one in facts.extensions if one.failing_s >= AWAY_S]
    if failing:
        told = "; ".join(
            f"{one.name} at {one.address}: {one.fault}, {one.behind} behind" for one in failing
        )
        alarms["EXTENSION_FAILS"] = (
            f"An extension takes nothing, and is told it later; see its log. {told}."
        )
    if facts.dead:
        alarms["DEAD_LETTERS"] = (
            f"{facts.dead} deliveries were given up, after too many tries or by the fault of a "
            "template; `onward dead-letters` shows them, sends them again, or drops them."
        )
    if facts.store_full:
        alarms["STORE_FULL"] = (
            "The presence store cannot be written, because its disk is full or read-only; nothing "
            "is lost, and it goes on when there is space."
        )
    if facts.refused:
        alarms["CLAIM_REFUSED"] = (
            f"{len(facts.refused)} partitions are refused by the presence store, which knows a "
            "newer owner than etcd does; if etcd was restored or replaced, set "
            "ONWARD_PRESENCE_ERA one higher."
        )
    if facts.blocked:
        alarms["CURSOR_BLOCKED"] = (
            f"Entries of {len(facts.blocked)} partitions ({_first(facts.blocked)}) were reported "
            "and cannot take effect: entries before them are missing, or the service's log tells "
            "of an error."
        )
    if facts.log_replaced:
        alarms["LOG_REPLACED"] = (
            "The log is another one than presence belongs to, and nothing of it takes effect; "
            "restore the log, or give presence an empty data directory."
        )
    if facts.log_unreadable:
        alarms["LOG_UNREADABLE"] = (
            "No coordinator could read the log for presence; see whether one runs."
        )
    if facts.routing:
        alarms["ROUTING_REFUSED"] = (
            "The routing file has changed and cannot be taken; the one before holds. "
            f"{facts.routing}"
        )
    return alarms | _before_sending(facts)


def _before_sending(facts: Facts) -> dict[str, str]:
    """What keeps deliveries from being handed to a plugin that could send them."""
    alarms: dict[str, str] = {}
    if facts.unclaimed:
        alarms["ROUTING_NAMES_NO_PLUGIN"] = (
            "The routing file names channels that no plugin serves: "
            f"{_first(facts.unclaimed)}. Register their plugins with `onward notifiers add`, or "
            "mend the names."
        )
    if facts.failing_templates:
        alarms["TEMPLATE_FAILED"] = (
            "Templates failed, looped, or are not in the routing file any more: "
            f"{_first(facts.failing_templates)}; what they were for was not sent. Mend them "
            "there, then replay the dead letters."
        )
    if facts.entitlement_fault:
        alarms["ENTITLEMENT_UNREACHABLE"] = (
            "The entitlement hook gives no verdicts, and what needs them waits; see whether it "
            f"runs at ONWARD_PRESENCE_ENTITLEMENT: {facts.entitlement_fault}."
        )
    return alarms


def _first(things: Sequence[object]) -> str:
    """The first of them, and whether there are more."""
    more = ", …" if len(things) > _TOLD_MAX else ""
    return ", ".join(map(str, things[:_TOLD_MAX])) + more


def _of_plugins(facts: Facts) -> dict[str, str]:
    """Of plugins, and of what no plugin serves."""
    alarms: dict[str, str] = {}
    away = [p for p in facts.plugins if p.away_s >= AWAY_S]
    if away:
        names = ", ".join(f"{p.label} at {p.address}" for p in away)
        alarms["PLUGIN_AWAY"] = (
            f"No connection to the plugin {names}: what it would send waits; see whether it runs."
        )
    broken = [p for p in facts.plugins if p.open_channels]
    if broken:
        told = "; ".join(f"{p.label} ({', '.join(p.open_channels)}): {p.fault}" for p in broken)
        alarms["PLUGIN_BREAKER_OPEN"] = (
            f"A plugin fails as a whole and is only probed; what it would send waits. {told}."
        )
    unwell = [p for p in facts.plugins if p.unwell_s >= AWAY_S]
    if unwell:
        names = ", ".join(f"{p.label} at {p.address}" for p in unwell)
        alarms["PLUGIN_NOT_SERVING"] = (
            f"By its own health check the plugin {names} does not serve: nothing is handed to it, "
            "and what it would send waits; see what its log tells."
        )
    if facts.unserved:
        channels = ", ".join(facts.unserved)
        alarms["NO_PLUGIN_FOR_CHANNEL"] = (
            f"Notifications wait for a plugin that serves {channels}; start one, and register it "
            "with `onward notifiers add`."
        )
    return alarms
