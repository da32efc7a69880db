"""What of a user's rows is seen from outside, and what is no happening: by the cores alone."""

import json

import pytest

from services.presence import events
from services.presence.happenings import changes, fair_bound
from services.presence.state import Graces
from tests.presence.entries import Ann, connected, disconnected
from tests.presence.rows import GRACES


class Seen(Ann):
    """A user whose every change is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list = []

    def tell(self, event) -> list:
        """Take an event; what is told of it."""
        before = self.state
        effects = events.on_event(before, event, 1, 50.0, 50.0, GRACES)
        told = changes(before, effects, event.client_id)
        self.take(event)
        self.told += told
        return told


def test_a_connect_tells_the_client_and_its_user():
    ann = Seen()
    event = connected("a", 1, {"/s": 0, "/b": 3})
    event.connected.endpoints.append("fcm:1")
    event.connected.info["app"] = "chat"
    [told] = ann.tell(event)
    assert (told.user, told.client_id, told.generation) == (event.user, "a", 1)
    assert told.session_id == event.session_id
    assert list(told.subjects) == ["/b", "/s"]
    assert list(told.external_tokens) == ["fcm:1"]
    assert dict(told.additional_info) == {"app": "chat"}
    assert (told.is_offline, told.client_offline) == (False, False)


def test_what_a_client_said_of_itself_stays_with_its_register():
    ann = Seen()
    event = connected("a", 1, {"/s": 0})
    event.connected.info["app"] = "chat"
    ann.tell(event)
    assert json.loads(ann.state.registers["a"].info) == {"app": "chat"}
    [told] = ann.tell(disconnected("a", 1))
    assert dict(told.additional_info) == {"app": "chat"}


def test_a_client_in_its_grace_counts_as_gone_and_its_end_is_not_told_again():
    ann = Seen()
    ann.tell(connected("a", 1, {"/s": 0}))
    [told] = ann.tell(disconnected("a", 1))
    assert (told.is_offline, told.client_offline) == (True, True)
    assert list(told.subjects) == ["/s"], "it goes on following"
    before = ann.state
    until = before.registers["a"].grace_until
    effects = events.on_grace_end(before, "a", 1, until + 1)
    assert effects and changes(before, effects) == []


def test_a_dead_edge_tells_of_each_of_its_clients():
    ann = Seen()
    for client in ("a", "b"):
        ann.tell(connected(client, 1, {"/s": 0}))
    edge = ann.state.registers["a"].edge_id
    effects = events.on_edge_dead(ann.state, edge, 60.0, Graces())
    told = changes(ann.state, effects)
    assert [(one.client_id, one.client_offline, one.is_offline) for one in told] == [
        ("a", True, True),
        ("b", True, True),
    ]


def test_while_another_client_is_there_the_user_is():
    ann = Seen()
    ann.tell(connected("a", 1, {"/s": 0}))
    ann.tell(connected("b", 1, {"/s": 0}))
    [told] = ann.tell(disconnected("a", 1))
    assert (told.client_id, told.client_offline, told.is_offline) == ("a", True, False)


def test_repeats_and_events_of_older_generations_tell_nothing():
    ann = Seen()
    ann.tell(connected("a", 1, {"/s": 0}))
    ann.tell(connected("a", 2, {"/s": 0}))
    assert ann.tell(disconnected("a", 1, {"/s": 7})) == [], "raises acked, which is not seen"
    assert ann.tell(connected("a", 2, {"/s": 0})) == []
    assert ann.tell(connected("a", 1, {"/s": 0})) == []
    assert len(ann.tell(disconnected("a", 2))) == 1
    assert ann.tell(disconnected("a", 2)) == []


def test_a_client_that_is_forgotten_tells_nothing_and_one_whose_follows_end_does():
    ann = Seen()
    ann.tell(connected("a", 1, {"/s": 0}))
    ann.tell(disconnected("a", 1))
    ann.end_graces()
    ended = events.forget(ann.state, 1e9, 60.0, 1e12)
    [told] = changes(ann.state, ended)
    assert (told.client_id, list(told.subjects), told.client_offline) == ("a", [], True)
    ann.take(connected("c", 1, {}), disconnected("c", 1))
    ann.end_graces()
    dropped = list(events.forget(ann.state, 1e9, 1e12, 60.0))
    assert dropped and changes(ann.state, dropped) == []


@pytest.mark.parametrize(
    ("kept", "most", "bound"),
    [
        ([], 10, 10),
        ([3, 4], 10, 10),
        ([1, 9, 8], 10, 4),
        ([5, 5, 5], 10, 3),
        ([100], 10, 10),
    ],
)
def test_partitions_that_keep_little_leave_room_to_the_others(kept, most, bound):
    assert fair_bound(kept, most) == bound
    assert sum(min(one, bound) for one in kept) <= most
