"""Step `align`: find the common rows and leave them in the agreed order.

Files: `rows.npy` (int64 [samples]: the local row of each sample) and `alignment.json` (counts).
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isthmus.align import Alignment, align
from isthmus.jobs.context import Context
from isthmus.jobs.tables import read_columns


def run(context: Context) -> None:
    """Align with the partners. Raises AlignError, DataError, LinkError."""
    spec = context.spec.align
    alignment = align(
        context.session,
        _ids(context),
        protocol=spec.protocol,
        keys=spec.keys,
        duplicates=spec.duplicates,
        nulls=spec.nulls,
        workers=context.workers,
    )
    alignment.save(context.step("align").path)
    context.log.info("aligned", samples=len(alignment))


def load(context: Context) -> Alignment:
    """What the step found. Raises StorageError."""
    return Alignment.load(context.step("align").path)


def load_rows(context: Context) -> NDArray[np.int64]:
    """The local row of each sample, int64 [samples]. Raises StorageError."""
    return load(context).rows


def _ids(context: Context) -> pl.DataFrame:
    columns = context.spec.key_of(context.me)
    # As text, so that the zero of an id like 007 is not lost in one party's CSV.
    return read_columns(context.job, context.me, columns, text=columns)
