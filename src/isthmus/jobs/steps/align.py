"""Step `align`: find the common rows and leave them in the agreed order.

Files: `rows.npy` (int64 [samples]: the local row of each sample), `alignment.json` (counts),
`dropped.json` (own rows that were left out before, since a value is missing) and `table.json` (size
and time of this party's table and of its tables of events, to notice on resuming that one has
changed).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isthmus.align import Alignment, align
from isthmus.files import write_json
from isthmus.jobs import tabular
from isthmus.jobs.context import Context
from isthmus.jobs.retrieval.catalogue import catalogue_path
from isthmus.jobs.tables import events_of, read_columns

TABLE = "table.json"
DROPPED = "dropped.json"


def run(context: Context) -> None:
    """Align with the partners. Raises AlignError, DataError, LinkError."""
    spec = context.spec.align
    ids, kept = _ids(context), tabular.rows_kept(context.job, context.me)
    alignment = align(
        context.session,
        ids if kept is None else ids[kept],
        protocol=spec.protocol,
        keys=spec.keys,
        rows=spec.rows,
        normalise=spec.rules,
        duplicates=spec.duplicates,
        nulls=spec.nulls,
        workers=context.workers,
    )
    if kept is not None:
        rows = alignment.rows
        alignment = replace(
            alignment,
            rows=np.where(rows < 0, rows, kept[rows]),
            summary=replace(alignment.summary, rows=len(ids)),
        )
    folder = context.step("align")
    alignment.save(folder.path)
    write_json(folder.file(DROPPED), {"rows": 0 if kept is None else len(ids) - len(kept)})
    write_json(folder.file(TABLE), _table_mark(context))
    unmatched = alignment.summary.unmatched
    context.log.info("aligned", samples=len(alignment), unmatched=unmatched)
    for text in alignment.warnings:
        context.log.warning("align.suspicion", said=text)
        context.session.progress.say(f"warning: {text}")


def is_current(context: Context) -> bool:
    """Whether this party's tables are still those of the alignment, by their sizes and times."""
    return bool(context.step("align").read_json(TABLE) == _table_mark(context))


def load(context: Context) -> Alignment:
    """What the step found. Raises StorageError."""
    return Alignment.load(context.step("align").path)


def load_rows(context: Context) -> NDArray[np.int64]:
    """The local row of each sample, int64 [samples]. Raises StorageError."""
    return load(context).rows


def _table_mark(context: Context) -> dict[str, list[int]]:
    features = context.spec.parties[context.me].features or {}
    tables = {"": context.job.table_of(context.me)}
    for name, feature in features.items():
        if feature.events is not None:
            tables[f"{name}: "] = events_of(context.job, context.me, name)
    if context.is_label_party and (path := catalogue_path(context.job)) is not None:
        tables["catalogue: "] = path
    marks = {}
    for what, path in tables.items():
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            about = file.stat()
            marks[f"{what}{file.name}"] = [about.st_size, about.st_mtime_ns]
    return marks


def _ids(context: Context) -> pl.DataFrame:
    columns = context.spec.key_of(context.me)
    # As text, so that the zero of an id like 007 is not lost in one party's CSV.
    return read_columns(context.job, context.me, columns, text=columns)
