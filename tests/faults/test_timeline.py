"""What is measured across a fault, and how it is drawn."""

from xml.etree import ElementTree

import pytest

from tests.faults.plot import svg
from tests.faults.timeline import Timeline


def told(*events: tuple[str, float, str, int]) -> Timeline:
    """Events as (name, at, subject, number)."""
    timeline = Timeline()
    for name, at, subject, number in events:
        timeline.take(
            {"event": name, "at": at, "subject": subject, "publisher": "bob", "number": number}
        )
    return timeline


def test_a_subject_accepts_again_with_what_was_published_after_the_fault() -> None:
    timeline = told(
        ("publish", 0.0, "/a", 1), ("publish", 0.0, "/b", 2), ("accepted", 0.1, "/a", 1),
        ("accepted", 0.2, "/b", 2), ("publish", 0.9, "/a", 3), ("injected", 1.0, "", 0),
        ("accepted", 1.1, "/a", 3), ("publish", 1.2, "/a", 4), ("publish", 1.2, "/b", 5),
        ("accepted", 3.0, "/a", 4), ("healed", 3.5, "", 0), ("accepted", 4.0, "/b", 5),
        ("publish", 4.1, "/a", 6), ("accepted", 4.2, "/a", 6),
    )  # fmt: skip
    assert timeline.again_s("injected") == 3.0
    assert timeline.waited_s == pytest.approx(2.8)
    assert timeline.again_s("healed") is None  # on /b, nothing was
    assert timeline.accepted_between(1.0, 3.5) == 2


def test_the_points_have_no_holes_and_count_from_the_fault() -> None:
    timeline = told(
        ("publish", 0.0, "/a", 1), ("accepted", 0.1, "/a", 1), ("injected", 0.5, "", 0),
        ("publish", 0.6, "/a", 2), ("accepted", 0.9, "/a", 2),
    )  # fmt: skip
    assert timeline.points() == [(-0.5, 4.0), (-0.25, 0.0), (0.0, 0.0), (0.25, 4.0)]


def test_a_plot_is_small_and_well_formed() -> None:
    points = [(n / 4 - 3, float(n % 7)) for n in range(120)]
    text = svg("a < b & c", points, 4.0)
    assert ElementTree.fromstring(text).tag.endswith("svg")
    assert len(text) < 4_000
