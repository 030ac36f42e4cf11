"""The report's charts as SVG: curves of many methods, and pictures of item tables. No script."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from isthmus.fedrec.compare.picture import LEVELS, Picture

WIDTH, HEIGHT = 640, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 10, 44
COLOURS = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#5b5fc7", "#c0392b", "#17a2b8",
    "#7a9a01", "#8e5a2b",
)  # fmt: skip
"""Told apart in both colour schemes; after the last they begin again, with other dashes and
marks."""
DASHES = ("", "7 4", "2 3", "9 3 2 3")
MARKS = (
    "m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",  # disc
    "m-3.5-3.5h7v7h-7z",  # square
    "m0-5l4.5 8.5h-9z",  # triangle
    "m0-5.5l4.5 5.5l-4.5 5.5l-4.5-5.5z",  # diamond
)
"""Paths from the middle of a mark; discs stand for single points, not along lines."""
_APART = 8
"""About so many marks on a line."""
BANDS = ("#9aa5b1", "#5fa8d3", "#3b8ea5", "#f2b134", "#ed7d31", "#c0392b")
"""Popularity, from the rarest to the most popular items."""


@dataclass(frozen=True)
class Look:
    """How one method is drawn."""

    colour: str
    dash: str
    mark: int = 0
    """A place in `MARKS`."""


@dataclass(frozen=True)
class Line:
    """One method's curve; a single point is drawn as a dot."""

    label: str
    look: Look
    x: tuple[float, ...]
    y: tuple[float, ...]


def look(number: int) -> Look:
    """The look of method `number` of a report."""
    turn, kinds = number // len(COLOURS), len(DASHES)
    return Look(
        COLOURS[number % len(COLOURS)], DASHES[turn % kinds], (turn + turn // kinds) % kinds
    )


def swatch(one: Look) -> str:
    """A piece of a method's line, for legends."""
    return (
        f'<svg class="swatch" viewBox="0 0 30 12" aria-hidden="true"><path d="M1 6H29" '
        f'stroke="{one.colour}" stroke-dasharray="{one.dash}"/>{_marks([(15.0, 6.0)], one)}</svg>'
    )


def curves(title: str, x_label: str, y_label: str, lines: Sequence[Line], *, log: bool) -> str:
    """Curves over a common x axis, which is logarithmic with `log`; points at x 0 are left out."""
    kept = [_positive(line) if log else line for line in lines]
    kept = [line for line in kept if line.x]
    if not kept:
        return ""
    xs = [value for line in kept for value in line.x]
    top = max(value for line in kept for value in line.y) * 1.05 or 1.0
    low, high = (min(xs), max(xs)) if log else (0.0, max(xs))
    if high <= low:
        low, high = low / 2 if log else low - 1, high * 2 if log else high + 1
    across = _Axis(low, high, _LEFT, WIDTH - _RIGHT, log=log)
    up = _Axis(0.0, top, HEIGHT - _BOTTOM, _TOP)
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}: {escape(y_label)} by {escape(x_label)}">'
    ]
    for value in up.ticks():
        parts.append(
            f'<path class="grid" d="M{_LEFT} {up(value):.1f}H{WIDTH - _RIGHT}"/>'
            f'<text x="{_LEFT - 6}" y="{up(value) + 4:.1f}" text-anchor="end">'
            f"{_figure(value)}</text>"
        )
    for value in across.ticks():
        parts.append(
            f'<text x="{across(value):.1f}" y="{HEIGHT - _BOTTOM + 16}" '
            f'text-anchor="middle">{_figure(value)}</text>'
        )
    parts.append(
        f'<text x="{(_LEFT + WIDTH - _RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">'
        f"{escape(x_label)}</text>"
    )
    parts += [_drawn(line, across, up) for line in kept]
    return "".join(parts) + "</svg>"


def picture_svg(found: Picture, label: str) -> str:
    """An item table on its first two axes, the popular items on top."""
    size = 9 if len(found.points) < 800 else 6
    bands: list[list[str]] = [[] for _ in range(LEVELS)]
    for x, y, band in found.points:
        bands[band].append(f"M{x} {1000 - y}h0")
    paths = "".join(
        f'<path d="{"".join(marks)}" stroke="{BANDS[band]}" stroke-width="{size * 2}"/>'
        for band, marks in enumerate(bands)
        if marks
    )
    return (
        f'<svg class="picture" viewBox="0 0 1000 1000" role="img" '
        f'aria-label="Item table of {escape(label)} on its first two principal axes">{paths}</svg>'
    )


class _Axis:
    """Values to pixels."""

    def __init__(
        self, low: float, high: float, first: float, last: float, *, log: bool = False
    ) -> None:
        self._log, self._first, self._last = log, first, last
        self._low, self._high = (math.log10(low), math.log10(high)) if log else (low, high)

    def __call__(self, value: float) -> float:
        at = math.log10(value) if self._log else value
        return self._first + (at - self._low) / (self._high - self._low) * (
            self._last - self._first
        )

    def ticks(self) -> list[float]:
        """Round values within the axis."""
        if self._log:
            powers = range(math.ceil(self._low - 1e-9), math.floor(self._high + 1e-9) + 1)
            if len(powers) >= 2:
                return [10.0**one for one in powers]
            return [10**self._low, 10**self._high]
        raw = (self._high - self._low) / 5
        unit = 10.0 ** math.floor(math.log10(raw))
        step = next(unit * one for one in (1, 2, 5, 10) if unit * one >= raw)
        first, last = math.ceil(self._low / step), math.floor(self._high / step + 1e-9)
        return [one * step for one in range(first, last + 1)]


def _positive(line: Line) -> Line:
    kept = [(x, y) for x, y in zip(line.x, line.y, strict=True) if x > 0]
    return Line(line.label, line.look, tuple(x for x, _ in kept), tuple(y for _, y in kept))


def _drawn(line: Line, across: _Axis, up: _Axis) -> str:
    places = [(across(x), up(y)) for x, y in zip(line.x, line.y, strict=True)]
    name = f"<title>{escape(line.label)}</title>"
    if len(places) == 1:
        return _mark_path(places, line.look, name)
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    return (
        f'<path class="line" d="{path}" stroke="{line.look.colour}" '
        f'stroke-dasharray="{line.look.dash}">{name}</path>{_marks(_some(places), line.look)}'
    )


def _some(places: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """A few of the places, evenly: the last one among them."""
    return places[:: -max(1, len(places) // _APART)]


def _marks(places: Sequence[tuple[float, float]], one: Look) -> str:
    """Marks along a line; none for those that colour and dash tell apart."""
    return _mark_path(places, one) if one.mark else ""


def _mark_path(places: Sequence[tuple[float, float]], one: Look, name: str = "") -> str:
    marks = "".join(f"M{x:.1f} {y:.1f}{MARKS[one.mark]}" for x, y in places)
    return f'<path class="mark" d="{marks}" fill="{one.colour}">{name}</path>'


def _figure(value: float) -> str:
    if value == 0:
        return "0"
    if value >= 1e9:
        return f"{value / 1e9:.3g} G"
    if value >= 1e6:
        return f"{value / 1e6:.3g} M"
    if value >= 1e4:
        return f"{value / 1e3:.3g} k"
    if value >= 1e3:
        return f"{value:,.0f}"
    return f"{value:.3g}"
