"""The store's clock is the time of day at first, and then counts seconds."""

import time

import pytest

from services.presence.clock import steady


def test_it_begins_with_the_time_of_day() -> None:
    assert abs(steady()() - time.time()) < 1.0


@pytest.mark.parametrize("jump_s", [3_600.0, -3_600.0])
def test_it_does_not_follow_a_jump(monkeypatch: pytest.MonkeyPatch, jump_s: float) -> None:
    clock, began, of_day = steady(), time.monotonic(), time.time
    before = clock()
    monkeypatch.setattr(time, "time", lambda: of_day() + jump_s)
    assert abs(clock() - before - (time.monotonic() - began)) < 1.0
