"""The arithmetic and the shape of what the benchmark shows."""

import json
import xml.etree.ElementTree as ET

import pytest

from bench.report import Figure, as_json, number, percentile, rows, svg, table

COST = Figure("F1", "cost", "µs", [9.0, 6.0, 7.0], 7.5, floor=[5.0, 3.0, 4.0])
RATE = Figure("F6", "rate", "/s", [9_000.0], 12_000, most=False)
PLAIN = Figure("", "p50", "ms", [1.5])


def test_the_median_of_the_runs_counts_and_is_compared_with_the_floors() -> None:
    assert (COST.value, COST.ratio, COST.met) == (7.0, 7.0 / 4.0, True)


def test_a_target_is_the_most_or_the_least() -> None:
    assert RATE.met is False
    assert Figure("F6", "rate", "/s", [12_000.0], 12_000, most=False).met is True
    assert Figure("F1", "cost", "µs", [7.6], 7.5).met is False
    assert PLAIN.met is None


def test_a_row_shows_value_spread_target_floor_and_ratio() -> None:
    assert rows([COST, RATE, PLAIN])[1:] == [
        ("F1", "cost", "7.00 µs", "6.00–9.00", "≤ 7.50", "4.00", "1.75", "reached"),
        ("F6", "rate", "9,000 /s", "", "≥ 12,000", "", "", "not reached"),
        ("", "p50", "1.50 ms", "", "", "", "", ""),
    ]


def test_every_line_of_the_table_is_as_wide_as_the_first() -> None:
    assert len({len(line) for line in table([COST, RATE, PLAIN]).splitlines()}) == 1


@pytest.mark.parametrize(
    ("value", "shown"), [(0.5, "0.50"), (12.34, "12.3"), (456.7, "457"), (12345.6, "12,346")]
)
def test_a_number_has_three_digits_that_count(value: float, shown: str) -> None:
    assert number(value) == shown


@pytest.mark.parametrize(("share", "value"), [(0.5, 51.0), (0.99, 100.0), (0.0, 1.0), (1.0, 100.0)])
def test_a_percentile_is_one_of_the_values(share: float, value: float) -> None:
    assert percentile([float(one) for one in range(100, 0, -1)], share) == value


def test_the_json_has_what_was_measured_and_what_it_means() -> None:
    told = json.loads(json.dumps(as_json([COST], {"date": "today"})))
    assert told["date"] == "today"
    (figure,) = told["figures"]
    assert (figure["runs"], figure["value"], figure["met"]) == ([9.0, 6.0, 7.0], 7.0, True)


def test_the_plot_is_well_formed_and_has_a_bar_for_each_target() -> None:
    drawn = ET.fromstring(svg([COST, RATE, PLAIN]))
    assert sum(part.tag.endswith("rect") for part in drawn) == 2
