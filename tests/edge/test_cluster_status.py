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
        owner=True,
        epoch=3,
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
        "p1",
        [coordinator("c1", held, queue=1, log_bytes=100, alarms=[DISK]), PRESENCE, EDGE],
    )
    assert status_object(picture) == {
        "logId": "log-1",
        "partitions": {
            "count": 3,
            "lag": "3",
            "withoutOwner": [2],
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
                "owner": True,
                "epoch": "3",
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
    shown = status_object(Picture(1, {0: (5, "c1")}, "p1", [silent, PRESENCE]))
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
    shown = status_object(Picture(1, {0: (5, "c1")}, "p1", [coordinator("c1", old), PRESENCE]))
    assert [row["held"] for row in shown["partitions"]["list"]] == [False]


def test_without_anybody_it_says_what_is_missing() -> None:
    shown = status_object(Picture(0, {}, None, []))
    assert [alarm["name"] for alarm in shown["alarms"]] == ["NO_PRESENCE"]
    assert shown["logId"] == ""
    assert shown["plugins"] == shown["coordinators"] == []


def test_a_presence_service_that_does_not_work_says_nothing_of_deliveries() -> None:
    spare = Member(
        "presence",
        "p2",
        "127.0.0.1:7004",
        presence_pb2.GetStatusResponse(
            name="p2",
            deliveries=[presence_pb2.GetStatusResponse.Deliveries(state="pending", count=1)],
        ),
    )
    assert status_object(Picture(0, {}, "p1", [spare]))["deliveries"] == {}
