"""What the whole cluster looks like, put together from what its members say. Pure.

Knows the members' answers to GetStatus and the directory's facts, and the JSON object that
`GET /v1/status` answers; must not know how they were asked. A member that did not answer is shown
so, with why. The object, in the JSON mapping of the contract (64-bit numbers are strings):

    logId         identity of the log store; "" if no coordinator answered
    partitions    count; lag: entries that presence has not processed, all in all; withoutOwner,
                  withoutPresence: numbers of those that no coordinator, no presence replica owns;
                  list: partition, owner, epoch, held (its owner says so too), and tail, cursor,
                  lag: null unless held
    coordinators, presences, edges
                  each: name, address (gRPC), answered, fault ("" or why it did not answer); and if
                  it answered, the fields of its GetStatusResponse. An edge's name is its lease id,
                  its `clientAddress` where clients connect, and `draining`: it is stopping. A
                  presence replica's `owned`: partitions that it owns, by the directory; `held`:
                  that it says it holds.
    plugins       PluginStatus, each as the presence replica sees it that can use it least; queue
                  and calls are those of all
    deliveries    state → how many
    alarms        service, member, name, text, since (null: since when is not known)
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message
from onward.coordinator.v1 import coordinator_pb2
from onward.edge.v1 import edge_pb2
from onward.presence.v1 import presence_pb2
from onward.types.v1 import alarm_pb2

Held = coordinator_pb2.GetStatusResponse.Held
Status = (
    coordinator_pb2.GetStatusResponse | presence_pb2.GetStatusResponse | edge_pb2.GetStatusResponse
)
JsonObject = dict[str, Any]

_PLURALS = {"coordinator": "coordinators", "presence": "presences", "edge": "edges"}
# Told once for the whole cluster, not for each member.
_TOLD_ELSEWHERE = {"name", "logId", "partitions", "plugins", "deliveries", "alarms", "cursors",
                   "address", "edgeId", "term"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Member:
    """A live member, and what it said."""

    service: str  # coordinator, presence, edge
    name: str
    address: str  # of its gRPC server; empty: it has told none
    said: Status | str  # or why it did not answer: a gRPC status, or NO_ADDRESS
    client_address: str = ""  # of an edge
    draining: bool = False  # an edge that is stopping


@dataclass(frozen=True, slots=True)
class Picture:
    """The facts of one look at the cluster."""

    partitions: int  # 0: not known
    claims: Mapping[int, tuple[int, str]]  # partition → epoch and name of the owner
    presence_claims: Mapping[int, tuple[int, str]]  # likewise, of presence replicas
    members: Sequence[Member]


def status_object(picture: Picture) -> JsonObject:
    """The object that `GET /v1/status` answers."""
    coordinators = _answers(picture, coordinator_pb2.GetStatusResponse)
    presences = _answers(picture, presence_pb2.GetStatusResponse)
    store = next(iter(presences.values()), None)  # All of them tell of the same store.
    found: JsonObject = {
        "logId": next((said.log_id for said in coordinators.values() if said.log_id), ""),
        "partitions": _partitions(picture, coordinators, presences.values()),
    }
    for service, plural in _PLURALS.items():
        members = [member for member in picture.members if member.service == service]
        found[plural] = [
            _member(member, picture) for member in sorted(members, key=lambda m: m.name)
        ]
    found["plugins"] = [_json(plugin) for plugin in _plugins(presences.values())]
    found["deliveries"] = {d.state: str(d.count) for d in store.deliveries} if store else {}
    found["alarms"] = _alarms(picture)
    return found


Answer = TypeVar("Answer", coordinator_pb2.GetStatusResponse, presence_pb2.GetStatusResponse)


def _answers(picture: Picture, kind: type[Answer]) -> dict[str, Answer]:
    return {m.name: m.said for m in picture.members if isinstance(m.said, kind)}


def _plugins(
    presences: Iterable[presence_pb2.GetStatusResponse],
) -> list[presence_pb2.PluginStatus]:
    """Each plugin once: replicas call the same ones, and one of them may not get through."""
    worst: dict[str, presence_pb2.PluginStatus] = {}
    calls: Counter[str] = Counter()
    queues: Counter[str] = Counter()
    # Who holds nothing may call nobody: it is only heard where no other tells.
    for said in sorted(presences, key=lambda said: not said.partitions):
        for plugin in said.plugins:
            before = worst.setdefault(plugin.address, plugin)
            calls[plugin.address] += plugin.calls
            queues[plugin.address] += plugin.queue
            if said.partitions and _ease(plugin) < _ease(before):
                worst[plugin.address] = plugin
    merged = []
    for address, plugin in worst.items():
        one = presence_pb2.PluginStatus()
        one.CopyFrom(plugin)
        one.calls, one.queue = calls[address], queues[address]
        merged.append(one)
    return merged


def _ease(plugin: presence_pb2.PluginStatus) -> tuple[bool, bool, int, int]:
    """How well a replica can use the plugin; of two that cannot, the one that waits longer less."""
    breaker = {"open": 0, "half-open": 1}.get(plugin.breaker, 2)
    well = plugin.health != "NOT_SERVING"
    return plugin.connected, well, breaker, -plugin.breaker_until.ToNanoseconds()


def _partitions(
    picture: Picture,
    coordinators: Mapping[str, coordinator_pb2.GetStatusResponse],
    presences: Iterable[presence_pb2.GetStatusResponse],
) -> JsonObject:
    held = {
        (name, partition.partition, partition.epoch): partition
        for name, said in coordinators.items()
        for partition in said.partitions
    }
    cursors: Counter[int] = Counter()
    for told in presences:  # one store, read at one time and another
        cursors |= Counter({cursor.partition: cursor.pos for cursor in told.cursors})
    rows, lag = [], 0
    for partition, (epoch, owner) in sorted(picture.claims.items()):
        row = _partition(partition, epoch, owner, held.get((owner, partition, epoch)), cursors)
        rows.append(row)
        lag += int(row["lag"] or 0)
    every = range(picture.partitions)
    return {
        "count": picture.partitions,
        "lag": str(lag),
        "withoutOwner": [p for p in every if p not in picture.claims],
        "withoutPresence": [p for p in every if p not in picture.presence_claims],
        "list": rows,
    }


def _partition(
    partition: int, epoch: int, owner: str, held: Held | None, cursors: Mapping[int, int]
) -> JsonObject:
    row: JsonObject = {"partition": partition, "owner": owner, "epoch": str(epoch)}
    if held is None:
        return row | {"held": False, "tail": None, "cursor": None, "lag": None}
    # Each of the two may have been told before the other went on.
    cursor = max(held.cursor, cursors.get(partition, 0))
    lag = max(0, held.tail - cursor)
    return row | {"held": True, "tail": str(held.tail), "cursor": str(cursor), "lag": str(lag)}


def _member(member: Member, picture: Picture) -> JsonObject:
    silent = isinstance(member.said, str)
    shown: JsonObject = {
        "name": member.name,
        "address": member.address,
        "answered": not silent,
        "fault": member.said if isinstance(member.said, str) else "",
    }
    if member.service == "edge":
        shown["clientAddress"] = member.client_address
        shown["draining"] = member.draining
    if member.service == "presence":
        owners = [name for _, name in picture.presence_claims.values()]
        shown["owned"] = owners.count(member.name)
    if isinstance(member.said, coordinator_pb2.GetStatusResponse | presence_pb2.GetStatusResponse):
        shown["held"] = len(member.said.partitions)
    if not isinstance(member.said, str):
        fields = _json(member.said)
        shown |= {name: value for name, value in fields.items() if name not in _TOLD_ELSEWHERE}
    return shown


def _alarms(picture: Picture) -> list[JsonObject]:
    """What members raise, and what only shows from outside: who is silent, or not there."""
    raised: list[JsonObject] = []
    for member in picture.members:
        who = {"service": member.service, "member": member.name}
        if isinstance(member.said, str):
            text = f"It does not say how it stands ({member.said}); see whether it runs."
            raised.append(_alarm(who, "MEMBER_SILENT", text))
        else:
            raised += [_raised(who, alarm) for alarm in member.said.alarms]
    if not picture.presence_claims:
        text = "No presence replica owns a partition, so nobody is notified; start one."
        raised.append(_alarm({"service": "presence", "member": ""}, "NO_PRESENCE", text))
    return sorted(raised, key=lambda alarm: (alarm["service"], alarm["member"], alarm["name"]))


def _alarm(who: Mapping[str, str], name: str, text: str) -> JsonObject:
    return {**who, "name": name, "text": text, "since": None}


def _raised(who: Mapping[str, str], alarm: alarm_pb2.Alarm) -> JsonObject:
    return {"since": None, **who, **_json(alarm)}


def _json(message: Message) -> JsonObject:
    """A message of the contract as JSON, its zero values too."""
    shown: JsonObject = json_format.MessageToDict(
        message, always_print_fields_with_no_presence=True
    )
    return shown
