from services.edge.rates import RateLimits, Rates

LIMITS = RateLimits(per_s=10, burst=2, callers_max=2)


def test_each_caller_has_a_bucket_of_its_own() -> None:
    rates = Rates(LIMITS)
    assert [rates.take("ann", 1.0) for _ in range(3)] == [0, 0, 100]
    assert rates.take("bob", 1.0) == 0
    assert rates.take("ann", 1.1) == 0


def test_the_caller_heard_of_longest_ago_is_forgotten_when_there_are_too_many() -> None:
    rates = Rates(LIMITS)
    for caller in ("ann", "bob", "ann", "ann", "eve"):
        rates.take(caller, 1.0)
    assert len(rates) == 2
    assert rates.take("ann", 1.0) > 0  # it was heard of after bob
    assert rates.take("bob", 1.0) == 0 and len(rates) == 2
