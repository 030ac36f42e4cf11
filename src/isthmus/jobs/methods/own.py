"""What a party brings to a model that is no network: columns, and at the label party the labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isthmus.data import Split
from isthmus.data.label_columns import read_labels, read_weights
from isthmus.errors import DataError
from isthmus.jobs import tabular
from isthmus.jobs.artefacts import PartyFolder
from isthmus.jobs.context import Context
from isthmus.jobs.exposure import read_offset
from isthmus.jobs.job import Job
from isthmus.jobs.steps import align, encode
from isthmus.jobs.tables import read_columns
from isthmus.session import Progress, Session

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Own:
    """One party's side of the data, all samples in the agreed order."""

    table: pl.DataFrame
    """Without columns, and rows, where the party has none."""
    rows: Rows
    """The row of each sample in the party's own table."""


def own_of(context: Context) -> Own:
    """What this party brings. Raises StorageError."""
    return Own(tabular.model_table(context), align.load_rows(context))


def split_of(context: Context, own: Own) -> Split:
    """Which samples are learnt from. Raises StorageError."""
    return encode.split_of(context, len(own.rows))


def labels_of(context: Context, own: Own, train: Rows) -> Floats:
    """At the label party: 0 and 1, the number of the class, or the value as it is in the table.

    Returns:
        float64 [samples]; NaN for a sample outside `train` that has none.

    Raises:
        DataError: a training sample has no label.
    """
    label = context.spec.label
    source = str(context.job.table_of(context.me))
    frame = read_columns(context.job, context.me, label.target_columns_of(context.me))
    values = read_labels(frame, label.expression, label.kind, may_miss=True, source=source).values
    found = values[own.rows]
    missing = int(np.isnan(found[train]).sum())
    if missing:
        raise DataError(
            f"{source}: the label {label.expression!r} is missing in {missing} of "
            f"{len(train)} training rows",
            mend="Fill its column or drop these rows before the job.",
        )
    return found


def weights_of(context: Context, own: Own) -> Floats | None:
    """At the label party: the weights of the samples, float64 [samples]; None without any."""
    name = context.spec.label.weight
    if name is None:
        return None
    source = str(context.job.table_of(context.me))
    return read_weights(read_columns(context.job, context.me, [name]), name, source=source)[
        own.rows
    ]


def offset_of(context: Context, own: Own) -> Floats | None:
    """At the label party: what is added to the linear predictor, float64 [samples]."""
    found = read_offset(context.job)
    return None if found is None else found[own.rows]


def finished(job: Job, folder: Path, party: str, progress: Progress) -> Context:
    """One party's view of a finished job, without partners.

    Args:
        job: the job.
        folder: the job's folder, with a folder a party.
        party: whose.
        progress: where work reports to.
    """
    session = Session(
        me=party,
        parties=job.spec.order,
        label_party=job.spec.label.party,
        seed=job.spec.seed,
        progress=progress,
    )
    return Context(job=job, session=session, folder=PartyFolder(folder / party))
