"""Step `encode`: fit the encoders on the training rows and write the features as arrays.

Files: `encoder.json` (vocabularies and statistics; stays with its owner), `features/`
(memory-mapped arrays), `samples.safetensors` where many samples share a row (`rows`, int64
[samples]: the encoded row of each), and at the label party `labels.safetensors` (`labels`,
float32 [samples]).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from isthmus.data import (
    Encoder,
    Features,
    Split,
    fit_encoder,
    load_features,
    parse_label,
    split_samples,
)
from isthmus.files import write_bytes
from isthmus.jobs.classes import check_parts
from isthmus.jobs.context import Context
from isthmus.jobs.steps import align
from isthmus.jobs.tables import features_of, read_columns

ENCODER = "encoder.json"
FEATURES = "features"
SAMPLES = "samples.safetensors"
LABELS = "labels.safetensors"

Rows = NDArray[np.int64]
Labels = NDArray[np.float32]


def run(context: Context) -> None:
    """Encode this party's columns, and the label where it is held. Raises DataError."""
    rows = align.load_rows(context)
    if context.is_label_party:
        labels = _labels(context, rows)
        check_parts(context.spec.label.expression, labels, split_of(context, len(rows)))
        write_bytes(context.step("encode").file(LABELS), save({"labels": labels}))
    encoder = _encode(context, rows)
    context.log.info(
        "encoded", columns=len(encoder.layout.fields), table_rows=encoder.layout.table_rows
    )


def load(folder: Path) -> Features:
    """The features in an encode folder, by sample of the agreed order."""
    features = load_features(folder / FEATURES)
    if not (folder / SAMPLES).exists():
        return features
    return features.with_rows(load_file(folder / SAMPLES)["rows"])


def load_labels(folder: Path) -> Labels:
    """The labels in the label party's encode folder, float32 [samples]."""
    labels: Labels = load_file(folder / LABELS)["labels"]
    return labels


def split_of(context: Context, samples: int) -> Split:
    """The cut of the samples into training, validation and test, the same at every party."""
    return split_samples(samples, context.spec.seed, context.spec.split.fractions)


def _encode(context: Context, rows: Rows) -> Encoder:
    features = features_of(context.job, context.me)
    codes = [name for name, spec in features.items() if spec.kind == "categorical"]
    # A table of no columns would have no rows either.
    columns = list(features) or context.spec.key_of(context.me)
    frame = read_columns(context.job, context.me, columns, text=codes)
    source = str(context.job.table_of(context.me))
    train = rows[split_of(context, len(rows)).train]
    local, position = np.unique(rows, return_inverse=True)
    shared = len(local) < len(rows)
    encoder = fit_encoder(frame, features, np.unique(train) if shared else train, source=source)
    folder = context.step("encode")
    encoder.save(folder.file(ENCODER))
    encoder.encode(frame, folder.file(FEATURES), rows=local if shared else rows, source=source)
    if shared:
        write_bytes(folder.file(SAMPLES), save({"rows": position.astype(np.int64)}))
    return encoder


def _labels(context: Context, rows: Rows) -> Labels:
    expression = parse_label(context.spec.label.expression)
    frame = read_columns(context.job, context.me, expression.columns)
    source = str(context.job.table_of(context.me))
    return expression.evaluate(frame, source=source)[rows]
