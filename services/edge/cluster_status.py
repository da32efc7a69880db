"""What the whole cluster looks like, put together from what its members say. Pure.

Knows the members' answers to GetStatus and the directory's facts, and the JSON object that
`GET /v1/status` answers; must not know how they were asked. A member that did not answer is shown
so, with why. The object, in the JSON mapping of the contract (64-bit numbers are strings):

    logId         identity of the log store; "" if no coordinator answered
    partitions    count; lag: entries that presence has not processed, all in all; withoutOwner:
                  numbers; list: partition, owner, epoch, held (its owner says so too), and tail,
                  cursor, lag: null unless held
    coordinators, presences, edges
                  each: name, address (gRPC), answered, fault ("" or why it did not answer); and if
                  it answered, the fields of its GetStatusResponse. An edge's name is its lease id,
                  its `clientAddress` where clients connect, and `draining`: it is stopping.
    plugins       of the presence service that works: PluginStatus
    deliveries    state → how many, of the presence service that works
    alarms        service, member, name, text, since (null: since when is not known)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
                   "address", "edgeId"}  # fmt: skip


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
    presence_owner: str | None
    members: Sequence[Member]


def status_object(picture: Picture) -> JsonObject:
    """The object that `GET /v1/status` answers."""
    coordinators = _answers(picture, coordinator_pb2.GetStatusResponse)
    working = _working_presence(picture)
    found: JsonObject = {
        "logId": next((said.log_id for said in coordinators.values() if said.log_id), ""),
        "partitions": _partitions(picture, coordinators, working),
    }
    for service, plural in _PLURALS.items():
        members = [member for member in picture.members if member.service == service]
        found[plural] = [_member(member) for member in sorted(members, key=lambda m: m.name)]
    found["plugins"] = [_json(plugin) for plugin in working.plugins] if working else []
    found["deliveries"] = {d.state: str(d.count) for d in working.deliveries} if working else {}
    found["alarms"] = _alarms(picture)
    return found


def _answers(
    picture: Picture, kind: type[coordinator_pb2.GetStatusResponse]
) -> dict[str, coordinator_pb2.GetStatusResponse]:
    return {m.name: m.said for m in picture.members if isinstance(m.said, kind)}


def _working_presence(picture: Picture) -> presence_pb2.GetStatusResponse | None:
    for member in picture.members:
        said = member.said
        if isinstance(said, presence_pb2.GetStatusResponse) and said.owner:
            return said
    return None


def _partitions(
    picture: Picture,
    coordinators: Mapping[str, coordinator_pb2.GetStatusResponse],
    working: presence_pb2.GetStatusResponse | None,
) -> JsonObject:
    held = {
        (name, partition.partition, partition.epoch): partition
        for name, said in coordinators.items()
        for partition in said.partitions
    }
    cursors = {cursor.partition: cursor.pos for cursor in working.cursors} if working else {}
    rows, lag = [], 0
    for partition, (epoch, owner) in sorted(picture.claims.items()):
        row = _partition(partition, epoch, owner, held.get((owner, partition, epoch)), cursors)
        rows.append(row)
        lag += int(row["lag"] or 0)
    missing = [p for p in range(picture.partitions) if p not in picture.claims]
    return {
        "count": picture.partitions,
        "lag": str(lag),
        "withoutOwner": missing,
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


def _member(member: Member) -> JsonObject:
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
    if isinstance(member.said, coordinator_pb2.GetStatusResponse):
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
    if picture.presence_owner is None:
        text = "No presence service works, so nobody is notified; start one."
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
