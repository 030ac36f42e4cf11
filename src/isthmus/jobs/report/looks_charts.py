"""Small charts of tables that were looked at, as plain shapes: histograms, WOE bars, heat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from isthmus.jobs.report.looks import Bin, BinFacts, BinnedColumn, CorrelationFacts, ProfileColumn
from isthmus.jobs.report.looks_words import what_was_done
from isthmus.jobs.report.model import Report

MOST_IN_HEAT = 60
"""Columns of a matrix that is shown as a table."""
MOST_PAIRS = 10
MOST_CARDS = 60
"""Columns whose bins are shown."""
OPEN_CARDS = 6
"""Of these, those that are not folded."""
OPEN_BINS = 16
"""Of a column, that are not folded."""
HEIGHT = 28
"""Of a histogram, whose width is 100."""
STRENGTHS = (
    (0.02, "next to none"),
    (0.1, "weak"),
    (0.3, "medium"),
    (0.5, "strong"),
)
"""What an information value below each means, by the usual rule of thumb (Siddiqi, 2006)."""


@dataclass(frozen=True, slots=True)
class Rect:
    """A rectangle of a drawing."""

    x: float
    y: float
    width: float
    height: float
    kind: str = "first"


@dataclass(frozen=True, slots=True)
class WoeRow:
    """A bin of a card."""

    bin: Bin
    bars: tuple[Rect, ...]
    """From the middle of 100: right where positives are more frequent than on average."""


@dataclass(frozen=True, slots=True)
class Card:
    """A column with its bins."""

    column: BinnedColumn
    rows: tuple[WoeRow, ...]
    total: int
    """Rows of all bins."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two columns and their correlation."""

    first: str
    second: str
    value: float


def looks_page(report: Report) -> dict[str, object]:
    """What the page's template takes for the tables; little where the job looks at none."""
    looks, me = report.looks, report.job.party
    if looks is None:
        return {}
    return {
        "cards": cards(looks.bins),
        "open_cards": OPEN_CARDS,
        "most_open": OPEN_BINS,
        "pairs": (
            ("Most alike, or most opposed", pairs(looks.correlation, me, across=False)),
            ("The same across parties", pairs(looks.correlation, me, across=True)),
        ),
        "most_in_heat": MOST_IN_HEAT,
        "histogram": histogram,
        "middle": middle,
        "strength": strength,
        "heat": heat,
        "short": short,
        "running": running,
        "what_was_done": what_was_done,
    }


def histogram(column: ProfileColumn) -> tuple[Rect, ...]:
    """A bar for each cell or category, the rest in grey."""
    counts = [*column.counts, *([column.others] if column.others else [])]
    most = max(counts, default=0)
    if not most:
        return ()
    width = 100 / len(counts)
    gap = min(1.0, 0.12 * width)
    return tuple(
        Rect(
            x=at * width,
            y=HEIGHT * (1 - count / most),
            width=width - gap,
            height=HEIGHT * count / most,
            kind="first" if at < len(column.counts) else "rest",
        )
        for at, count in enumerate(counts)
    )


def middle(column: ProfileColumn) -> float | None:
    """The mean, or 0 where rounding alone tells it from 0."""
    mean, deviation = column.mean, column.deviation
    if mean is None or deviation is None:
        return mean
    return 0.0 if abs(mean) < 1e-5 * deviation else mean


def cards(facts: BinFacts | None) -> tuple[Card, ...]:
    """The columns with the greatest IV and their bins, all bars on one scale."""
    if facts is None:
        return ()
    chosen = [column for column in facts.columns if any(one.woe is not None for one in column.bins)]
    chosen = chosen[:MOST_CARDS]
    sizes = [abs(one.woe) for column in chosen for one in column.bins if one.woe is not None]
    most = max(sizes, default=0.0) or 1.0
    return tuple(
        Card(
            column,
            tuple(WoeRow(one, _woe(one.woe, most)) for one in column.bins),
            sum(one.rows for one in column.bins),
        )
        for column in chosen
    )


def _woe(woe: float | None, most: float) -> tuple[Rect, ...]:
    if woe is None:
        return ()
    width = 50 * abs(woe) / most
    if woe >= 0:
        return (Rect(50.0, 0.0, width, 10.0, "first"),)
    return (Rect(50.0 - width, 0.0, width, 10.0, "second"),)


def strength(iv: float | None) -> str:
    """What an information value means, in a word."""
    if iv is None:
        return "–"
    return next((said for below, said in STRENGTHS if iv < below), "very strong: look why")


def heat(value: float | None) -> str:
    """The style of a cell of a value within -1 and 1: p0 to p10, n0 to n10; none where unknown."""
    if value is None:
        return ""
    return f"{'n' if value < 0 else 'p'}{round(10 * min(1.0, abs(value)))}"


def short(value: float | None) -> str:
    """A value within -1 and 1 in as little room as possible: .42, −.07, 1."""
    if value is None:
        return ""
    text = f"{abs(value):.2f}"
    text = "1" if text == "1.00" else text[1:]
    return text if text == ".00" or value >= 0 else f"−{text}"


def pairs(facts: CorrelationFacts | None, whose: str, *, across: bool) -> tuple[Pair, ...]:
    """The pairs of columns that are most alike, or most opposed.

    Args:
        facts: correlations.
        whose: the party whose columns need no name beside them.
        across: those of two parties alone.
    """
    if facts is None or not facts.matrix:
        return ()
    names = [
        name if party == whose else f"{name} of {party}"
        for party, name in zip(facts.parties, facts.columns, strict=True)
    ]
    found = [
        Pair(names[j], names[i], value)
        for i, row in enumerate(facts.matrix)
        for j, value in enumerate(row[:i])
        if value is not None and not (across and facts.parties[i] == facts.parties[j])
    ]
    return tuple(sorted(found, key=lambda pair: -abs(pair.value))[:MOST_PAIRS])


def running(shares: Sequence[float]) -> tuple[float, ...]:
    """Sums up to each."""
    total, out = 0.0, []
    for share in shares:
        total += share
        out.append(total)
    return tuple(out)
