"""What a partner is shown of a table's profile, and the exchange of it.

The owner's policy decides, and is applied before anything leaves. Without noise:

- a column's histogram has cells of at least `least` rows: smaller ones join their smaller
  neighbour, rare categories become "others", and too few missing or others are told as 0 and added
  to the largest cell (with noise: left out). A column with fewer rows than `least` is left out;
- edges are round numbers (1, 2 or 5 times a power of ten apart), and the outermost cells are open:
  no edge is anybody's value. Least and greatest are not told, quantiles are read off the histogram,
  and only those between its outer edges;
- mean and standard deviation are told to two digits of the standard deviation's size, unless all
  values are the same; how many different values there are, and outliers, are not told.

With `epsilon`, each cell of a column, missing among them, besides gets noise of the two-sided
geometric distribution with parameter exp(-epsilon) (the discrete Laplace mechanism: Ghosh,
Roughgarden and Sundararajan, STOC 2009), before small cells are joined; mean and deviation
are not told. One row is in one cell of each column, so that each column's counts are
epsilon-differentially private for adding or removing a row, and all columns together (columns x
epsilon). **What it does not cover**: the number of rows, names of categories, and where edges lie,
unless the policy gives `bounds` or `categories` for the column, which do not depend on the data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from isthmus.errors import BadMessage, DataError, JobError
from isthmus.link import Link
from isthmus.session import PATIENCE, Session
from isthmus.stats.columns import Column, Floats, Table, frame, read
from isthmus.stats.merging import enough
from isthmus.stats.profile import (
    Categories,
    ColumnProfile,
    Numbers,
    TableProfile,
    _counted,
    profile,
)

Longs = npt.NDArray[np.int64]
_MOST_TEXT = 1 << 26
"""Bytes of a partner's profile."""
_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, kw_only=True)
class ProfilePolicy:
    """What the owner of a table lets a partner see of its profile."""

    columns: Sequence[str] | None = None
    """None: all. No other column is named."""
    least: int = 20
    """Rows of a cell."""
    bins: int = 12
    """Cells of a histogram, about."""
    categories: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The categories of a column that may be named, in place of its 20 most frequent ones."""
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """The ends of a column's histogram, in place of its 1% and 99% quantiles."""
    epsilon: float | None = None
    """Noise on the counts of each column; None for none."""

    def __post_init__(self) -> None:
        """Raises JobError where a setting is impossible."""
        if self.least < 1 or not 2 <= self.bins <= 1000:
            raise JobError("a profile's least must be 1 or more, and bins from 2 to 1000")
        if self.epsilon is not None and not 1e-6 <= self.epsilon <= 100:
            raise JobError(f"a profile's epsilon is {self.epsilon}, not from 1e-6 to 100")
        for name, (low, high) in self.bounds.items():
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise JobError(f"the bounds of column {name!r} are {low} and {high}")


def shown_profile(
    table: Table, policy: ProfilePolicy, *, rng: np.random.Generator | None = None
) -> TableProfile:
    """What a partner may see; see the module.

    Args:
        table: the own one.
        policy: the owner's.
        rng: for the noise; by default NumPy's, seeded by the system's source of secrets. A partner
            that knows its seed can take the noise off again.

    Raises:
        DataError: a column cannot be read, or is not there.
    """
    given = frame(table)
    names = given.columns if policy.columns is None else list(policy.columns)
    for name in (*names, *policy.bounds, *policy.categories):
        if name not in given.columns:
            raise DataError(f"the policy names the column {name!r}, which the table does not have")
    if given.height < policy.least:
        return TableProfile(0, (), policy.epsilon, policy.least)
    draw = rng or np.random.default_rng()
    columns = tuple(_shown(read(given[name]), policy, draw) for name in names)
    return TableProfile(given.height, columns, policy.epsilon, policy.least)


def exchange_profiles(
    session: Session, table: Table, policy: ProfilePolicy | None = None
) -> dict[str, TableProfile]:
    """Show each linked partner what the policy allows, and see what theirs does.

    Every party calls it at the same time. Feature parties see the label party's and it sees all.
    All partners are shown the same, so that noise cannot be averaged out by comparing.

    Returns:
        The profile of each partner, and in full the own one under the own name.

    Raises:
        DataError: a column cannot be read.
        BadMessage: a partner sent something that is no profile.
    """
    shown = shown_profile(table, policy or ProfilePolicy()).to_json().encode()
    for link in session.links.values():
        link.send("profile.shown", {"json": np.frombuffer(shown, np.uint8)})
    out = {session.me: profile(table)}
    for partner, link in session.links.items():
        out[partner] = _received(link)
    return out


def _received(link: Link) -> TableProfile:
    data = link.recv("profile.shown", timeout=PATIENCE).tensors.get("json")
    if data is None or data.dtype != np.uint8 or data.ndim != 1 or data.size > _MOST_TEXT:
        raise BadMessage(f"{link.partner} sent profile.shown without a proper text")
    try:
        return TableProfile.from_json(data.tobytes())
    except DataError as error:
        raise BadMessage(f"{link.partner} sent profile.shown that is no profile") from error


def _shown(column: Column, policy: ProfilePolicy, rng: np.random.Generator) -> ColumnProfile:
    """One column: its cells, the last two being missing and, for categories, others."""
    if column.numbers is None:
        return _shown_categories(column, policy, rng)
    values = column.numbers[~column.missing]
    edges = _round_edges(values, policy, policy.bounds.get(column.name))
    place = np.searchsorted(edges, values, side="left")
    cells = np.append(np.bincount(place, minlength=edges.size + 1), column.missing.sum())
    noised = _noised(cells, policy, rng)
    counts, missing = noised[:-1], int(noised[-1])
    groups = enough(counts, policy.least)
    joined = np.bincount(groups, weights=counts).astype(np.int64)
    kept = edges[np.flatnonzero(np.diff(groups))]
    if joined.sum() < policy.least:
        # Too few values to say that there are any.
        joined, missing, kept = np.zeros(1, np.int64), missing + int(joined.sum()), np.empty(0)
    elif missing < policy.least:
        joined[joined.argmax()] += _kept(missing, policy)
        missing = 0
    levels, quantiles = _quantiles(kept, joined)
    exact = policy.epsilon is None and values.size >= policy.least
    mean, std = _rounded(values) if exact else (None, None)
    numbers = Numbers(
        mean, std, None, None, levels, quantiles,
        tuple(kept.tolist()), tuple(joined.tolist()), True, None,
    )  # fmt: skip
    rows = missing + int(joined.sum())
    return ColumnProfile(column.name, rows, missing, None, numbers, None)


def _shown_categories(
    column: Column, policy: ProfilePolicy, rng: np.random.Generator
) -> ColumnProfile:
    assert column.texts is not None
    counted = dict(_counted(column.texts))
    names = list(policy.categories.get(column.name, list(counted)[:20]))
    rest = sum(counted.values()) - sum(counted.get(name, 0) for name in names)
    cells = np.array([*(counted.get(name, 0) for name in names), rest, column.missing.sum()])
    noised = _noised(cells, policy, rng)
    counts, others, missing = noised[:-2], int(noised[-2]), int(noised[-1])
    small = counts < policy.least
    others += int(counts[small].sum())
    pairs = sorted(
        ((-int(count), name) for count, name in zip(counts, names, strict=True)), key=lambda p: p[0]
    )
    named = [(name, -count) for count, name in pairs if -count >= policy.least]
    if missing < policy.least:
        others, missing = others + _kept(missing, policy), 0
    if others < policy.least:
        if named:
            named[0] = (named[0][0], named[0][1] + _kept(others, policy))
        else:
            missing += others
        others = 0
    kinds = Categories(tuple(n for n, _ in named), tuple(c for _, c in named), others)
    rows = missing + others + sum(kinds.counts)
    return ColumnProfile(column.name, rows, missing, None, None, kinds)


def _kept(rows: int, policy: ProfilePolicy) -> int:
    """What of a cell that is too small joins another: nothing where it may be all noise."""
    return rows if policy.epsilon is None else 0


def _noised(cells: Longs, policy: ProfilePolicy, rng: np.random.Generator) -> Longs:
    """Cells with two-sided geometric noise, none below 0."""
    if policy.epsilon is None:
        return cells.astype(np.int64)
    p = -math.expm1(-policy.epsilon)
    noise = rng.geometric(p, cells.size) - rng.geometric(p, cells.size)
    return np.maximum(cells + noise, 0).astype(np.int64)


def _round_edges(
    values: Floats, policy: ProfilePolicy, bounds: tuple[float, float] | None
) -> Floats:
    """Multiples of 1, 2 or 5 times a power of ten, over the bounds or the middle 98%."""
    if bounds is None:
        if values.size < policy.least:
            return np.empty(0)
        low, high = np.quantile(values, (0.01, 0.99))
    else:
        low, high = bounds
    if not high > low:
        return np.empty(0)
    rough = (high - low) / policy.bins
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(size * power for size in (1, 2, 5, 10) if size * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step), math.floor(high / step)
    return np.unique(np.array([number * step for number in range(first, last + 1)]))


def _quantiles(edges: Floats, counts: Longs) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Levels and quantiles that lie between the outer edges, by linear interpolation."""
    if edges.size < 2 or not counts.sum():
        return (), ()
    share = np.cumsum(counts)[:-1] / counts.sum()
    levels = tuple(level for level in _LEVELS if share[0] <= level <= share[-1])
    return levels, tuple(np.interp(levels, share, edges).tolist())


def _rounded(values: Floats) -> tuple[float | None, float | None]:
    """Mean and standard deviation, to two digits of the deviation's size."""
    std = float(values.std())
    if not std > 0:
        # All values are one: that says it of everybody, so it is not told.
        return None, None
    unit = 10.0 ** (math.floor(math.log10(std)) - 1)
    return round(float(values.mean()) / unit) * unit, round(std / unit) * unit
