"""What models reach on the test samples: figures, uplift, and the scores they are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from isthmus.files import write_bytes
from isthmus.jobs.report import (
    Curves,
    Figures,
    Interval,
    Metrics,
    Uplift,
    curves_of,
    figures_of,
    interval_of,
)
from isthmus.metrics import binary_metrics, bootstrap_uplift

Scores = NDArray[np.float64]

MODELS = ("label_party_alone", "federation", "pooled")
"""The models that are compared, by their names in the report."""


@dataclass(frozen=True)
class Measured:
    """Labels and each model's probabilities of the same test samples. Only at the label party."""

    labels: NDArray[np.float32]
    """float32 [n]"""
    scores: Mapping[str, Scores]
    """float64 [n] of some of `MODELS`."""

    def save(self, path: Path) -> None:
        """Write as safetensors. Raises StorageError."""
        write_bytes(path, save({"labels": self.labels, **self.scores}))

    @classmethod
    def load(cls, path: Path) -> Measured:
        """Read what `save` wrote."""
        arrays = load_file(path)
        labels = arrays.pop("labels")
        return cls(labels, {name: arrays[name] for name in MODELS if name in arrays})

    def metrics(self, *, share_positives: bool = True) -> Metrics:
        """The figures of each model."""
        return Metrics(**{name: self._figures(name, share_positives) for name in self.scores})

    def uplift(self, *, seed: int, resamples: int) -> Uplift:
        """What the federation gains over the other models, with bootstrap intervals."""

        def over(other: str) -> Interval | None:
            if other not in self.scores or "federation" not in self.scores:
                return None
            federation, rival = self.scores["federation"], self.scores[other]
            return interval_of(
                bootstrap_uplift(self.labels, federation, rival, seed=seed, resamples=resamples)
            )

        return Uplift(over_label_party_alone=over("label_party_alone"), over_pooled=over("pooled"))

    def curves(self) -> Curves:
        """ROC and calibration of each model."""
        return Curves(**{name: curves_of(self.labels, at) for name, at in self.scores.items()})

    def _figures(self, name: str, share_positives: bool) -> Figures:
        measured = binary_metrics(self.labels, self.scores[name])
        return figures_of(measured, share_positives=share_positives)
