"""Labels of one class only: found before a model is trained on them, and told to their owner."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from isthmus.data import Split
from isthmus.errors import DataError

Labels = NDArray[np.float32]


def check_both_classes(expression: str, labels: Labels, what: str) -> None:
    """See that `labels`, float32 [n], hold both classes; `what` names the rows in the message.

    Raises:
        DataError: they do not.
    """
    if (only := _only_class(labels)) is not None:
        raise DataError(
            f"label.expression {expression!r} is {only} in all {what}",
            mend="A model needs both classes: does the expression say what is meant?",
        )


def check_parts(expression: str, labels: Labels, split: Split) -> None:
    """See that all samples, and the training, validation and test samples, hold both classes.

    Args:
        expression: the label, for the message.
        labels: float32 [samples].
        split: how the samples are cut; a part without samples is left alone.

    Raises:
        DataError: some of them do not; the message has the counts, for the label party alone.
    """
    check_both_classes(expression, labels, f"{len(labels)} aligned samples")
    for name, rows in (("train", split.train), ("valid", split.valid), ("test", split.test)):
        only = _only_class(labels[rows])
        if len(rows) and only is not None:
            raise DataError(
                f"label.expression {expression!r} is {only} in all {len(rows)} {name} samples, of "
                f"{int(labels.sum())} positive and {int((labels == 0).sum())} negative ones",
                mend=f"Give split.{name} a larger share, or bring more rows.",
            )


def _only_class(labels: Labels) -> str | None:
    if not labels.any():
        return "negative"
    return "positive" if labels.all() else None
