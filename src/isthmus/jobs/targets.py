"""What a job's labels are learnt as, kept beside them at the label party."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import DataError, StorageError
from isthmus.files import write_json
from isthmus.split import Target, Targets
from isthmus.split.targets import PLAIN, Kind

TARGETS = "targets.json"


@dataclass(frozen=True, eq=False)
class Known:
    """One target as it was read, by sample."""

    name: str
    kind: Kind
    values: NDArray[np.float64]
    """float64 [samples]: 0 or 1, the number of the class, or the real value; NaN where missing."""
    classes: tuple[str, ...] = ()
    """Of a multiclass target, in the order of their numbers."""
    weight: float = 1.0
    """Of its loss, beside the others'."""


def fit_targets(
    known: Sequence[Known], weights: NDArray[np.float64] | None, train: NDArray[np.int64]
) -> tuple[NDArray[np.float32], Targets]:
    """The labels in the form that training takes, and what they are, from the training samples.

    Args:
        known: the targets, the first one first.
        weights: of the samples, float64 [samples]; None where all count alike.
        train: positions of the training samples.

    Returns:
        Labels as `isthmus.split.Targets` has them, and the targets.

    Raises:
        DataError: a target is missing, or of one class, in all training samples; or they weigh
            nothing.
    """
    targets = Targets(tuple(_fit(one, train) for one in known), weights is not None)
    if targets.plain:
        return known[0].values.astype(np.float32), targets
    columns = [
        (one.values - target.mean) / target.std
        for one, target in zip(known, targets.all, strict=True)
    ]
    if weights is not None:
        mean = float(weights[train].mean())
        if not mean > 0:
            raise DataError(
                f"the weights of all {len(train)} training samples are zero",
                mend="Bring samples that count, or leave out label.weight.",
            )
        columns.append(weights / mean)
    return np.stack(columns, axis=1).astype(np.float32), targets


def _fit(known: Known, train: NDArray[np.int64]) -> Target:
    values = known.values[train]
    values = values[~np.isnan(values)]
    if not len(values):
        raise DataError(
            f"label.also.{known.name} is missing in all {len(train)} training samples",
            mend="Leave this target out, or bring samples that have it.",
        )
    real = known.kind == "real"
    if not real and (values == values[0]).all():
        raise DataError(
            f"target {known.name!r} has one class only in all {len(values)} training samples",
            mend="A model needs two: does the expression say what is meant?",
        )
    return Target(
        name=known.name,
        kind=known.kind,
        outputs=len(known.classes) if known.kind == "multiclass" else 1,
        weight=known.weight,
        share=len(values) / len(train),
        mean=float(values.mean()) if real else 0.0,
        # A target that does not vary is as well predicted in its own unit.
        std=(float(values.std()) or 1.0) if real else 1.0,
        classes=known.classes,
    )


def save_targets(folder: Path, targets: Targets) -> None:
    """Write the targets into an encode folder, which needs none for one binary label.

    Raises:
        StorageError: they cannot be written.
    """
    if not targets.plain:
        write_json(folder / TARGETS, targets.facts())


def load_targets(folder: Path) -> Targets:
    """The targets of an encode folder.

    Raises:
        StorageError: the file cannot be read.
    """
    path = folder / TARGETS
    if not path.exists():
        return PLAIN
    try:
        return Targets.from_facts(json.loads(path.read_bytes()))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise StorageError(
            f"{path} does not hold targets", mend="Run the job again without --resume."
        ) from error
