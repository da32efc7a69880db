"""Which times of a plan contradict one another."""

import pytest

from services.presence.plan import DEFAULT_PLAN, Plan, Priority
from services.presence.plan_times import contradiction

STEPS = (("fcm",), ("tel",), ("mailto",))


@pytest.mark.parametrize(
    ("plan", "key"),
    [
        (Plan(digest_s=60.0), "digest_s"),
        (Plan(digest_s=10.0, expiry_s=10.0), "digest_s"),
        (Plan(collapse_s=60.0), "collapse_s"),
        (Plan(steps=STEPS, escalate_s=30.0), "escalate_s"),
        (Plan(steps=STEPS, escalate_s=30.0, priority=Priority.URGENT), "escalate_s"),
        (Plan(steps=STEPS, escalate_s=20.0, digest_s=20.0), "escalate_s"),
    ],
)
def test_what_would_expire_before_it_is_sent_is_named(plan, key):
    wrong = contradiction(plan, 60.0)
    assert wrong is not None
    assert wrong[0] == key
    assert f"raise `expiry_s`, or lower `{key}`" in wrong[1]


@pytest.mark.parametrize(
    "plan",
    [
        DEFAULT_PLAN,
        Plan(digest_s=59.0),
        Plan(digest_s=60.0, expiry_s=61.0),
        Plan(digest_s=90.0, collapse_s=90.0, priority=Priority.URGENT),
        Plan(expiry_s=1.0),
        Plan(steps=STEPS, escalate_s=29.0),
        Plan(steps=STEPS[:1], escalate_s=99.0),
    ],
)
def test_what_has_time_to_be_sent_is_not(plan):
    assert contradiction(plan, 60.0) is None
