"""Which neighbouring bins to make one: too small ones, alike ones, and the best monotone binning.

All functions take counts per bin and give a group per bin, int64 `[bins]`, from 0 without gaps and
never falling. They know no values, so that a label party can group bins of a partner's column.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from isthmus.stats.woe import evidence

Longs = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Trend = Literal["auto", "rising", "falling"]


def enough(sizes: npt.ArrayLike, least: int) -> Longs:
    """Bins of fewer than `least` rows joined, the smallest first, to their smaller neighbour."""
    size = np.asarray(sizes, np.int64)
    groups, held = np.arange(size.size), size.copy()
    while held.size > 1 and held.min() < least:
        at = int(held.argmin())
        left = held[at - 1] if at else held.max() + 1
        right = held[at + 1] if at + 1 < held.size else held.max() + 1
        first = at - 1 if left <= right else at
        held[first] += held[first + 1]
        held = np.delete(held, first + 1)
        groups[groups > first] -= 1
    return groups


def chi_merge(rows: npt.ArrayLike, positives: npt.ArrayLike, most: int, threshold: float) -> Longs:
    """ChiMerge (Kerber, AAAI 1992): the most alike neighbours are joined, again and again.

    Args:
        rows: per bin, at least one.
        positives: rows of label 1 among them.
        most: bins that may be left.
        threshold: goes on while a pair's chi-square is below, such as 3.841 for one degree of
            freedom at 5%; two bins are always left.
    """
    counts = np.stack([np.asarray(positives, np.float64), np.asarray(rows, np.float64)], axis=1)
    groups = np.arange(len(counts))
    while len(counts) > 2:
        chi = _chi_square(counts)
        first = int(chi.argmin())
        if len(counts) <= most and chi[first] >= threshold:
            break
        counts[first] += counts[first + 1]
        counts = np.delete(counts, first + 1, axis=0)
        groups[groups > first] -= 1
    return groups


def _chi_square(counts: Floats) -> Floats:
    """Of each pair of neighbours, from positives and rows `[bins, 2]`; float64 `[bins - 1]`."""
    both = counts[1:] + counts[:-1]
    rate = np.divide(both[:, 0], both[:, 1], out=np.zeros(len(both)), where=both[:, 1] > 0)
    found = np.zeros(len(both))
    for one in (counts[1:], counts[:-1]):
        expected = one[:, 1] * rate * (1 - rate)
        gap = (one[:, 0] - one[:, 1] * rate) ** 2
        # Where all rows of a pair are of one class, they are alike.
        found += np.divide(gap, expected, out=np.zeros(len(both)), where=expected > 0)
    return found


def monotone(
    rows: npt.ArrayLike,
    positives: npt.ArrayLike,
    most: int,
    *,
    trend: Trend = "auto",
    adjustment: float = 0.5,
    totals: tuple[float, float] | None = None,
) -> Longs:
    """The grouping of greatest information value whose share of positives never turns.

    Exact, by dynamic programming over the last group and the one before it.

    Args:
        rows: per bin.
        positives: rows of label 1 among them.
        most: groups at most.
        trend: of the share of positives from bin to bin; "auto" takes the better one.
        adjustment: for groups of one class, as in `woe`.
        totals: rows and positives of the whole column, where it has more bins than these.

    Rows and positives may be weighted.
    """
    row, positive = np.asarray(rows, np.float64), np.asarray(positives, np.float64)
    whole = totals or (float(row.sum()), float(positive.sum()))
    value, rate = _spans(row, positive, adjustment, whole)
    tried = {"rising": (1,), "falling": (-1,), "auto": (1, -1)}[trend]
    found = [_best(value, sign * rate, min(most, row.size)) for sign in tried]
    return max(found, key=lambda pair: pair[0])[1]


def _spans(
    rows: Floats, positives: Floats, adjustment: float, totals: tuple[float, float]
) -> tuple[Floats, Floats]:
    """Information value and share of positives of bins i to j - 1, `[bins + 1, bins + 1]`."""
    row, positive = (np.concatenate([[0.0], np.cumsum(x)]) for x in (rows, positives))
    n = row[None, :] - row[:, None]
    p = positive[None, :] - positive[:, None]
    real = n > 0
    value = np.full(n.shape, -np.inf)
    value[real] = evidence(n[real], p[real], adjustment=adjustment, totals=totals)[1]
    return value, np.divide(p, n, out=np.zeros(n.shape), where=real)


def _best(value: Floats, rate: Floats, most: int) -> tuple[float, Longs]:
    """The best total and its groups, with `rate` never falling from group to group."""
    bins = len(value) - 1
    best = np.full(value.shape, -np.inf)
    best[0] = value[0]
    befores: list[Longs] = []
    totals, ends = [float(best[0, bins])], [0]
    for _ in range(1, most):
        following = np.full(value.shape, -np.inf)
        before = np.zeros(value.shape, np.int64)
        for start in range(1, bins):
            # Groups [h, start) before groups [start, end): all h against all ends.
            allowed = rate[:start, start][:, None] <= rate[start][None, :]
            offered = np.where(allowed, best[:start, start][:, None], -np.inf)
            before[start] = offered.argmax(axis=0)
            following[start] = value[start] + offered.max(axis=0)
        befores.append(before)
        best = following
        totals.append(float(best[:, bins].max()))
        ends.append(int(best[:, bins].argmax()))
    number = int(np.argmax(totals))
    groups = np.zeros(bins, np.int64)
    start, end = ends[number], bins
    for group in range(number, -1, -1):
        groups[start:end] = group
        if group:
            start, end = int(befores[group - 1][start, end]), start
    return totals[number], groups
