"""When a plugin that failed as a whole may be called again."""

from services.presence.breaker import Breaker, BreakerLimits

LIMITS = BreakerLimits(first_s=1.0, longest_s=8.0)


def test_it_is_closed_at_first_and_calls_may_overlap():
    breaker = Breaker(LIMITS)
    assert breaker.begin(0.0).begin(0.0) == breaker
    assert breaker.may_call(0.0)


def test_one_failure_opens_it_for_a_time():
    opened = Breaker(LIMITS).fail(100.0, 1.0)
    assert opened == Breaker(LIMITS, failures=1, open_until=101.0)
    assert not opened.may_call(100.9)
    assert opened.may_call(101.0)


def test_after_the_time_one_probe_may_begin_and_no_second():
    probing = Breaker(LIMITS).fail(100.0, 1.0).begin(101.0)
    assert probing.probing
    assert not probing.may_call(500.0)


def test_a_probe_that_succeeds_closes_it():
    assert Breaker(LIMITS).fail(100.0, 1.0).begin(101.0).succeed() == Breaker(LIMITS)


def test_a_probe_that_fails_opens_it_for_twice_the_time_up_to_a_bound():
    breaker = Breaker(LIMITS)
    waits = []
    now = 0.0
    for _ in range(5):
        breaker = breaker.fail(now, 1.0)
        waits.append(breaker.open_until - now)
        now = breaker.open_until
        breaker = breaker.begin(now)
    assert waits == [1.0, 2.0, 4.0, 8.0, 8.0]


def test_jitter_takes_off_at_most_half():
    assert Breaker(LIMITS).fail(0.0, 0.0).open_until == 0.5


def test_calls_that_were_under_way_when_it_opened_do_not_double_the_time():
    opened = Breaker(LIMITS).fail(100.0, 1.0)
    assert opened.fail(100.2, 1.0) == opened


def test_a_probe_that_never_called_the_plugin_leaves_it_as_it_was():
    opened = Breaker(LIMITS).fail(100.0, 1.0)
    assert opened.begin(101.0).release() == opened
