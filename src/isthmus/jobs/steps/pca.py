"""Step `pca`: principal components of all parties' columns of numbers; the scores stay split.

Files: `pca.json` (`isthmus.stats.SplitPca`, the own part of the axes), `scores.npy` (float32
[samples, components], the own part of the scores, of which the sum over the parties is the score)
and `columns.json` (the own columns that are in it, and why others are not).
"""

from __future__ import annotations

import numpy as np

from isthmus.data.arrays import writing_array
from isthmus.errors import DataError
from isthmus.files import write_json
from isthmus.jobs import tabular
from isthmus.jobs.context import Context
from isthmus.jobs.naming import Naming
from isthmus.jobs.steps import correlate
from isthmus.stats import fit_pca

PCA = "pca.json"
SCORES = "scores.npy"
COLUMNS = "columns.json"


def run(context: Context) -> None:
    """Find the axes with the partners. Raises DataError, JobError, LinkError, StorageError."""
    spec, wanted = context.spec, context.spec.pca
    assert wanted is not None
    reuse = spec.correlation is not None
    share = spec.correlation is not None and spec.correlation.share
    folder = context.step("pca")
    numbers, left_out = tabular.numbers_of(context)
    lone = context.is_label_party and numbers.width < 2
    if lone and len(spec.parties) == 2 and not share:
        raise DataError(
            f"{context.me} has one column of numbers, whose correlations the axes would tell",
            mend="Agree on `correlation` with `share: true`, or bring another column.",
        )
    write_json(folder.file(COLUMNS), {"columns": numbers.columns, "left_out": left_out})
    # With correlations at hand no names cross.
    naming = Naming(context.me, {}) if reuse else Naming.of(context)
    found = fit_pca(
        context.session,
        naming.shown(numbers),
        components=wanted.components,
        covariance=wanted.covariance,
        share=share,
        reuse=reuse,
        joint=correlate.load(context) if reuse else None,
    )
    found = naming.own_axes(found)
    found.save(folder.file(PCA))
    scores = found.scores(numbers).astype(np.float32)
    with writing_array(folder.file(SCORES), len(scores), scores.shape[1], np.float32) as add:
        add(scores)
    context.log.info("components", columns=numbers.width, components=len(found.variance))
