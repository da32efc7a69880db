"""What the whole cluster looks like, from what its members say."""

from google.protobuf.timestamp_pb2 import Timestamp
from onward.coordinator.v1 import coordinator_pb2
from onward.edge.v1 import edge_pb2
from onward.presence.v1 import presence_pb2
from onward.types.v1 import alarm_pb2

from services.edge.cluster_status import Member, Picture, status_object

Held = coordinator_pb2.GetStatusResponse.Held
DISK = alarm_pb2.Alarm(name="STORE_FULL", text="The disk is full.", since=Timestamp(seconds=60))


def coordinator(name: str, *held: Held, **fields: object) -> Member:
    said = coordinator_pb2.GetStatusResponse(
        name=name,
        log_id="log-1",
        partitions=held,
        **fields,  # type: ignore[arg-type]
    )
    return Member("coordinator", name, "127.0.0.1:7001", said)


PRESENCE = Member(
    "presence",
    "p1",
    "127.0.0.1:7002",
    presence_pb2.GetStatusResponse(
        name="p1",
        term=3,
        partitions=[0],
        cursors=[presence_pb2.Cursor(partition=0, pos=9)],
        plugins=[presence_pb2.PluginStatus(name="console", channels=["*"], connected=True)],
        deliveries=[presence_pb2.GetStatusResponse.Deliveries(state="pending", count=4)],
        clients_online=2,
    ),
)
EDGE = Member(
    "edge",
    "77",
    "127.0.0.1:7003",
    edge_pb2.GetStatusResponse(
        edge_id=77,
        address="127.0.0.1:8080",
        links=[edge_pb2.GetStatusResponse.Link(coordinator="c1", up=True)],
        sockets=5,
    ),
    "127.0.0.1:8080",
)


def test_the_whole_object() -> None:
    held = Held(partition=0, epoch=5, tail=12, cursor=8)
    picture = Picture(
        3,
        {0: (5, "c1"), 1: (6, "c2")},
        {0: (9, "p1"), 1: (9, "p2")},
        [coordinator("c1", held, queue=1, log_bytes=100, alarms=[DISK]), PRESENCE, EDGE],
    )
    assert status_object(picture) == {
        "logId": "log-1",
        "partitions": {
            "count": 3,
            "lag": "3",
            "withoutOwner": [2],
            "withoutPresence": [2],
            "list": [
                {
                    "partition": 0,
                    "owner": "c1",
                    "epoch": "5",
                    "held": True,
                    "tail": "12",
                    "cursor": "9",
                    "lag": "3",
                },
                {
                    "partition": 1,
                    "owner": "c2",
                    "epoch": "6",
                    "held": False,
                    "tail": None,
                    "cursor": None,
                    "lag": None,
                },
            ],
        },
        "coordinators": [
            {
                "name": "c1",
                "address": "127.0.0.1:7001",
                "answered": True,
                "fault": "",
                "held": 1,
                "edges": [],
                "queue": 1,
                "logBytes": "100",
                "logBytesMax": "0",
            }
        ],
        "presences": [
            {
                "name": "p1",
                "address": "127.0.0.1:7002",
                "answered": True,
                "fault": "",
                "owned": 1,
                "held": 1,
                "handovers": "0",
                "fanouts": "0",
                "clientsOnline": "2",
                "clientsInGrace": "0",
                "clientsOffline": "0",
            }
        ],
        "edges": [
            {
                "name": "77",
                "address": "127.0.0.1:7003",
                "answered": True,
                "fault": "",
                "clientAddress": "127.0.0.1:8080",
                "draining": False,
                "links": [{"coordinator": "c1", "up": True}],
                "sockets": 5,
                "sessions": 0,
                "lagging": 0,
                "subscriptions": 0,
                "subjects": 0,
                "heldPublishes": 0,
            }
        ],
        "plugins": [
            {
                "name": "console",
                "address": "",
                "connected": True,
                "channels": ["*"],
                "breaker": "",
                "queue": "0",
                "calls": 0,
                "fault": "",
                "health": "",
                "registeredAs": "",
            }
        ],
        "deliveries": {"pending": "4"},
        "alarms": [
            {
                "service": "coordinator",
                "member": "c1",
                "name": "STORE_FULL",
                "text": "The disk is full.",
                "since": "1970-01-01T00:01:00Z",
            }
        ],
    }


def test_who_does_not_answer_is_shown_and_raises_an_alarm() -> None:
    silent = Member("coordinator", "c1", "127.0.0.1:7001", "DEADLINE_EXCEEDED")
    shown = status_object(Picture(1, {0: (5, "c1")}, {0: (9, "p1")}, [silent, PRESENCE]))
    assert shown["coordinators"] == [
        {
            "name": "c1",
            "address": "127.0.0.1:7001",
            "answered": False,
            "fault": "DEADLINE_EXCEEDED",
        }
    ]
    [alarm] = shown["alarms"]
    assert (alarm["service"], alarm["member"], alarm["name"]) == (
        "coordinator",
        "c1",
        "MEMBER_SILENT",
    )
    assert shown["partitions"]["list"][0]["held"] is False


def test_a_partition_held_in_another_epoch_is_not_held() -> None:
    old = Held(partition=0, epoch=4, tail=12)
    shown = status_object(
        Picture(1, {0: (5, "c1")}, {0: (9, "p1")}, [coordinator("c1", old), PRESENCE])
    )
    assert [row["held"] for row in shown["partitions"]["list"]] == [False]


def test_without_anybody_it_says_what_is_missing() -> None:
    shown = status_object(Picture(0, {}, {}, []))
    assert [alarm["name"] for alarm in shown["alarms"]] == ["NO_PRESENCE"]
    assert shown["logId"] == ""
    assert shown["plugins"] == shown["coordinators"] == []


def replica(name: str, *plugins: presence_pb2.PluginStatus, holds: bool = True) -> Member:
    said = presence_pb2.GetStatusResponse(
        name=name,
        partitions=[0] if holds else [],
        plugins=plugins,
        deliveries=[presence_pb2.GetStatusResponse.Deliveries(state="pending", count=1)],
    )
    return Member("presence", name, "127.0.0.1:7004", said)


def plugin(breaker: str = "closed", **fields: object) -> presence_pb2.PluginStatus:
    given = {"name": "email", "address": "h:1", "connected": True, "queue": 7, "calls": 2}
    return presence_pb2.PluginStatus(breaker=breaker, **{**given, **fields})  # type: ignore[arg-type]


def test_any_replica_tells_what_the_store_has_and_how_many_partitions_each_owns_says_etcd() -> None:
    silent = Member("presence", "p1", "127.0.0.1:7002", "UNAVAILABLE")
    claims = {0: (1, "p1"), 1: (2, "p2"), 2: (3, "p1")}
    shown = status_object(Picture(4, {}, claims, [silent, replica("p2")]))
    assert shown["deliveries"] == {"pending": "1"}
    assert [(one["name"], one["owned"]) for one in shown["presences"]] == [("p1", 2), ("p2", 1)]
    assert shown["partitions"]["withoutPresence"] == [3]


def test_a_plugin_is_shown_once_as_the_replica_sees_it_that_can_use_it_least() -> None:
    well = replica("p1", plugin())
    for other, breaker, connected in (
        (replica("p2", plugin("open", fault="535")), "open", True),
        (replica("p2", plugin(connected=False)), "closed", False),
        # Who holds nothing calls nobody, and may not have tried.
        (replica("p2", plugin(connected=False), holds=False), "closed", True),
    ):
        for members in ([well, other], [other, well]):
            [shown] = status_object(Picture(0, {}, {}, members))["plugins"]
            assert (shown["breaker"], shown["connected"]) == (breaker, connected)
            assert (shown["queue"], shown["calls"]) == ("14", 4)
