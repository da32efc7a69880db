"""A client gets its burst, then its rate, in frames and in bytes, portion by portion."""

from services.edge.meter import PORTION_FRAMES, InputLimits, Meter

LIMITS = InputLimits(frames_per_s=100, frames_burst=200, bytes_per_s=1000, bytes_burst=5000)


def test_the_burst_comes_in_portions_and_then_nothing() -> None:
    meter = Meter(LIMITS, 7.0)
    portions = [meter.next_portion(LIMITS, PORTION_FRAMES, 0, 7.0) for _ in range(4)]
    assert portions == [PORTION_FRAMES, PORTION_FRAMES, 200 - 3 * PORTION_FRAMES, 0]


def test_frames_return_with_time_up_to_the_burst() -> None:
    meter = Meter(LIMITS, 0.0)
    assert meter.next_portion(LIMITS, 200, 0, 0.0) == 0
    assert meter.next_portion(LIMITS, 0, 0, 0.1) == 10
    assert meter.next_portion(LIMITS, 10, 0, 0.1) == 0
    assert meter.next_portion(LIMITS, 200, 0, 1000.0) == 0


def test_bytes_alone_can_use_up_the_allowance() -> None:
    meter = Meter(LIMITS, 0.0)
    assert meter.next_portion(LIMITS, 1, 5000, 0.0) == 0
    assert meter.next_portion(LIMITS, 0, 0, 0.001) == PORTION_FRAMES


def test_what_was_taken_beyond_the_allowance_is_waited_for() -> None:
    meter = Meter(LIMITS, 0.0)
    assert meter.next_portion(LIMITS, 1200, 0, 0.0) == 0
    assert meter.next_portion(LIMITS, 0, 0, 9.875) == 0
    assert meter.next_portion(LIMITS, 0, 0, 10.25) == 25


def test_a_clock_that_stands_still_or_goes_back_gives_nothing() -> None:
    meter = Meter(LIMITS, 10.0)
    assert meter.next_portion(LIMITS, 200, 0, 10.0) == 0
    assert meter.next_portion(LIMITS, 0, 0, 9.0) == 0
