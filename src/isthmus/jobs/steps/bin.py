"""Step `bin`: bins of all columns, their weight of evidence (WOE) and information value (IV).

File: `bins.json` (`isthmus.stats.WoeFit`): the own columns' bins with what this party knows of
them, and at the label party the bins of all. All is of the training samples, which count by
`label.weight` where the job names one. `own.json`: what the job's file says of own columns' bins.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.data.label_columns import read_weights
from isthmus.files import write_json
from isthmus.jobs import tabular
from isthmus.jobs.context import Context
from isthmus.jobs.naming import Naming
from isthmus.jobs.steps import align, encode
from isthmus.jobs.tables import read_columns
from isthmus.jobs.tabular import BINS
from isthmus.jobs.targets import load_targets
from isthmus.stats import BinningOptions, Disclosure, fit_woe

OWN = "own.json"


def run(context: Context) -> None:
    """Bin with the partners. Raises DataError, JobError, LinkError, StorageError."""
    wanted = context.spec.bin
    assert wanted is not None
    naming, own = Naming.of(context), context.spec.parties[context.me].bins
    table = naming.shown(tabular.load(context))
    split = encode.split_of(context, len(align.load_rows(context)))
    found = fit_woe(
        context.session,
        table[split.train] if table.width else table,
        label=_labels(context)[split.train] if context.is_label_party else None,
        weights=_weights(context, split.train),
        weighted=context.spec.label.weight is not None,
        options=BinningOptions(
            method=wanted.method,
            bins=wanted.bins,
            least=wanted.least,
            edges={naming.seen(name): one.edges for name, one in own.items() if one.edges},
            special={naming.seen(name): one.special for name, one in own.items() if one.special},
        ),
        disclosure=Disclosure(tell=wanted.tell, least_iv=wanted.least_iv),
    )
    naming.own_bins(found).save(context.step("bin").file(BINS))
    write_json(context.step("bin").file(OWN), _own(context))
    kept = len(found.selected())
    context.log.info("binned", columns=len(found.columns), kept=kept)


def is_current(context: Context) -> bool:
    """Whether the own bins are those that the job's file, here, still asks for."""
    path = context.step("bin").file(OWN)
    return bool((context.step("bin").read_json(OWN) if path.exists() else {}) == _own(context))


def _own(context: Context) -> dict[str, Any]:
    bins = context.spec.parties[context.me].bins
    return {name: one.model_dump(mode="json") for name, one in bins.items()}


def _weights(context: Context, train: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """At the label party, where the job names some, float64 [training samples]."""
    name = context.spec.label.weight
    if name is None or not context.is_label_party:
        return None
    source = str(context.job.table_of(context.me))
    frame = read_columns(context.job, context.me, [name])
    return read_weights(frame, name, source=source)[align.load_rows(context)[train]]


def _labels(context: Context) -> NDArray[np.float32]:
    """At the label party, float32 [samples]: 1 where the label's expression holds."""
    folder = context.step("encode").path
    return load_targets(folder).column(encode.load_labels(folder), 0)
