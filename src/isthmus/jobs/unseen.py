"""How the rows of a prediction job differ from those of the training: for their owner alone.

File in the folder of the step `encode`: `unseen.json`, of this party alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import TypeAdapter

from isthmus.data import Features
from isthmus.data.fields import MISSING, UNKNOWN
from isthmus.files import write_json
from isthmus.jobs import tabular
from isthmus.jobs.artefacts import PartyFolder, StepFolder
from isthmus.jobs.context import Context
from isthmus.jobs.methods.columns import Design, LevelsColumn
from isthmus.stats import WoeFit, drift
from isthmus.stats.columns import read

UNSEEN = "unseen.json"
SHIFTED = 0.25
"""PSI above which its owner is warned of a column, with `CHANCE / rows` for what few rows do by
chance: ten bins have a PSI of some 9 / rows where nothing has shifted.
"""
CHANCE = 18.0
Bools = NDArray[np.bool_]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Unseen:
    """What of one column the training had not, in the rows that are predicted."""

    column: str
    rows: int
    """Predicted rows that this party has."""
    unknown: int = 0
    """Values that no training sample had."""
    unknown_as: str = ""
    """What the model takes them for."""
    gaps: int = 0
    """Missing values, where no training sample lacked one."""
    gaps_as: str = ""
    """What the model takes them for."""
    beyond: int = 0
    """Numbers below the least or above the greatest one of the training samples."""
    psi: float | None = None
    """Population stability index from the training samples to these; None where a network has the
    column.
    """

    def warnings(self) -> Iterator[str]:
        """For the owner's eyes; numbers beyond are for the report alone."""
        rows = f"{self.rows:,}"
        if self.psi is not None and self.psi > SHIFTED + CHANCE / max(self.rows, 1):
            yield f"{self.column!r} has shifted since the training: its PSI is {self.psi:.2f}"
        if self.unknown:
            yield (
                f"{self.unknown:,} of {rows} values of {self.column!r} were not seen in training: "
                f"they count as {self.unknown_as}"
            )
        if self.gaps:
            yield (
                f"{self.column!r} is missing in {self.gaps:,} of {rows} rows, and was in no row in "
                f"training: they count as {self.gaps_as}"
            )


def keep_unseen(context: Context, found: Sequence[Unseen]) -> None:
    """Leave what was found in the folder of `encode`, and warn this party of columns that have
    shifted and of values that the training had not. Raises StorageError.
    """
    write_json(context.step("encode").file(UNSEEN), [asdict(one) for one in found])
    for text in warnings_of(found):
        context.log.warning("encode.unseen", said=text)
        context.session.progress.say(f"warning: {text}")


def load_unseen(folder: StepFolder) -> tuple[Unseen, ...]:
    """What `keep_unseen` left; nothing where it left nothing. Raises StorageError."""
    if not folder.file(UNSEEN).exists():
        return ()
    return TypeAdapter(tuple[Unseen, ...]).validate_python(folder.read_json(UNSEEN))


def warnings_of(found: Sequence[Unseen]) -> list[str]:
    """A sentence for each column and kind of value."""
    return [text for one in found for text in one.warnings()]


def unseen_in_table(context: Context, train: Rows, here: Bools) -> list[Unseen]:
    """Of a model over columns of numbers and categories.

    Args:
        context: of this party, in a job that applies a model; `tabular.write` has been called.
        train: positions of the earlier job's training samples.
        here: bool [samples], whether this party has a row for the sample.

    Raises:
        StorageError: a file of the earlier job cannot be read.
    """
    before, now = tabular.load_from(_trained(context)), tabular.load(context)
    if not now.width:
        return []
    before, now = before[train], now.filter(pl.Series(here))
    takes, used = _takes(context), _used(context, now)
    found = [_of_column(before[name], now[name], takes) for name in used]
    if not now.height or not used:
        return found
    both = pl.concat([before.select(used), now.select(used)])
    moved = {one.column: one.psi for one in drift(both, np.arange(before.height, both.height))}
    return [replace(one, psi=moved[one.column]) for one in found]


def unseen_in_features(before: Features, train: Rows, now: Features, here: Bools) -> list[Unseen]:
    """Of a network, whose encoder knows values by number.

    Args:
        before: the earlier job's features.
        train: its training samples.
        now: those that are predicted.
        here: bool [samples], whether this party has a row for the sample.
    """
    rows = np.flatnonzero(here) if now.rows is None else now.rows[here]
    learnt = np.unique(train if before.rows is None else before.rows[train])
    found = []
    for field in now.layout.fields:
        codes = now.index[:, field.columns] - np.int32(field.first_row)
        known = before.index[:, field.columns] - np.int32(field.first_row)
        unknown, gaps = 0, 0
        if field.kind == "numeric":
            # A number has codes of its own: 0 where it is there.
            missing = 1
        else:
            missing = MISSING
            unknown = int((codes == UNKNOWN).any(axis=1)[rows].sum())
        if not (known[:, 0] == missing)[learnt].any():
            gaps = int((codes[:, 0] == missing)[rows].sum())
        if unknown or gaps:
            found.append(
                Unseen(
                    field.name, len(rows), unknown, "an unknown value", gaps, "a value never learnt"
                )
            )
    return found


@dataclass(frozen=True)
class _Takes:
    """What the model takes a column's values for."""

    bins: WoeFit | None
    """Where it learns from the WOE of bins."""
    design: Design | None
    """Of a linear model."""
    points: bool
    """Whether bins have points."""

    def as_what(self, name: str, values: pl.Series) -> str:
        """`values` of the column `name`, which are all of one kind and not empty."""
        if self.bins is not None:
            bins = next(one.bins for one in self.bins.own() if one.column == name)
            assert bins is not None
            if (bins.codes(read(values)) < 0).any():
                return "0 points" if self.points else "WOE 0"
            return "the bin of rare values"
        if self.design is not None:
            column = next(one for one in self.design.columns if one.name == name)
            other = isinstance(column, LevelsColumn) and column.other
            return "the rare levels" if other else "the most frequent level"
        gaps = values.null_count() == len(values)
        return "the bin with the most training rows" if gaps else "the rare categories"


def _trained(context: Context) -> PartyFolder:
    return PartyFolder(context.trained("encode").path.parent)


def _takes(context: Context) -> _Takes:
    spec = context.spec
    bins, design = None, None
    if spec.bin is not None and spec.bin.transform:
        bins = WoeFit.load(context.trained("bin").file(tabular.BINS))
    elif spec.learns == "linear":
        design = Design.load(context.trained("train").file("columns.json"))
    return _Takes(bins, design, spec.scorecard is not None)


def _used(context: Context, table: pl.DataFrame) -> list[str]:
    """The columns that the model has."""
    if context.spec.bin is None:
        return table.columns
    found = WoeFit.load(context.trained("bin").file(tabular.BINS))
    return [column.column for column in found.own() if column.keep]


def _of_column(before: pl.Series, now: pl.Series, takes: _Takes) -> Unseen:
    name, rows = now.name, len(now)
    unknown, beyond = now.clear(), 0
    if now.dtype == pl.String:
        strange = now.is_not_null() & ~now.is_in(before.unique().drop_nulls().implode())
        unknown = now.filter(strange)
    elif before.count():
        beyond = int(((now < before.min()) | (now > before.max())).sum())
    gaps = now.filter(now.is_null()) if not before.null_count() else now.clear()
    return Unseen(
        name,
        rows,
        unknown=len(unknown),
        unknown_as=takes.as_what(name, unknown) if len(unknown) else "",
        gaps=len(gaps),
        gaps_as=takes.as_what(name, gaps) if len(gaps) else "",
        beyond=beyond,
    )
