"""A party's aligned columns as numbers and categories, for what is no network.

File in the folder of the step `encode`: `table.parquet`, a row for each sample in the agreed order;
numeric columns as Float64, categories as String, missing values as null; cleaned as the job says
(`isthmus.jobs.cleaning`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isthmus.data import FeatureSpec
from isthmus.data.columns import as_numbers, as_text, check_numbers, column_of
from isthmus.data.tables import write_table
from isthmus.errors import DataError, JobError, StorageError
from isthmus.files import write_json
from isthmus.jobs.applied import COLUMNS, columns_json, features_in, trained_features
from isthmus.jobs.artefacts import PartyFolder
from isthmus.jobs.cleaning import CLEANING, check_cleaning, cleaned, kept, names_dropped
from isthmus.jobs.context import Context
from isthmus.jobs.job import Job
from isthmus.jobs.tables import features_of, read_columns
from isthmus.stats import Cleaning, WoeFit

TABLE = "table.parquet"
KINDS = ("numeric", "categorical")
"""The kinds of features that a table has."""
BINS = "bins.json"
"""In the folder of the step `bin`: this party's bins, and what it knows of them."""

Rows = NDArray[np.int64]


def columns_of(job: Job, party: str) -> dict[str, FeatureSpec]:
    """The party's features that are numbers or categories.

    Raises:
        JobError: there is another kind, and the job has no network that could use it.
    """
    return _checked(job, party, features_of(job, party))


def write(context: Context, rows: Rows, train: Rows | None = None) -> None:
    """Leave the aligned columns of this party in the folder of `encode`.

    Args:
        context: of this party.
        rows: the row of each sample, -1 where this party has none.
        train: positions of the training samples; None where an earlier job's model is applied.

    Raises:
        JobError, SchemaError, DataError, StorageError: they cannot be read, used or written.
    """
    job, me, folder = context.job, context.me, context.step("encode")
    columns = columns_of(job, me) if train is not None else _as_trained(context)
    check_cleaning(job, me, columns)
    table = _read(job, me, columns)
    if table.width:
        known = None if train is None else np.unique(rows[train][rows[train] >= 0])
        table = cleaned(context, table, _at(table, rows), known)
    write_table(table, folder.file(TABLE))
    if context.spec.learns != "network":
        write_json(folder.file(COLUMNS), columns_json(columns))


def read(job: Job, party: str, names: Collection[str] | None = None) -> pl.DataFrame:
    """All rows of the party's columns as they are, no rows where it has none. Raises as `write`.

    Args:
        job: the job.
        party: whose.
        names: of those to read; None for all.
    """
    columns = columns_of(job, party)
    wanted = columns if names is None else {name: columns[name] for name in names}
    return _read(job, party, wanted)


def rows_kept(job: Job, party: str) -> Rows | None:
    """The rows that come to the alignment, int64 [kept]; None where no rule leaves any out.

    Raises:
        JobError, SchemaError, DataError: as `write`, or no row is left.
    """
    if not (names := names_dropped(job, party)):
        return None
    check_cleaning(job, party, columns_of(job, party))
    return kept(job, party, read(job, party, names))


def load(context: Context) -> pl.DataFrame:
    """What `write` left: a row for each sample. Raises StorageError."""
    return load_from(context.folder)


def load_from(folder: PartyFolder) -> pl.DataFrame:
    """The same of a party's folder. Raises StorageError."""
    path = folder.step("encode").file(TABLE)
    try:
        return pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise StorageError(
            f"{path} cannot be read", mend="Run the job again without --resume."
        ) from error


def columns_used(folder: PartyFolder) -> dict[str, FeatureSpec]:
    """The columns that `write` took, whatever their table has now. Raises StorageError."""
    return features_in(folder.step("encode").file(COLUMNS))


def read_cleaned(context: Context) -> pl.DataFrame:
    """All rows of this party's columns, cleaned as the samples were. Raises as `write`."""
    table = read(context.job, context.me)
    path = context.step("encode").file(CLEANING)
    return Cleaning.load(path).apply(table) if path.exists() else table


def model_table(context: Context) -> pl.DataFrame:
    """The columns that a model learns from: a row for each sample.

    Where columns were binned, those that `bin.least_iv` leaves out are not among them, and with
    `bin.transform` each value is the WOE of its bin.

    Raises:
        StorageError: a file of an earlier step cannot be read.
    """
    table, wanted = load(context), context.spec.bin
    if wanted is None:
        return table
    found = WoeFit.load(context.trained("bin").file(BINS))
    if wanted.transform:
        return found.transform(table)
    return table.select([column.column for column in found.own() if column.keep])


def numbers_of(context: Context) -> tuple[pl.DataFrame, dict[str, str]]:
    """The columns of `model_table` that are numbers, and why others are left out, by column.

    Raises:
        DataError: a column has gaps, or none is left.
        StorageError: a file of an earlier step cannot be read.
    """
    all_columns, table = load(context).columns, model_table(context)
    left_out = {name: "its IV is too small" for name in all_columns if name not in table.columns}
    for column in table:
        if column.dtype == pl.String:
            left_out[column.name] = "it has categories"
        elif gaps := column.null_count():
            raise DataError(
                f"{column.name!r} is missing in {gaps} of {len(column)} aligned rows of "
                f"{context.me}",
                mend=f"Say in parties.{context.me}.clean.{column.name}.missing what stands for "
                "it, or bin the columns with `bin.transform`.",
            )
        elif not _varies(column):
            left_out[column.name] = "it does not vary"
    numbers = table.select([name for name in table.columns if name not in left_out])
    if not numbers.width:
        why = ", ".join(f"{name}: {said}" for name, said in left_out.items())
        raise DataError(
            f"{context.me} has no column of numbers" + (f" ({why})" if why else ""),
            mend="Lower bin.least_iv, bin the columns with `bin.transform`, or leave out "
            "correlation and pca.",
        )
    return numbers, left_out


def _checked(job: Job, party: str, features: Mapping[str, FeatureSpec]) -> dict[str, FeatureSpec]:
    for name, feature in features.items():
        if feature.kind not in KINDS and job.spec.learns != "network":
            raise JobError(
                f"{job.where('parties', party, 'features', name)}: a column of kind {feature.kind} "
                "is for networks alone",
                mend="Make it numeric or categorical, or ignore it.",
            )
    return {name: feature for name, feature in features.items() if feature.kind in KINDS}


def _as_trained(context: Context) -> dict[str, FeatureSpec]:
    """The columns as the earlier job had them, whatever one would guess from this table."""
    return _checked(context.job, context.me, trained_features(context))


def _read(job: Job, party: str, columns: Mapping[str, FeatureSpec]) -> pl.DataFrame:
    source = str(job.table_of(party))
    texts = [name for name, feature in columns.items() if feature.kind == "categorical"]
    if not columns:
        return pl.DataFrame()
    frame = read_columns(job, party, columns, text=texts)
    return pl.DataFrame(
        [_typed(column_of(frame, name, source), columns[name], source) for name in columns]
    )


def _at(table: pl.DataFrame, rows: Rows) -> pl.DataFrame:
    """A row for each sample, nothing but missing values where there is none."""
    if (rows >= 0).all():
        return table[rows]
    places = pl.Series(rows)
    places = pl.select(pl.when(places >= 0).then(places)).to_series()
    return table.select(pl.all().gather(places))


def _typed(column: pl.Series, feature: FeatureSpec, source: str) -> pl.Series:
    if feature.kind == "categorical":
        return as_text(column, source)
    check_numbers(column, source)
    return as_numbers(column)


def _varies(column: pl.Series) -> bool:
    values = column.to_numpy()
    # A constant such as 0.1 has a deviation of rounding.
    return bool(values.std() > 1e-12 * abs(values.mean()))
