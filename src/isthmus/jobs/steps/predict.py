"""Step `predict`: the label party's predictions as a table.

Files at the label party: `predictions.parquet` with the key columns, `probability`, `label` and
`split` (train, valid or test).
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isthmus.data import Split
from isthmus.data.tables import write_table
from isthmus.jobs.context import Context
from isthmus.jobs.steps import align, encode
from isthmus.jobs.steps.evaluate import federation_scores
from isthmus.jobs.tables import read_columns

PREDICTIONS = "predictions.parquet"


def run(context: Context) -> None:
    """Predict with the partners. Raises LinkError, StorageError."""
    rows = align.load_rows(context)
    split = encode.split_of(context, len(rows))
    everything = context.spec.predict.rows == "all"
    samples = np.arange(len(rows), dtype=np.int64) if everything else split.test
    scores = federation_scores(context, samples)
    if scores is None:
        return
    key = context.spec.key_of(context.me)
    keys = read_columns(context.job, context.me, key, text=key)
    labels = encode.load_labels(context.step("encode").path)
    table = keys[rows[samples]].with_columns(
        pl.Series("probability", scores),
        pl.Series("label", labels[samples].astype(np.int8)),
        pl.Series("split", _part_names(split, len(rows))[samples]),
    )
    write_table(table, context.step("predict").file(PREDICTIONS))
    context.log.info("predicted", samples=len(samples))


def _part_names(split: Split, samples: int) -> NDArray[np.str_]:
    names = np.full(samples, "train")
    names[split.valid] = "valid"
    names[split.test] = "test"
    return names
