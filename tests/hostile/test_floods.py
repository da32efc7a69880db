"""A client that sends without pause costs what its limits say, and disturbs nobody."""

from collections.abc import Iterator

import pytest

from tests.hostile.scene import Process, Watcher, metric, process
from tests.path.stack import Suite
from tests.waiting import wait_for

FRAME_RATE, FRAME_BURST = 300, 2_000  # the defaults of the edge
SECONDS = 1.2


@pytest.fixture(scope="module")
def crowd(suite: Suite) -> Iterator[Process]:
    """Clients that check the order of what they get all the time, and in the end that it is all."""
    with process("crowd", suite.port, "/calm", 5, 2, 50, 200) as one:
        yield one
        assert one.ask("stop")["last"] > 0


@pytest.mark.parametrize(
    ("how", "answer"),
    [
        ("publish", "RATE_LIMITED"),
        ("publish_large", "published"),
        ("ping", None),
        ("pong", None),
        ("empty", "FRAME_MALFORMED"),
        ("refused", "FRAME_MALFORMED"),
        ("acknowledge", None),
        ("subscribe", "subscribed"),
    ],
)
def test_a_flood_is_slowed_and_answered(
    suite: Suite, crowd: Process, how: str, answer: str | None
) -> None:
    watcher = Watcher(suite)
    crowd.ask("mark")
    frames_before = metric(suite, "onward_edge_frames_received")
    with process("flooder", suite.port, how) as flooder:
        watcher.rest(SECONDS)
        report = flooder.ask("report")
        taken = metric(suite, "onward_edge_frames_received") - frames_before
    assert report["closed_with"] is None
    if answer:
        assert report["answers"][answer] > 0
    # The calm ones send and are pinged too; a process that starts slowly has more time.
    assert taken < FRAME_BURST + FRAME_RATE * (SECONDS + 5)
    assert crowd.ask("report")["delivered"] > 0
    watcher.wait_back()


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("tiny_fragments", 1008),
        ("empty_fragments", 1008),
        ("endless_message", 1009),
        ("refused_unread", 4001),
    ],
)
def test_a_flood_without_sense_is_ended_with_its_code(
    suite: Suite, crowd: Process, how: str, code: int
) -> None:
    watcher = Watcher(suite)
    crowd.ask("mark")
    with process("flooder", suite.port, how) as flooder:
        wait_for(lambda: flooder.ask("report")["closed_with"] is not None, 20, f"{how} is ended")
        # A peer that goes on sending may be cut before it has read why.
        assert flooder.ask("report")["closed_with"] in (code, 1006)
        assert metric(suite, f'onward_edge_sockets_closed_total{{code="{code}"}}') > 0
    assert crowd.ask("report")["delivered"] > 0
    watcher.wait_back()
