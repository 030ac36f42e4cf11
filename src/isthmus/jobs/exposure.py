"""What is added to the linear predictor of each row, or multiplies its expected label."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from isthmus.data.columns import as_numbers, check_numbers, column_of
from isthmus.errors import DataError
from isthmus.jobs.job import Job
from isthmus.jobs.tables import read_columns

Floats = NDArray[np.float64]


def read_offset(job: Job) -> Floats | None:
    """The column `linear.offset`, or the logarithm of `linear.exposure`, float64 [rows of the
    label party's table]; None where the job has neither.

    Raises:
        DataError: a value is missing or infinite, or an exposure is not above 0.
    """
    exposure = read_exposure(job)
    if exposure is not None:
        return np.log(exposure)
    name = None if job.spec.linear is None else job.spec.linear.offset
    if name is None:
        return None
    values = _values(job, name)
    _check(job, "offset", name, np.isfinite(values), "missing or infinite")
    return values


def read_exposure(job: Job) -> Floats | None:
    """The column `linear.exposure`, float64 [rows of the label party's table].

    Raises:
        DataError: a value is missing, infinite or not above 0.
    """
    name = None if job.spec.linear is None else job.spec.linear.exposure
    if name is None:
        return None
    values = _values(job, name)
    fine = np.isfinite(values) & (values > 0)
    _check(job, "exposure", name, fine, "missing, infinite or not above 0")
    return values


def _values(job: Job, name: str) -> Floats:
    party = job.spec.label.party
    source = str(job.table_of(party))
    column = column_of(read_columns(job, party, [name]), name, source)
    check_numbers(column, source)
    return np.asarray(as_numbers(column).fill_null(np.nan).to_numpy(), np.float64)


def _check(job: Job, place: str, name: str, fine: NDArray[np.bool_], said: str) -> None:
    if not fine.all():
        source = job.table_of(job.spec.label.party)
        raise DataError(
            f"{job.where('linear', place)}: {name!r} is {said} in {int((~fine).sum())} rows of "
            f"{source}",
            mend="Mend these rows, or drop them before the job.",
        )
