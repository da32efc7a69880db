"""The page says of each row what its runs came to, and draws the first."""

from typing import Any

from tests.faults.report import page, plots
from tests.faults.rows import ROWS


def played(row: str, seed: int, **other: Any) -> dict[str, Any]:
    return {
        "row": row, "seed": seed, "broken": {}, "accepted": 1_000, "says": "it dies",
        "must": "it lives", "bound": "2 s", "bound_s": 2.0, "measured_s": 1.5, "waited_s": 1.7,
        "refused": 0, "wrong": [], "lasted_s": 1.0, "points": [(-0.25, 8.0), (0.0, 0.0)],
        "started_s": [], "slow": 1.0,
    } | other  # fmt: skip


def test_rows_stand_in_the_order_of_the_table_and_seeds_in_theirs() -> None:
    first, second = list(ROWS)[:2]
    records = [played(second, 1, says="later"), played(first, 2, measured_s=1.25), played(first, 1)]
    text = page(records)
    assert text.index("it dies") < text.index("later")
    assert "| 1.50, 1.25 |" in text
    assert "| 2,000 |" in text


def test_what_is_beyond_its_bound_is_bold_and_what_is_broken_is_counted() -> None:
    name = next(iter(ROWS))
    records = [
        played(name, 1, measured_s=2.5, broken={"L1": 2, "L4": 1, "N2": 4}),
        played(name, 2, measured_s=None, wrong=["nobody was told"]),
    ]
    text = page(records)
    assert "| **2.50**, **never** | 1.7 | 0 | 2,000 | 3 | 0 | 0 | 0 | 0 | 4 | 0 |" in text
    assert f"{name}, seed 2: nobody was told" in text


def test_each_row_has_a_plot_of_its_first_seed() -> None:
    first, second = list(ROWS)[:2]
    records = [played(first, 2, says="not this"), played(first, 1), played(second, 1)]
    drawn = plots(records)
    assert list(drawn) == [f"{first}.svg", f"{second}.svg"]
    assert "it dies" in drawn[f"{first}.svg"]
