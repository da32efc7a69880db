"""Which templates are left out for a while, and which are not."""

from services.presence import strikes
from services.presence.render_process import STRIKES_MAX
from services.presence.strikes import KEPT_S, Key, Strikes

A: Key = ("a", b"1")
B: Key = ("b", b"1")


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_three_strikes_in_one_batch_or_one_in_each_of_three_are_enough() -> None:
    at_once, one_by_one = Strikes(Clock()), Strikes(Clock())
    at_once.learn({A: STRIKES_MAX}, ())
    for _ in range(STRIKES_MAX):
        assert not one_by_one.out(A)
        one_by_one.learn({A: 1}, ())
    assert at_once.out(A)
    assert one_by_one.out(A)
    assert not at_once.out(B)
    assert not at_once.out(("a", b"2")), "it was mended"


def test_it_is_run_again_after_a_while_and_has_all_its_strikes_again() -> None:
    clock = Clock()
    found = Strikes(clock)
    found.learn({A: STRIKES_MAX}, ())
    clock.now += KEPT_S - 1
    assert found.out(A)
    clock.now += 1
    assert not found.out(A)
    found.learn({A: 1}, ())
    assert not found.out(A)


def test_one_that_gave_words_too_is_not_left_out() -> None:
    found = Strikes(Clock())
    found.learn({A: STRIKES_MAX}, {A})
    assert not found.out(A)
    found.learn({A: STRIKES_MAX - 1}, ())
    found.learn({}, {A})
    found.learn({A: 1}, ())
    assert not found.out(A)


def test_no_strike_is_none() -> None:
    found = Strikes(Clock())
    for _ in range(STRIKES_MAX):
        found.learn({A: 0}, ())
    assert not found.out(A)


def test_the_oldest_are_forgotten(monkeypatch) -> None:
    monkeypatch.setattr(strikes, "KEPT_MAX", 1)
    found = Strikes(Clock())
    found.learn({A: STRIKES_MAX, B: STRIKES_MAX}, ())
    assert (found.out(A), found.out(B)) == (False, True)
