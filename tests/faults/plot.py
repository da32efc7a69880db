"""Draws acceptances a second across a fault, as a small SVG. Pure.

Readable on light and dark pages: it sets no background, and its ink is the page's own grey.
"""

from collections.abc import Sequence

WIDTH, HEIGHT = 480, 110
_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 6, 8, 20
_INK, _LINE, _FAULT = "#808080", "#2f7ed8", "#e0664a"
_TICK_S = 5


def svg(title: str, points: Sequence[tuple[float, float]], lasted_s: float) -> str:
    """`points`: (seconds since the fault, acceptances a second), equally far apart; the fault is
    shaded from 0 to `lasted_s`."""
    first, last = points[0][0], points[-1][0]
    most = max(10.0, max(rate for _, rate in points))

    def x(seconds: float) -> float:
        return round(_LEFT + (seconds - first) / (last - first) * (WIDTH - _LEFT - _RIGHT), 1)

    def y(rate: float) -> float:
        return round(HEIGHT - _BOTTOM - rate / most * (HEIGHT - _TOP - _BOTTOM), 1)

    line = " ".join(f"{x(seconds)},{y(rate)}" for seconds, rate in points)
    floor, shade = y(0.0), max(1.5, x(lasted_s) - x(0.0))
    ticks = range(-(-int(first) // _TICK_S) * _TICK_S, int(last) + 1, _TICK_S)
    marks = "".join(
        f'<text x="{x(tick)}" y="{HEIGHT - 6}" text-anchor="middle">{tick}</text>'
        f'<path d="M{x(tick)} {floor}v3"/>'
        for tick in ticks
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}"'
        f' height="{HEIGHT}" role="img"><title>{_escaped(title)}</title>'
        f'<rect x="{x(0.0)}" y="{_TOP}" width="{shade:.1f}" height="{floor - _TOP}"'
        f' fill="{_FAULT}" fill-opacity="0.25"/>'
        f'<polyline points="{line}" fill="none" stroke="{_LINE}" stroke-width="1.2"/>'
        f'<g fill="{_INK}" stroke="none" font-family="sans-serif" font-size="9">'
        f'<path d="M{_LEFT} {floor}H{WIDTH - _RIGHT}M{_LEFT} {_TOP}V{floor}" stroke="{_INK}"/>'
        f'<text x="{_LEFT - 4}" y="{_TOP + 6}" text-anchor="end">{most:.0f}/s</text>'
        f'<text x="{_LEFT - 4}" y="{floor}" text-anchor="end">0</text>'
        f'<text x="2" y="{HEIGHT - 6}">s</text>{marks}</g></svg>\n'
    )


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
