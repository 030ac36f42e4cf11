"""What a job trains in place of a network: one interface, by the section of the job file."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from isthmus.jobs.context import Context
from isthmus.jobs.job import Job
from isthmus.jobs.measured import Scores
from isthmus.jobs.spec import JobSpec
from isthmus.session import Progress


class Learner(Protocol):
    """A kind of model over the parties' tables (`isthmus.jobs.tabular`)."""

    def check(self, job: Job) -> None:
        """See that packages are here and that the job's options go together. Raises JobError."""

    def train(self, context: Context) -> None:
        """Train with the partners and leave this party's part in the folder of the step `train`."""

    def scores(self, context: Context, samples: NDArray[np.int64]) -> Scores | None:
        """Predict with the partners; at the label party probabilities or means, float64 [n] or
        [n, classes], None elsewhere.
        """

    def alone(self, context: Context, samples: NDArray[np.int64]) -> Scores:
        """The same of a model of the label party's own columns, trained here."""

    def pooled(self, job: Job, folder: Path, progress: Progress) -> Scores:
        """Scores of the test samples by a model of all columns in one place, from what the parties
        left under `folder`: only a simulation can.
        """


def learner_of(spec: JobSpec) -> Learner | None:
    """What the job trains; None of a network, and of nothing."""
    # They load what other jobs need not have installed.
    if spec.learns == "linear":
        from isthmus.jobs.methods.linear import LinearLearner

        return LinearLearner()
    if spec.learns == "trees":
        from isthmus.jobs.methods.trees import TreesLearner

        return TreesLearner()
    return None
