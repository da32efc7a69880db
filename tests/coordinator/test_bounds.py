"""What the coordinator turns down by its own limits."""

import pytest
from onward.coordinator.v1 import coordinator_pb2
from onward.types.v1 import entry_pb2

from services.chassis.refusals import Code
from services.coordinator import bounds
from tests.coordinator.harness import DISCONNECTED, connected, event, publish


def content(**fields: object) -> coordinator_pb2.Publish:
    it = publish("/a", "hi", "p1")
    it.content.CopyFrom(entry_pb2.Content(**fields))  # type: ignore[arg-type]
    return it


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (publish("/a", "hi", ""), Code.PUBLICATION_ID_INVALID),
        (publish("/a", "hi", "p" * 129), Code.PUBLICATION_ID_INVALID),
        (publish("/a", "hi", "p1", publisher="b" * 129), Code.ARGUMENT_INVALID),
        (content(text="ä" * 131_073), Code.CONTENT_TOO_LARGE),
        (content(data=b"x" * 262_145), Code.CONTENT_TOO_LARGE),
        (content(text="hi", headers={"a": "x" * 65_536}), Code.HEADERS_TOO_LARGE),
        (content(text="hi", content_type="x" * 65_537), Code.HEADERS_TOO_LARGE),
    ],
    ids=lambda it: str(it)[:40],
)
def test_a_publish_out_of_bounds_is_refused_with_its_code(
    asked: coordinator_pb2.Publish, code: int
) -> None:
    refusal = bounds.publish_refusal(asked)
    assert refusal is not None and refusal.code == code
    assert "xxx" not in refusal.message


@pytest.mark.parametrize(
    "asked",
    [
        publish("/a", "", "p1"),
        content(data=b"x" * 262_144, headers={"a": "x" * 65_535}),
        content(text="x" * 262_144),
    ],
    ids=lambda it: str(it)[:40],
)
def test_a_publish_within_the_bounds_passes(asked: coordinator_pb2.Publish) -> None:
    assert bounds.publish_refusal(asked) is None


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (event(1), Code.ARGUMENT_INVALID),
        (event(0, connected=connected()), Code.ARGUMENT_INVALID),
        (event(1, user="", connected=connected()), Code.ARGUMENT_INVALID),
        (event(1, client="c" * 1_000_000, connected=connected()), Code.ARGUMENT_INVALID),
        (event(1, client="c\0", connected=connected()), Code.ARGUMENT_INVALID),
        (event(2**63, connected=connected()), Code.ARGUMENT_INVALID),
        (event(1, generation=2**63, disconnected=DISCONNECTED), Code.ARGUMENT_INVALID),
        (event(1, connected=connected("/" + "x" * 1_000_000)), Code.SUBJECT_INVALID),
        (event(1, connected=connected(*(["/" + "x" * 254] * 40_000))), Code.ARGUMENT_INVALID),
        (event(1, connected=connected(endpoints=["fcm:" + "x" * 4_096])), 19),
        (event(1, endpoint_added={"uri": "fcm:" + "x" * 4_096}), Code.EXTERNAL_TOKEN_INVALID),
    ],
    ids=lambda it: str(it)[:40],
)
def test_an_event_out_of_bounds_is_refused_with_its_code(
    asked: entry_pb2.PresenceEvent, code: int
) -> None:
    refusal = bounds.event_refusal(asked, 0, 1)
    assert refusal is not None and refusal.code == code
