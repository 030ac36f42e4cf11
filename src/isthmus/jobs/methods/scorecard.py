"""A scorecard of a logistic regression on WOE: points at each owner, scores at the label party.

Files in the folder of `train`: `scorecard.json` (this party's points, with the bins), and the same
for reading as `scorecard.csv` and `scorecard.parquet`.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isthmus.data.tables import write_table
from isthmus.files import write_text
from isthmus.jobs import tabular
from isthmus.jobs.context import Context
from isthmus.jobs.methods.columns import Design
from isthmus.jobs.spec import JobSpec
from isthmus.jobs.tabular import BINS
from isthmus.linear import LinearResult
from isthmus.stats import Scale, Scorecard, WoeFit, score_rows, scorecard

CARD = "scorecard.json"
CHUNK = 1 << 17
"""Samples that are scored at a time, at every party alike."""


def make_card(context: Context, design: Design, result: LinearResult) -> None:
    """Leave the points of this party's columns in the folder of `train`, if the job asks for them.

    Raises:
        StorageError: a file cannot be read or written.
    """
    if context.spec.scorecard is None:
        return
    terms = [term.column for term in design.terms]
    card = scorecard(
        WoeFit.load(context.step("bin").file(BINS)),
        dict(zip(terms, result.coefficients.tolist(), strict=True)),
        scale=scale_of(context.spec),
        intercept=result.intercept,
    )
    folder = context.step("train")
    card.save(folder.file(CARD))
    write_text(folder.file("scorecard.csv"), card.table().write_csv())
    write_table(card.table(), folder.file("scorecard.parquet"))


def scale_of(spec: JobSpec) -> Scale:
    """What points mean."""
    wanted = spec.scorecard
    assert wanted is not None
    return Scale(base_points=wanted.points, base_odds=wanted.odds, pdo=wanted.double)


def card_columns(context: Context, samples: NDArray[np.int64]) -> list[pl.Series]:
    """Columns beside the probability: the score, and the columns that cost a row the most.

    Every party calls it. A reason is `party.column`, missing where nothing more costs points.

    Returns:
        At the label party `score` and `reason_1` onwards, each [samples]; at others, and of a job
        without a scorecard, none.

    Raises:
        DataError, LinkError, BadMessage, StorageError: see `score_rows`.
    """
    wanted = context.spec.scorecard
    if wanted is None:
        return []
    card = Scorecard.load(context.trained("train").file(CARD))
    table = tabular.load(context)
    scores, reasons = [], []
    for start in range(0, len(samples), CHUNK):
        some = samples[start : start + CHUNK]
        # A table without columns has no rows either.
        rows = table[some] if table.width else pl.DataFrame({"row": some})
        found = score_rows(context.session, card, rows, reasons=wanted.reasons)
        if found is not None:
            scores.append(found.scores)
            reasons.append(_reasons(found.reasons, len(some), wanted.reasons))
    if not context.is_label_party:
        return []
    named = [f"reason_{rank}" for rank in range(1, wanted.reasons + 1)]
    return [
        pl.Series("score", np.concatenate([np.empty(0), *scores])),
        *(
            pl.concat([pl.Series(name, [], dtype=pl.String), *(part[name] for part in reasons)])
            for name in named
        ),
    ]


def _reasons(found: pl.DataFrame, rows: int, most: int) -> dict[str, pl.Series]:
    """By name `reason_1` onwards, each [rows]."""
    texts = found.with_columns(reason=pl.col("party") + "." + pl.col("column"))
    out = {}
    for rank in range(1, most + 1):
        here = texts.filter(pl.col("rank") == rank)
        name = f"reason_{rank}"
        # Of rows without one, the place behind the last reason, which is missing.
        place = np.full(rows, here.height)
        place[here["row"].to_numpy()] = np.arange(here.height)
        or_none = pl.concat([here["reason"], pl.Series([None], dtype=pl.String)])
        out[name] = or_none.gather(place).rename(name)
    return out
