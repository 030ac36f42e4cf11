"""The rules by which a party's columns are cleaned before anything looks at them.

File in the folder of the step `encode`: `cleaning.json`, the rules with their statistics, of this
party alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isthmus.data import FeatureSpec
from isthmus.errors import DataError, JobError
from isthmus.jobs.context import Context
from isthmus.jobs.job import Job
from isthmus.stats import CleanColumn, Cleaning, CleanRule, fit_cleaning, rows_to_drop

CLEANING = "cleaning.json"
Rows = NDArray[np.int64]


def rules_of(job: Job, party: str) -> dict[str, CleanRule]:
    """The party's rules by column. Raises JobError where one is impossible."""
    rules = {}
    for name, spec in job.spec.parties[party].clean.items():
        try:
            rules[name] = CleanRule(
                missing=spec.missing,
                clip=spec.clip,
                winsorise=spec.winsorise,
                standardise=spec.standardise,
            )
        except JobError as error:
            raise JobError(
                f"{_where(job, party, name)}: {error.message}", mend=error.mend
            ) from None
    return rules


def check_cleaning(job: Job, party: str, columns: Mapping[str, FeatureSpec]) -> None:
    """See that each rule is of a column of the party, and fits its kind.

    Args:
        job: the job.
        party: whose rules.
        columns: those of its columns that a table has.

    Raises:
        JobError: a rule is of another column, or says of categories what numbers alone can follow.
    """
    for name, rule in rules_of(job, party).items():
        where = _where(job, party, name)
        if name not in columns:
            known = ", ".join(columns) or "none"
            raise JobError(
                f"{where}: {party} has no numeric or categorical feature {name!r}",
                mend=f"It has: {known}.",
            )
        if columns[name].kind == "categorical" and rule.is_of_numbers:
            raise JobError(
                f"{where}: the rule is for numbers, and {name!r} is categorical",
                mend="Categories can be kept, dropped, or filled by `mode`.",
            )


def names_dropped(job: Job, party: str) -> list[str]:
    """The columns whose missing values leave their rows out."""
    rules = job.spec.parties[party].clean
    return [name for name, rule in rules.items() if rule.missing == "drop"]


def kept(job: Job, party: str, table: pl.DataFrame) -> Rows:
    """The rows that no rule leaves out for a missing value, int64 [kept].

    Args:
        job: the job.
        party: whose rules.
        table: all rows of the columns that such rules name.

    Raises:
        DataError: no row is left.
    """
    rules = {name: rule for name, rule in rules_of(job, party).items() if rule.missing == "drop"}
    found = np.flatnonzero(~rows_to_drop(table, rules)).astype(np.int64)
    if not found.size:
        raise DataError(
            f"{job.where('parties', party, 'clean')}: `missing: drop` leaves none of the "
            f"{table.height} rows",
            mend="Fill a column that is hardly ever there, or ignore it.",
        )
    return found


def cleaned(
    context: Context, table: pl.DataFrame, samples: pl.DataFrame, train: Rows | None
) -> pl.DataFrame:
    """The aligned columns, cleaned; the rules and their statistics stay in a file.

    Args:
        context: of this party.
        table: all rows of its columns.
        samples: a row for each sample.
        train: the rows of training samples, from which statistics come, each once; None where an
            earlier job's model is applied, whose statistics are taken.

    Raises:
        DataError: a rule has no statistic, since training rows have no value or do not vary.
        StorageError: the file cannot be written, or the earlier job's be read.
    """
    if not (rules := rules_of(context.job, context.me)):
        return samples
    if train is None:
        found = Cleaning.load(context.trained("encode").file(CLEANING))
    else:
        found = _fitted(context, table, rules, train)
    found.save(context.step("encode").file(CLEANING))
    return found.apply(samples)


def _fitted(
    context: Context, table: pl.DataFrame, rules: Mapping[str, CleanRule], train: Rows
) -> Cleaning:
    columns: list[CleanColumn] = []
    for name, rule in rules.items():
        try:
            columns += fit_cleaning(table.select(name), {name: rule}, train).columns
        except DataError as error:
            where = _where(context.job, context.me, name)
            raise DataError(f"{where}: {error.message}", mend=error.mend) from error
    return Cleaning(tuple(columns))


def _where(job: Job, party: str, name: str) -> str:
    return job.where("parties", party, "clean", name)
