"""What a trained model gives for the samples that it has seen: kept, and judged by a search."""

from __future__ import annotations

from typing import Any

import numpy as np
from safetensors.numpy import save

from isthmus.data import Split
from isthmus.errors import MetricError
from isthmus.files import write_bytes
from isthmus.jobs.context import Context
from isthmus.jobs.measured import Scores
from isthmus.jobs.steps import encode
from isthmus.jobs.targets import load_targets
from isthmus.metrics import auc, log_loss
from isthmus.split.options import EpochRecord

FITTED = "fitted.safetensors"
"""`scores` of the training samples, float64 [samples] or [samples, classes]."""


def keep_fitted(context: Context, split: Split, scores: Scores, seconds: float) -> dict[str, Any]:
    """At the label party: keep scores of the training samples, and judge those for validation.

    Args:
        context: of the step `train`.
        split: of all samples.
        scores: of the training samples, or of none of them, and behind these of all for validation.
        seconds: that training took.

    Returns:
        The figures of the validation samples, for reading; none where they have none.

    Raises:
        StorageError: the scores cannot be written.
    """
    learnt = len(scores) - len(split.valid)
    if learnt:
        write_bytes(context.step("train").file(FITTED), save({"scores": scores[:learnt].copy()}))
    inputs = context.step("encode").path
    labels, targets = encode.load_labels(inputs), load_targets(inputs)
    if targets.first.kind != "binary" or not len(split.valid):
        return {}
    truth = targets.column(labels, 0)[split.valid]
    try:
        figures = {"auc": auc(truth, scores[learnt:]), "log_loss": log_loss(truth, scores[learnt:])}
    except MetricError:
        return {}
    if context.judge is not None:
        context.judge(
            EpochRecord(
                epoch=1,
                steps=1,
                samples=len(split.train),
                seconds=seconds,
                seconds_validation=0.0,
                learning_rate=0.0,
                best=True,
                valid_auc=figures["auc"],
                valid_log_loss=figures["log_loss"],
            )
        )
    return figures


def seen(split: Split) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The training samples, and behind them those for validation."""
    return np.concatenate([split.train, split.valid])
