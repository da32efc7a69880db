"""Figures with their targets, and how they are shown: a table, JSON, and a plot. Pure.

A figure is measured several times; what counts is the median, and the spread is told with it.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. `runs`: as measured, in order; `floor`: the same of the floor."""

    key: str  # F1, F2 …; empty: not one with a target
    what: str
    unit: str
    runs: Sequence[float]
    target: float | None = None
    most: bool = True  # the target is the most it may be; False: the least
    floor: Sequence[float] = ()
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """The median of the runs."""
        return median(self.runs)

    @property
    def ratio(self) -> float | None:
        """How many times the floor; None: there is no floor."""
        return self.value / median(self.floor) if self.floor else None

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None: there is none."""
        if self.target is None:
            return None
        return self.value <= self.target if self.most else self.value >= self.target


def number(value: float) -> str:
    """Three digits that count, without an exponent."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of them, 0 to 1, do not exceed: the nearest rank, rounding up."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


_HEAD = ("", "figure", "measured", "spread", "target", "floor", "ratio", "")


def rows(figures: Sequence[Figure]) -> list[tuple[str, ...]]:
    """The table, its head first."""
    lines: list[tuple[str, ...]] = [_HEAD]
    for one in figures:
        spread = f"{number(min(one.runs))}–{number(max(one.runs))}" if len(one.runs) > 1 else ""
        target = ""
        if one.target is not None:
            target = f"{'≤' if one.most else '≥'} {number(one.target)}"
        lines.append(
            (
                one.key,
                one.what,
                f"{number(one.value)} {one.unit}",
                spread,
                target,
                number(median(one.floor)) if one.floor else "",
                f"{one.ratio:.2f}" if one.ratio is not None else "",
                {None: "", True: "reached", False: "not reached"}[one.met],
            )
        )
    return lines


def table(figures: Sequence[Figure]) -> str:
    """The table as Markdown, aligned for a terminal too."""
    lines = rows(figures)
    widths = [max(len(line[at]) for line in lines) for at in range(len(_HEAD))]
    shown = [
        "| "
        + " | ".join(word.ljust(width) for word, width in zip(line, widths, strict=True))
        + " |"
        for line in lines
    ]
    shown.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(shown)


def as_json(figures: Sequence[Figure], about: dict[str, Any]) -> dict[str, Any]:
    """Everything measured, for other programs."""
    return about | {
        "figures": [
            asdict(one) | {"value": one.value, "ratio": one.ratio, "met": one.met}
            for one in figures
        ]
    }


_ROW, _LEFT, _WIDTH = 26, 330, 340


def svg(figures: Sequence[Figure]) -> str:
    """A bar for each figure with a target, as a share of it: the line is where it is reached."""
    shown = [one for one in figures if one.target]
    height = _ROW * len(shown) + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDTH + 120}" height="{height}" '
        'font-family="sans-serif" font-size="12">'
    ]
    line = _LEFT + _WIDTH / 2
    for at, one in enumerate(shown):
        assert one.target is not None
        share = one.value / one.target if one.most else one.target / max(one.value, 1e-9)
        y, width = 20 + at * _ROW, min(share, 2) * _WIDTH / 2
        colour = "#3a7d44" if one.met else "#b5532d"
        text = f"{number(one.value)} of {number(one.target)} {one.unit}"
        parts += [
            f'<text x="{_LEFT - 8}" y="{y + 14}" text-anchor="end">{one.key} {one.what}</text>',
            f'<rect x="{_LEFT}" y="{y}" width="{width:.1f}" height="18" fill="{colour}"/>',
            f'<text x="{_LEFT + width + 6:.1f}" y="{y + 14}">{text}</text>',
        ]
    parts.append(f'<path d="M{line} 10V{height - 16}" stroke="#333" stroke-dasharray="4 3"/>')
    parts.append(f'<text x="{line}" y="{height - 4}" text-anchor="middle">target</text></svg>')
    return "\n".join(parts)
