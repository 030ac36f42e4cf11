r"""Scorecards: points per bin from WOE and the coefficients of a logistic regression on it.

With the model's log odds of label 1 (the bad outcome) b0 + sum of b_j WOE_j, and WOE as in `woe`::

    factor = pdo / ln 2       offset = base_points - factor ln(base_odds)
    points of bin k of column j = -factor b_j WOE_jk
    base = offset - factor b0              score = base + sum of points

so that `base_odds` good to one bad are `base_points`, and `pdo` more points double the odds
(Siddiqi, Credit Risk Scorecards, 2006, ch. 6; there the base is shared out among the columns).

The card is split like the model: each party has the points of its own columns, the label party
besides has the base. To score rows, a feature party sends the label party its sum of points per
row and, where asked, the columns that cost the row the most (`scoring`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from isthmus.errors import DataError, JobError
from isthmus.stats import storing
from isthmus.stats.binning import ColumnBins
from isthmus.stats.columns import Floats, Table, frame, read
from isthmus.stats.storing import STRICT
from isthmus.stats.woe_fit import WoeFit

Longs = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What points mean; the same at all parties."""

    base_points: float = 600.0
    base_odds: float = 50.0
    """Good to one bad at `base_points`."""
    pdo: float = 20.0
    """Points that double the odds of good."""
    whole: bool = True
    """Whether the points of each bin, and the base, are rounded to whole numbers."""

    def __post_init__(self) -> None:
        """Raises JobError where a setting is impossible."""
        numbers = (self.base_points, self.base_odds, self.pdo)
        if not all(map(math.isfinite, numbers)) or self.base_odds <= 0 or self.pdo <= 0:
            raise JobError("a scorecard's base_odds and pdo must be above 0")

    @property
    def factor(self) -> float:
        """Points for each unit of log odds."""
        return self.pdo / math.log(2)

    def points(self, log_odds: npt.ArrayLike) -> Floats:
        """Points lost by log odds of bad; rounded where `whole`."""
        found = -self.factor * np.asarray(log_odds, np.float64)
        return np.rint(found) if self.whole else found

    def base(self, intercept: float) -> float:
        """The points of a row whose WOE are all 0."""
        offset = self.base_points - self.factor * math.log(self.base_odds)
        found = offset - self.factor * intercept
        return float(np.rint(found)) if self.whole else found


@dataclass(frozen=True)
class CardColumn:
    """One column of a card, with the points of each of its bins."""

    bins: ColumnBins
    labels: tuple[str, ...]
    points: tuple[float, ...]
    __pydantic_config__ = STRICT

    @property
    def best(self) -> float:
        """The points that a row can have of this column, 0 for a value that has no bin."""
        return max(self.points)


@dataclass(frozen=True)
class Scorecard:
    """One party's part of a scorecard."""

    base: float | None
    """At the label party."""
    columns: tuple[CardColumn, ...]
    __pydantic_config__ = STRICT

    def points(self, table: Table) -> Floats:
        """The points of each own column, float64 `[rows, columns]`; 0 for a value without a bin.

        Raises:
            DataError: a column is missing, or is of another kind.
        """
        given = frame(table)
        out = np.zeros((given.height, len(self.columns)))
        for number, column in enumerate(self.columns):
            name = column.bins.column
            if name not in given.columns:
                raise DataError(f"the table has no column {name!r}, which the card has")
            codes = column.bins.codes(read(given[name]))
            # The last entry is the one that NO_BIN, -1, points to.
            out[:, number] = np.append(column.points, 0.0)[codes]
        return out

    def reasons(self, table: Table, most: int) -> tuple[Longs, Floats]:
        """The own columns that cost each row the most points against the column's best bin.

        Returns:
            Numbers of columns, int64 `[rows, most]`, -1 where no more column costs anything; and
            the points lost, float64 `[rows, most]`.
        """
        best = np.array([column.best for column in self.columns])
        return greatest(np.maximum(best - self.points(table), 0.0), most)

    def table(self) -> pl.DataFrame:
        """The card to print or export: column, bin, points."""
        rows = [
            (column.bins.column, label, points)
            for column in self.columns
            for label, points in zip(column.labels, column.points, strict=True)
        ]
        kinds = {"column": pl.String, "bin": pl.String, "points": pl.Float64}
        return pl.DataFrame(rows, schema=kinds, orient="row")

    def to_json(self) -> str:
        """For a file of this party alone: it has edges and categories."""
        return json.dumps(asdict(self), allow_nan=False)

    @staticmethod
    def from_json(text: str | bytes) -> Scorecard:
        """What `to_json` wrote.

        Raises:
            DataError: it is something else.
        """
        return storing.parsed(Scorecard, text, "scorecard", _sound)

    def save(self, path: str | Path) -> None:
        """Write the own part to a file. Raises StorageError."""
        storing.save(path, self.to_json())

    @staticmethod
    def load(path: str | Path) -> Scorecard:
        """What `save` wrote.

        Raises:
            StorageError: the file cannot be read, or is something else.
        """
        return storing.load(path, Scorecard.from_json)


def scorecard(
    fit: WoeFit, coefficients: Mapping[str, float], *, scale: Scale, intercept: float | None = None
) -> Scorecard:
    """One party's part of the card.

    Args:
        fit: of this party, with the WOE of the columns that the model has.
        coefficients: of the own columns' WOE, for the log odds of label 1.
        scale: the same at all parties.
        intercept: at the label party.

    Raises:
        JobError: a coefficient's column was not binned here, or its WOE is not known.
    """
    own = {column.column: column for column in fit.own()}
    columns = []
    for name, coefficient in coefficients.items():
        if name not in own:
            raise JobError(
                f"no column {name!r} was binned at this party",
                mend=f"It has: {', '.join(own) or 'none'}.",
            )
        if own[name].woe is None:
            raise JobError(
                f"there is no WOE of the column {name!r} at this party",
                mend='The label party must agree to it: Disclosure(tell="woe").',
            )
        bins, woe = own[name].bins, own[name].woe
        assert bins is not None
        points = scale.points(coefficient * np.array(woe))
        # Adding 0 makes -0.0 a plain 0.
        columns.append(CardColumn(bins, bins.labels(), tuple((points + 0.0).tolist())))
    return Scorecard(None if intercept is None else scale.base(intercept), tuple(columns))


def _sound(card: Scorecard) -> bool:
    names = {column.bins.column for column in card.columns}
    return len(names) == len(card.columns) and all(
        column.bins.is_sound and column.bins.count == len(column.points) == len(column.labels)
        for column in card.columns
    )


def greatest(lost: Floats, most: int) -> tuple[Longs, Floats]:
    """Numbers (-1 for none) and sizes of the greatest entries of each row, `[rows, most]`."""
    rows, columns = lost.shape
    filled = np.zeros((rows, max(columns, most)))
    filled[:, :columns] = lost
    order = np.argsort(-filled, axis=1, kind="stable")[:, :most]
    size = np.take_along_axis(filled, order, axis=1)
    return np.where(size > 0, order, -1), size
