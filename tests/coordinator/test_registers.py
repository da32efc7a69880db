"""The register core: generations, replaced sessions, limits."""

from dataclasses import replace

import pytest
from onward.types.v1 import entry_pb2

from services.chassis.refusals import Code, Refusal
from services.coordinator.registers import Limits, Recorded, record
from services.coordinator.store import Register
from tests.coordinator.harness import DISCONNECTED, connected, event

LIMITS = Limits(clients_max=2, external_tokens_max=2, follows_max=3)
STORED = Register("ann", "c", 4, "s4", 5, True, False, False, ("/a", "/b"), ("mailto:a@x",))
FIRST = Register("ann", "c", 1, "s1", 7, True, False, False)


def recorded(it: entry_pb2.PresenceEvent, *registers: Register) -> Recorded:
    outcome = record(it, {register.client_id: register for register in registers}, LIMITS)
    assert isinstance(outcome, Recorded), outcome
    return outcome


def refused(it: entry_pb2.PresenceEvent, *registers: Register) -> Refusal:
    outcome = record(it, {register.client_id: register for register in registers}, LIMITS)
    assert isinstance(outcome, Refusal)
    return outcome


def positions(*subjects: str) -> list[entry_pb2.Position]:
    return [entry_pb2.Position(subject=subject) for subject in subjects]


def test_the_first_connect_has_generation_one() -> None:
    outcome = recorded(event(1, connected=connected("/a")))
    assert outcome == Recorded(1, replace(FIRST, follows=("/a",)), None, True)


def test_a_connect_that_knows_no_generation_is_taken() -> None:
    assert recorded(event(1, connected=connected(last=0)), STORED).generation == 5


@pytest.mark.parametrize("last", [3, 5])
def test_a_connect_with_another_generation_is_stale(last: int) -> None:
    refusal = refused(event(1, connected=connected(last=last)), STORED)
    assert refusal.code == Code.STALE_SESSION and refusal.generation == 4


def test_a_client_that_was_never_seen_is_told_generation_zero() -> None:
    refusal = refused(event(1, connected=connected(last=9)))
    assert refusal.code == Code.STALE_SESSION
    assert refusal.HasField("generation") and refusal.generation == 0


def test_a_connect_with_a_list_replaces_the_follows_and_without_keeps_them() -> None:
    with_list = recorded(event(1, connected=connected("/c", last=4)), STORED)
    assert with_list.register is not None and with_list.register.follows == ("/c",)
    assert with_list.ending
    without = recorded(event(1, connected=connected(last=4, replaces=False)), STORED)
    assert without.register is not None and without.register.follows == ("/a", "/b")
    assert not without.ending


def test_a_connect_replaces_a_session_that_is_online() -> None:
    it = event(1, connected=connected(last=4))
    assert recorded(it, STORED).replaced == (5, "s4")
    assert recorded(it, replace(STORED, online=False)).replaced is None


def test_a_disconnect_keeps_the_follows() -> None:
    it = event(2, session="s4", generation=4, disconnected=DISCONNECTED)
    assert recorded(it, STORED) == Recorded(4, replace(STORED, online=False), None, True)


def test_an_event_of_an_older_generation_changes_nothing() -> None:
    ending = event(2, generation=3, disconnected=DISCONNECTED)
    assert recorded(ending, STORED) == Recorded(3, None, None, True)


def test_a_live_event_of_an_older_generation_has_its_session_closed() -> None:
    late = event(2, generation=3, followed=entry_pb2.PresenceEvent.Followed())
    assert recorded(late, STORED) == Recorded(3, None, (7, "s1"))


def test_an_event_of_a_client_that_is_not_known_is_recorded_as_it_is() -> None:
    assert recorded(event(2, generation=3, disconnected=DISCONNECTED)).register is None


def test_follows_come_and_go() -> None:
    followed = entry_pb2.PresenceEvent.Followed(follows=[entry_pb2.FollowStart(subject="/c")])
    outcome = recorded(event(2, generation=4, followed=followed), STORED)
    assert outcome == Recorded(4, replace(STORED, follows=("/a", "/b", "/c")))
    unfollowed = entry_pb2.PresenceEvent.Unfollowed(acked=positions("/a"))
    outcome = recorded(event(2, generation=4, unfollowed=unfollowed), STORED)
    assert outcome == Recorded(4, replace(STORED, follows=("/b",)), None, True)


def test_a_client_follows_a_bounded_number_of_subjects() -> None:
    many = [entry_pb2.FollowStart(subject=f"/{n}") for n in range(2)]
    it = event(2, generation=4, followed=entry_pb2.PresenceEvent.Followed(follows=many))
    assert refused(it, STORED).code == Code.TOO_MANY_SUBSCRIPTIONS


def test_external_tokens_come_and_go() -> None:
    added = entry_pb2.PresenceEvent.EndpointAdded(uri="fcm:new", replaces="mailto:a@x")
    outcome = recorded(event(2, generation=4, endpoint_added=added), STORED)
    assert outcome == Recorded(4, replace(STORED, endpoints=("fcm:new",)))
    removed = entry_pb2.PresenceEvent.EndpointRemoved(uri="mailto:a@x")
    outcome = recorded(event(2, generation=4, endpoint_removed=removed), STORED)
    assert outcome == Recorded(4, replace(STORED, endpoints=()))


def test_a_user_has_a_bounded_number_of_external_tokens_over_all_clients() -> None:
    other = replace(STORED, client_id="d", endpoints=("fcm:1", "mailto:a@x"))
    added = entry_pb2.PresenceEvent.EndpointAdded(uri="fcm:2")
    it = event(2, generation=4, endpoint_added=added)
    assert refused(it, STORED, other).code == Code.TOO_MANY_EXTERNAL_TOKENS
    again = entry_pb2.PresenceEvent.EndpointAdded(uri="fcm:1")
    assert recorded(event(2, generation=4, endpoint_added=again), STORED, other).register
    at_connect = event(1, connected=connected(last=4, endpoints=["fcm:2"]))
    assert refused(at_connect, STORED, other).code == Code.TOO_MANY_EXTERNAL_TOKENS


def test_a_token_that_was_told_gone_makes_room() -> None:
    full = replace(STORED, endpoints=("fcm:1", "fcm:2"))
    it = connected(last=4, endpoints=["fcm:3"], endpoints_gone_told=["fcm:1"])
    outcome = recorded(event(1, connected=it), full)
    assert outcome.register is not None and outcome.register.endpoints == ("fcm:2", "fcm:3")


def test_a_user_has_a_bounded_number_of_clients() -> None:
    others = [replace(STORED, client_id=f"d{n}", endpoints=()) for n in range(2)]
    it = event(1, connected=connected())
    assert refused(it, *others).code == Code.TOO_MANY_CLIENTS
    known = recorded(event(1, client="d0", connected=connected()), *others)
    assert known.generation == 5


def test_a_client_that_left_with_nothing_to_return_to_does_not_count() -> None:
    programs = [
        replace(STORED, client_id=f"d{n}", online=False, follows=(), endpoints=()) for n in range(9)
    ]
    assert recorded(event(1, connected=connected()), *programs).generation == 1
    online = [replace(program, online=True) for program in programs[:2]]
    returning = event(1, client="d5", connected=connected())
    assert refused(returning, *online, *programs[2:]).code == Code.TOO_MANY_CLIENTS


@pytest.mark.parametrize("kept", [{"follows": ("/a",)}, {"endpoints": ("fcm:1",)}])
def test_a_client_that_is_away_counts_while_it_follows_or_can_be_reached(kept) -> None:
    away = replace(STORED, online=False, follows=(), endpoints=())
    others = [replace(away, client_id=f"d{n}", **kept) for n in range(2)]
    assert refused(event(1, connected=connected()), *others).code == Code.TOO_MANY_CLIENTS


def test_forgotten_clients_and_observers_do_not_count() -> None:
    others = [
        replace(STORED, client_id="d0", forgotten=True),
        replace(STORED, client_id="d1", observer=True),
        replace(STORED, client_id="d2"),
    ]
    assert recorded(event(1, connected=connected()), *others).generation == 1
    two = [replace(STORED, client_id=f"d{n}") for n in range(2)]
    assert recorded(event(1, connected=connected(acknowledges=False)), *two).generation == 1


def test_a_client_that_logged_out_keeps_its_generation_alone() -> None:
    it = event(2, generation=4, logged_out=entry_pb2.PresenceEvent.LoggedOut())
    outcome = recorded(it, STORED)
    gone = Register("ann", "c", 4, "s4", 5, False, False, True)
    assert outcome == Recorded(4, gone, None, True)
    assert recorded(event(1, connected=connected(last=4)), gone).generation == 5


def test_an_observer_follows_nothing_and_is_forgotten_when_it_leaves() -> None:
    outcome = recorded(event(1, connected=connected("/a", acknowledges=False)))
    assert outcome.register == replace(FIRST, observer=True)
    left = recorded(event(2, generation=1, disconnected=DISCONNECTED), outcome.register)
    assert left.register == replace(FIRST, observer=True, online=False, forgotten=True)


def test_a_connect_that_restores_goes_without_what_is_not_followed_any_more() -> None:
    back = connected("/a", "/z", last=4, replaces=False, restores=True)
    outcome = recorded(event(1, connected=back), STORED)
    assert outcome.lost == ("/z",)
    assert outcome.register is not None and outcome.register.follows == ("/a", "/b")
    # As when its token grants less than the client followed.
    less = connected("/a", "/z", last=4, replaces=True, restores=True)
    outcome = recorded(event(1, connected=less), STORED)
    assert outcome.lost == ("/z",)
    assert outcome.register is not None and outcome.register.follows == ("/a",)


def test_a_client_that_was_forgotten_restores_nothing() -> None:
    back = connected("/a", replaces=False, restores=True)
    outcome = recorded(event(1, connected=back))
    assert outcome.lost == ("/a",) and outcome.register is not None
    assert outcome.register.follows == ()
