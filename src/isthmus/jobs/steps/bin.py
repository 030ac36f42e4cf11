"""Step `bin`: bins of all columns, their weight of evidence (WOE) and information value (IV).

File: `bins.json` (`isthmus.stats.WoeFit`): the own columns' bins with what this party knows of
them, and at the label party the bins of all. All is of the training samples.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from isthmus.jobs import tabular
from isthmus.jobs.context import Context
from isthmus.jobs.naming import Naming
from isthmus.jobs.steps import align, encode
from isthmus.jobs.tabular import BINS
from isthmus.jobs.targets import load_targets
from isthmus.stats import BinningOptions, Disclosure, fit_woe


def run(context: Context) -> None:
    """Bin with the partners. Raises DataError, JobError, LinkError, StorageError."""
    wanted = context.spec.bin
    assert wanted is not None
    naming = Naming.of(context)
    table = naming.shown(tabular.load(context))
    split = encode.split_of(context, len(align.load_rows(context)))
    found = fit_woe(
        context.session,
        table[split.train] if table.width else table,
        label=_labels(context)[split.train] if context.is_label_party else None,
        options=BinningOptions(method=wanted.method, bins=wanted.bins, least=wanted.least),
        disclosure=Disclosure(tell=wanted.tell, least_iv=wanted.least_iv),
    )
    naming.own_bins(found).save(context.step("bin").file(BINS))
    kept = len(found.selected())
    context.log.info("binned", columns=len(found.columns), kept=kept)


def _labels(context: Context) -> NDArray[np.float32]:
    """At the label party, float32 [samples]: 1 where the label's expression holds."""
    folder = context.step("encode").path
    return load_targets(folder).column(encode.load_labels(folder), 0)
