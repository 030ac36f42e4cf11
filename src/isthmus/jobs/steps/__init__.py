"""The steps of a job, one file each, in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from isthmus.jobs.context import Context
from isthmus.jobs.spec import JobSpec
from isthmus.jobs.steps import (
    align,
    bin,
    correlate,
    encode,
    evaluate,
    pca,
    predict,
    profile,
    retrieve,
    train,
)


@dataclass(frozen=True)
class Step:
    """One stage of a job."""

    name: str
    run: Callable[[Context], None]
    """Does the work at one party and leaves its files in the step's folder."""
    wanted: Callable[[JobSpec], bool] = lambda spec: True
    """Whether the job asks for it."""
    current: Callable[[Context], bool] = lambda context: True
    """Whether what it left is still of the present inputs."""

    def is_in(self, spec: JobSpec) -> bool:
        """Whether the job has it: of those that fit something, none where a model is applied."""
        return self.wanted(spec) and (not spec.applies or self.name in APPLYING)


APPLYING = ("align", "encode", "predict")
"""The steps of a job that applies an earlier one's model."""


def _learns(spec: JobSpec) -> bool:
    return spec.learns != "nothing"


STEPS = (
    Step("align", align.run, current=align.is_current),
    Step("encode", encode.run),
    Step("profile", profile.run, wanted=lambda spec: spec.profile is not None),
    Step("bin", bin.run, wanted=lambda spec: spec.bin is not None, current=bin.is_current),
    Step("correlate", correlate.run, wanted=lambda spec: spec.correlation is not None),
    Step("pca", pca.run, wanted=lambda spec: spec.pca is not None),
    Step("train", train.run, wanted=_learns),
    Step("evaluate", evaluate.run, wanted=_learns),
    Step(
        "predict",
        predict.run,
        wanted=lambda spec: _learns(spec) and spec.predict.rows != "none",
    ),
    Step("retrieve", retrieve.run, wanted=lambda spec: spec.train.model.retrieval is not None),
)
