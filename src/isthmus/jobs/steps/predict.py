"""Step `predict`: the label party's predictions as a table.

Files at the label party: `predictions.parquet` with `row` (its row in the party's table, from 1),
the key columns, `probability`, `label` and `split` (train, valid or test). A further target has
columns with its name behind: `probability_x` and `label_x`; a real one `value_x`; one of several
classes `class_x`, the most probable, and its `probability_x`. The first target is without a name:
`value`, `class`. A key column that is called like one of these stands as `key_label`.
Two towers give a `score`, the cosine of the user's and the item's vector. A scorecard adds to the
`probability` a `score`, and `reason_1`, `reason_2`: the columns that cost it the most points, as
`party.column`. Where an earlier job's model is applied there is no `label` and no `split`. A party
of `predict.to` has the same file with its own rows and keys, and the prediction of the first
target.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isthmus.data import Split
from isthmus.data.tables import write_table
from isthmus.errors import BadMessage
from isthmus.jobs.context import Context
from isthmus.jobs.steps import align, encode
from isthmus.jobs.steps.evaluate import federation_scores
from isthmus.jobs.tables import read_columns
from isthmus.jobs.targets import load_targets
from isthmus.session import PATIENCE
from isthmus.split import Target, Targets

PREDICTIONS = "predictions.parquet"
ROW = "row"
TOPIC = "predict.scores"
CHUNK = 1 << 18
"""Predictions in a message, at most."""


def run(context: Context) -> None:
    """Predict with the partners. Raises LinkError, StorageError."""
    spec, rows = context.spec, align.load_rows(context)
    split = None if spec.applies else encode.split_of(context, len(rows))
    samples = np.arange(len(rows), dtype=np.int64)
    if split is not None and spec.predict.rows == "test":
        samples = split.test
    scores = federation_scores(context, samples)
    if context.is_label_party and scores is not None:
        tell(context, scores)
    elif context.me in spec.predict.to:
        _write(context, rows[samples], [told(context, len(samples))])
    points = _points(context, samples)
    if scores is None:
        return
    inputs = context.step("encode").path
    targets = load_targets(inputs)
    if split is None:
        own = guesses(targets, scores, first=context.is_label_party)
        _write(context, rows, [*own, *points])
        return
    labels = encode.load_labels(inputs)[samples]
    parts = pl.Series("split", _part_names(split, len(rows))[samples])
    first, *rest = predicted(targets, labels, scores, first=context.is_label_party)
    _write(context, rows[samples], [first, *points, *rest, parts])


def _points(context: Context, samples: NDArray[np.int64]) -> list[pl.Series]:
    """Of a scorecard the score and its reasons; every party takes part."""
    if context.spec.scorecard is None:
        return []
    # It loads what other jobs need not have installed.
    from isthmus.jobs.methods.scorecard import card_columns

    return card_columns(context, samples)


def _write(context: Context, rows: NDArray[np.int64], found: Sequence[pl.Series]) -> None:
    key = context.spec.key_of(context.me)
    keys = read_columns(context.job, context.me, key, text=key)
    write_table(predictions(keys, rows, found), context.step("predict").file(PREDICTIONS))
    context.log.info("predicted", samples=len(rows))


def tell(context: Context, scores: NDArray[np.float64]) -> None:
    """Send the parties of `predict.to` the predictions of the first target."""
    first = load_targets(context.step("encode").path).scores_of(scores)[0]
    for party in context.spec.predict.to:
        link = context.session.link(party)
        for start in range(0, len(first), CHUNK):
            link.send(TOPIC, {"scores": first[start : start + CHUNK]})


def told(context: Context, samples: int) -> pl.Series:
    """What `tell` sent, the column of this party's table.

    Raises:
        BadMessage: it is not a number for each sample, or no probability where it should be one.
    """
    hub, kind = context.session.hub, context.spec.label.kind
    found = np.empty(samples)
    for start in range(0, samples, CHUNK):
        part = hub.recv(TOPIC, timeout=PATIENCE).tensors.get("scores")
        size = min(CHUNK, samples - start)
        fits = part is not None and part.dtype == np.float64 and part.shape == (size,)
        if not fits or part is None or not np.isfinite(part).all():
            raise BadMessage(f"{hub.partner} sent no prediction for each sample")
        if kind == "binary" and not ((part >= 0) & (part <= 1)).all():
            raise BadMessage(f"{hub.partner} sent predictions that are no probabilities")
        found[start : start + size] = part
    return pl.Series("probability" if kind == "binary" else "value", found)


def guesses(
    targets: Targets, scores: NDArray[np.float64], *, first: bool = True
) -> Iterator[pl.Series]:
    """What is predicted of a party's targets, whose labels nobody knows; `first` as `predicted`."""
    parts = targets.scores_of(scores)
    for number, (target, part) in enumerate(zip(targets.all, parts, strict=True)):
        yield from _guesses(target, part, "" if first and number == 0 else f"_{target.name}")


def predictions(
    keys: pl.DataFrame, rows: NDArray[np.int64], found: Sequence[pl.Series]
) -> pl.DataFrame:
    """The table: which row of the party's own table each prediction is of, its key, and `found`.

    Args:
        keys: the key columns of the party's table.
        rows: int64 [n], the place of each predicted row in that table, from 0.
        found: [n] each, what is predicted and known of these rows.
    """
    number = pl.Series(ROW, rows + 1)
    return pl.DataFrame([number, *apart(keys[rows], [number, *found]), *found])


def apart(keys: pl.DataFrame, found: Sequence[pl.Series]) -> list[pl.Series]:
    """The key columns, none of them called like one of `found`, which must not take its place."""
    taken = {one.name for one in found}
    own = []
    for key in keys:
        while key.name in taken:
            key = key.rename(f"key_{key.name}")
        taken.add(key.name)
        own.append(key)
    return own


def predicted(
    targets: Targets,
    labels: NDArray[np.float32],
    scores: NDArray[np.float64],
    *,
    first: bool = True,
) -> Iterator[pl.Series]:
    """The columns of the table, target by target: what is predicted, and what is known.

    Args:
        targets: of the job.
        labels: float32 [n] or [n, columns], as the targets have them.
        scores: float64 [n] or [n, outputs].
        first: whether the first of them is the job's, whose columns are without a name.
    """
    parts = targets.scores_of(scores)
    for number, (target, part) in enumerate(zip(targets.all, parts, strict=True)):
        behind = "" if first and number == 0 else f"_{target.name}"
        yield from _guesses(target, part, behind)
        truth = targets.column(labels, number)
        yield _truth(target, truth, f"label{behind}")


def _guesses(target: Target, scores: NDArray[np.float64], behind: str) -> Iterator[pl.Series]:
    if target.kind == "real":
        yield pl.Series(f"value{behind}", scores)
    elif target.kind == "retrieval":
        yield pl.Series(f"score{behind}", scores)
    elif target.kind == "binary":
        yield pl.Series(f"probability{behind}", scores)
    else:
        yield pl.Series(f"class{behind}", np.array(target.classes)[scores.argmax(axis=1)])
        yield pl.Series(f"probability{behind}", scores.max(axis=1))


def _truth(target: Target, labels: NDArray[np.float32], name: str) -> pl.Series:
    """A target's labels, null where they are missing."""
    values = pl.Series(name, target.truth(labels)).fill_nan(None)
    if target.kind == "real":
        return values
    if target.kind in ("binary", "retrieval"):
        return values.cast(pl.Int8)
    numbers = values.cast(pl.Int64)
    known = dict(enumerate(target.classes))
    return numbers.replace_strict(known, return_dtype=pl.String).rename(name)


def _part_names(split: Split, samples: int) -> NDArray[np.str_]:
    names = np.full(samples, "train")
    names[split.valid] = "valid"
    names[split.test] = "test"
    return names
