"""A party's aligned columns as numbers and categories, for what is no network.

File in the folder of the step `encode`: `table.parquet`, a row for each sample in the agreed order;
numeric columns as Float64, categories as String, missing values as null.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isthmus.data import FeatureSpec
from isthmus.data.columns import as_numbers, as_text, check_numbers, column_of
from isthmus.data.tables import write_table
from isthmus.errors import JobError, StorageError
from isthmus.jobs.context import Context
from isthmus.jobs.job import Job
from isthmus.jobs.tables import features_of, read_columns

TABLE = "table.parquet"
KINDS = ("numeric", "categorical")
"""The kinds of features that a table has."""


def columns_of(job: Job, party: str) -> dict[str, FeatureSpec]:
    """The party's features that are numbers or categories.

    Raises:
        JobError: there is another kind, and the job has no network that could use it.
    """
    features = features_of(job, party)
    for name, feature in features.items():
        if feature.kind not in KINDS and job.spec.learns != "network":
            raise JobError(
                f"{job.where('parties', party, 'features', name)}: a column of kind {feature.kind} "
                "is for networks alone",
                mend="Make it numeric or categorical, or ignore it.",
            )
    return {name: feature for name, feature in features.items() if feature.kind in KINDS}


def write(context: Context, rows: NDArray[np.int64]) -> None:
    """Leave the aligned columns of this party in the folder of `encode`.

    Raises:
        JobError, SchemaError, DataError, StorageError: they cannot be read, used or written.
    """
    table = read(context.job, context.me)
    write_table(table[rows] if table.width else table, context.step("encode").file(TABLE))


def read(job: Job, party: str) -> pl.DataFrame:
    """All rows of the party's columns, no rows where it has none. Raises as `write`."""
    columns = columns_of(job, party)
    source = str(job.table_of(party))
    texts = [name for name, feature in columns.items() if feature.kind == "categorical"]
    if not columns:
        return pl.DataFrame()
    frame = read_columns(job, party, columns, text=texts)
    return pl.DataFrame(
        [_typed(column_of(frame, name, source), columns[name], source) for name in columns]
    )


def load(context: Context) -> pl.DataFrame:
    """What `write` left: a row for each sample. Raises StorageError."""
    path = context.step("encode").file(TABLE)
    try:
        return pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise StorageError(
            f"{path} cannot be read", mend="Run the job again without --resume."
        ) from error


def model_table(context: Context) -> pl.DataFrame:
    """The columns that a model learns from: a row for each sample. Raises StorageError."""
    return load(context)


def _typed(column: pl.Series, feature: FeatureSpec, source: str) -> pl.Series:
    if feature.kind == "categorical":
        return as_text(column, source)
    check_numbers(column, source)
    return as_numbers(column)
