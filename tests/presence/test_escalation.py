"""When a further channel of an escalation is used."""

from dataclasses import replace

import pytest

from services.presence.escalation import hastened, postponed, settled_as, wait_until
from services.presence.notifications import Delivery, DeliveryState

NOW = 100.0


def one(step: int, state=DeliveryState.PENDING, due_at: float | None = 500.0, **more) -> Delivery:
    due_at = due_at if state in (DeliveryState.PENDING, DeliveryState.RETRY) else None
    made = Delivery(f"{step}", "n", "ann", "/a", f"s{step}:x", state, due_at, 9_000.0, step=step)
    return replace(made, **more)


def test_a_receipt_of_a_former_step_settles_a_later_one():
    assert settled_as(one(1), [one(0, DeliveryState.DELIVERED), one(1)]) == "RECEIPTED"
    assert not settled_as(one(1), [one(0, DeliveryState.ACCEPTED), one(1)])
    assert not settled_as(one(0), [one(0), one(1, DeliveryState.DELIVERED)])


def test_what_was_read_before_it_was_sent_needs_no_further_step():
    read = one(0, DeliveryState.CANCELLED, reason="ACKNOWLEDGED")
    assert settled_as(one(1), [read, one(1)]) == "ACKNOWLEDGED"
    assert hastened([read, one(1)], NOW) == []
    assert not settled_as(one(1), [one(0, DeliveryState.CANCELLED, reason="MUTED"), one(1)])


@pytest.mark.parametrize(
    "state",
    [DeliveryState.FAILED, DeliveryState.DEAD, DeliveryState.EXPIRED, DeliveryState.CANCELLED],
)
def test_where_nothing_was_sent_the_next_step_is_due_at_once(state):
    first = [one(0, state), replace(one(0, state), id="0b")]
    assert hastened([*first, one(1), one(2)], NOW) == [one(1, due_at=NOW)]


@pytest.mark.parametrize(
    "state",
    [DeliveryState.ACCEPTED, DeliveryState.DELIVERED, DeliveryState.UNKNOWN, DeliveryState.SENDING],
)
def test_what_may_have_arrived_is_given_its_time(state):
    assert (
        hastened([one(0, state), replace(one(0, DeliveryState.DEAD), id="0b"), one(1)], NOW) == []
    )


def test_what_is_still_to_be_tried_is_given_its_time():
    assert hastened([one(0, DeliveryState.RETRY, attempts=1), one(1)], NOW) == []


def test_a_further_step_waits_until_the_former_was_tried():
    put_off = one(0, due_at=900.0, reason="QUIET_HOURS")
    assert wait_until(one(1), [put_off, one(1)], NOW, 60.0) == 960.0
    tried = one(0, DeliveryState.RETRY, due_at=900.0, attempts=1)
    assert wait_until(one(1), [tried, one(1)], NOW, 60.0) is None
    assert wait_until(one(0), [one(0), one(1)], NOW, 60.0) is None


def test_a_step_that_nobody_tries_is_waited_for_no_longer_than_a_receipt():
    """Its plugin is away."""
    assert wait_until(one(1), [one(0, due_at=NOW - 59.0), one(1)], NOW, 60.0) == NOW + 1.0
    assert wait_until(one(1), [one(0, due_at=NOW - 60.0), one(1)], NOW, 60.0) is None


def test_from_the_first_try_on_receipts_have_their_time():
    first = one(0, DeliveryState.SENDING, attempts=1)
    near = one(1, due_at=NOW)
    far = one(2, due_at=9_000.0, reason="QUIET_HOURS")
    assert postponed(first, [first, near, far], NOW, 60.0) == [replace(near, due_at=NOW + 60.0)]
    assert postponed(near, [first, near, one(2, due_at=NOW)], NOW, 60.0) == [
        one(2, due_at=NOW + 60.0)
    ]


def test_where_the_first_step_is_sent_sooner_the_next_ones_are_too():
    """The user ends the quiet hours that had put off the first, and with it the others."""
    first = one(0, DeliveryState.SENDING, attempts=1)
    assert postponed(first, [first, one(1, due_at=9_000.0)], NOW, 60.0) == [
        one(1, due_at=NOW + 60.0)
    ]


@pytest.mark.parametrize("waits", [{"held": True}, {"attempts": 1}])
def test_what_waits_for_another_reason_goes_on_waiting(waits):
    assert hastened([one(0, DeliveryState.DEAD), one(1, **waits)], NOW) == []


def test_the_last_step_has_no_next():
    assert hastened([one(0, DeliveryState.DEAD)], NOW) == []
