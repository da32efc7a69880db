"""A status as short sentences by what they are about, and what changed between two. Pure.

`holdings` sums up the partitions by owner; the rest is for `onward status --watch` where nobody
looks at a terminal.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Holding:
    """What one coordinator owns, as etcd says."""

    partitions: int = 0
    epoch_least: int = 0
    epoch_most: int = 0
    lag: int = 0  # log entries that presence has not processed

    @property
    def epochs(self) -> str:
        """`7` or `7–12`; empty if it owns nothing."""
        if not self.partitions:
            return ""
        least, most = epoch(self.epoch_least), epoch(self.epoch_most)
        return least if least == most else f"{least}–{most}"


_ERA_BITS_BELOW = 48


def epoch(number: int) -> str:
    """An epoch as people read it: the era in front, if it is not 0."""
    era, term = number >> _ERA_BITS_BELOW, number & ((1 << _ERA_BITS_BELOW) - 1)
    return f"{era}/{term}" if era else str(term)


def holdings(found: Fields) -> dict[str, Holding]:
    """By the names of owners."""
    made: dict[str, Holding] = {}
    for row in (found.get("partitions") or {}).get("list") or ():
        owner, number = str(row.get("owner", "")), int(row.get("epoch") or 0)
        before = made.get(owner)
        made[owner] = Holding(
            1 + (before.partitions if before else 0),
            min(number, before.epoch_least) if before else number,
            max(number, before.epoch_most) if before else number,
            int(row.get("lag") or 0) + (before.lag if before else 0),
        )
    return made


def facts(found: Fields) -> dict[str, str]:
    """What is told of each thing. Numbers that change all the time are left out."""
    told: dict[str, str] = {}
    partitions = found.get("partitions") or {}
    missing = len(partitions.get("withoutOwner") or ())
    held = sum(1 for row in partitions.get("list") or () if row.get("held"))
    told["partitions"] = f"{held} of {partitions.get('count', 0)} held, {missing} without owner"
    if silent := len(partitions.get("withoutPresence") or ()):
        told["partitions"] += f", {silent} without a presence replica"
    lag = int(partitions.get("lag") or 0)
    told["lag"] = f"{lag} log entries wait for presence" if lag else "presence is up to date"
    owned = holdings(found)
    for member in found.get("coordinators") or ():
        name = str(member.get("name", ""))
        holding = owned.pop(name, Holding())
        epochs = f", epochs {holding.epochs}" if holding.epochs else ""
        told[name] = _of(member, f"owns {holding.partitions}{epochs}")
    for name, holding in owned.items():
        told[name] = f"gone, and owns {holding.partitions} until its lease ends"
    for member in found.get("presences") or ():
        told[str(member.get("name", ""))] = _of(member, f"owns {member.get('owned', 0)}")
    for member in found.get("edges") or ():
        links = member.get("links") or ()
        up = sum(1 for link in links if link.get("up"))
        where = str(member.get("clientAddress") or member.get("name", ""))
        said = f"{member.get('sessions', 0)} sessions, {up} of {len(links)} uplinks"
        told[f"edge {where}"] = _of(member, said)
    for plugin in found.get("plugins") or ():
        state = "connected" if plugin.get("connected") else "away"
        if plugin.get("health") == "NOT_SERVING":
            state += ", not serving"
        told[f"plugin {plugin.get('name', '')}"] = f"{state}, breaker {plugin.get('breaker', '')}"
    for alarm in found.get("alarms") or ():
        who = f"{alarm.get('service', '')} {alarm.get('member', '')}".strip()
        told[f"alarm {alarm.get('name', '')} of {who}"] = str(alarm.get("text", ""))
    return told


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """A line for each thing of which something else is told than before, or nothing any more."""
    lines = [f"{about}: {said}" for about, said in now.items() if before.get(about) != said]
    return lines + [f"{about}: gone" for about in before if about not in now]


def _of(member: Fields, said: str) -> str:
    draining = ", drains" if member.get("draining") else ""
    return f"{said}{draining}" if member.get("answered") else f"silent ({member.get('fault', '')})"
