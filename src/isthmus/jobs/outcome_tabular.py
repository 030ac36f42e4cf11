"""What a report says of a model that is no network, from the files of its training."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from safetensors.numpy import load_file

from isthmus.errors import StorageError
from isthmus.jobs.artefacts import PartyFolder, StepFolder
from isthmus.jobs.job import Job
from isthmus.jobs.measured import Measured, Scores
from isthmus.jobs.report import figures_of
from isthmus.jobs.report.parts import Scalar
from isthmus.jobs.report.tabular import (
    CardBin,
    CardFacts,
    Coefficient,
    Fitted,
    Importance,
    PredictorShare,
    Stability,
    TreePoint,
)
from isthmus.jobs.spec_analysis import ARBITERS
from isthmus.jobs.steps import encode
from isthmus.jobs.steps.predict import PREDICTIONS
from isthmus.jobs.steps.train import RESULT
from isthmus.jobs.targets import load_targets
from isthmus.metrics import binary_metrics
from isthmus.metrics.stability import psi_of_scores
from isthmus.stats import Scorecard

FITTED = "fitted.safetensors"
"""At the label party, in the folder of `train`: `scores`, of the training samples."""
CARD = "scorecard.json"

ARTEFACTS = {
    "train/model.json": "this party's part of the model; private",
    "train/columns.json": "how this party's columns become numbers; private",
    "train/scorecard.json": "this party's part of the scorecard; private",
    "train/scorecard.csv": "the same for reading",
}


def fitted_facts(job: Job, folder: PartyFolder, measured: Measured | None) -> Fitted | None:
    """What was learnt in place of a network, here or in the job whose model is applied; None of a
    network, and of nothing.

    Raises:
        StorageError: a file is missing or is none of this training.
    """
    spec, trained = job.spec, folder
    if spec.learns not in ("linear", "trees"):
        return None
    if spec.predict.model is not None:
        trained = PartyFolder(folder.path.parent.parent / spec.predict.model / folder.path.name)
    step = trained.step("train")
    found = step.read_json(RESULT)
    stability = None
    if step.file(FITTED).exists():
        before = load_file(step.file(FITTED))["scores"]
        if spec.applies:
            stability = _drift(folder, before)
        elif measured is not None:
            stability = _stability(folder, measured, before)
    try:
        facts = _linear(found) if spec.learns == "linear" else _trees(found)
        return Fitted(
            kind=spec.learns,
            settings=_settings(job),
            seconds=found["seconds"],
            card=_card(job, step),
            stability=stability,
            **facts,
        )
    except (LookupError, TypeError, ValueError) as error:
        raise StorageError(f"{step.file(RESULT)} is not a training result") from error


def _linear(found: dict[str, Any]) -> dict[str, Any]:
    return {
        "family": found["options"]["family"],
        "losses": tuple(found.get("losses", ())),
        "coefficients": tuple(Coefficient(**one) for one in found["coefficients"]),
        "shares": tuple(
            PredictorShare(party=party, deviation=size) for party, size in found["shares"].items()
        ),
        **{
            name: found[name]
            for name in (
                "intercept", "intercept_error", "dispersion", "loss", "rounds", "converged", "shown"
            )
        },
    }  # fmt: skip


def _trees(found: dict[str, Any]) -> dict[str, Any]:
    return {
        "family": found["objective"],
        "trees": found["trees"],
        "rho": found["rho"],
        "importance": tuple(Importance(**one) for one in found["importance"]),
        "curve": tuple(TreePoint(**one) for one in found["curve"]),
    }


def _settings(job: Job) -> dict[str, Scalar]:
    section = job.spec.linear or job.spec.trees
    assert section is not None
    chosen = section.model_dump(exclude={"family"})
    if job.spec.linear is not None and job.spec.linear.family != "tweedie":
        del chosen["power"]
    if job.spec.linear is not None and job.spec.linear.protocol != "arbiter":
        for name in ARBITERS:
            del chosen[name]
    elif job.spec.linear is not None:
        del chosen["tolerance" if job.spec.linear.stop == "loss" else "loss_change"]
    if chosen.get("goss") is not None:
        chosen["goss"] = " and ".join(f"{share:g}" for share in chosen["goss"])
    return chosen


def _card(job: Job, step: StepFolder) -> CardFacts | None:
    spec = job.spec.scorecard
    if spec is None or not step.file(CARD).exists():
        return None
    card = Scorecard.load(step.file(CARD))
    return CardFacts(
        base=card.base,
        points=spec.points,
        odds=spec.odds,
        double=spec.double,
        bins=tuple(
            CardBin(column=one["column"], bin=one["bin"], points=one["points"])
            for one in card.table().to_dicts()
        ),
    )


def _stability(folder: PartyFolder, measured: Measured, before: Scores) -> Stability | None:
    """The federation's scores of the training samples, `before`, beside the test samples'."""
    inputs = folder.step("encode").path
    labels, targets = encode.load_labels(inputs), load_targets(inputs)
    train = encode.load_split(inputs, len(labels)).train
    if before.ndim > 1 or "federation" not in measured.scores:
        return None
    if len(before) != len(train):
        raise StorageError(f"{folder.step('train').file(FITTED)} is of other samples")
    training = None
    if targets.first.kind == "binary":
        training = figures_of(binary_metrics(targets.column(labels[train], 0), before))
    after = np.asarray(measured.scores["federation"], np.float64)
    return Stability(psi=psi_of_scores(before, after), training=training)


def _drift(folder: PartyFolder, before: Scores) -> Stability | None:
    """The scores of the training samples, `before`, beside those that were predicted here."""
    path = folder.step("predict").file(PREDICTIONS)
    if before.ndim > 1 or not path.exists():
        return None
    table = pl.read_parquet(path)
    name = "probability" if "probability" in table.columns else "value"
    return Stability(psi=psi_of_scores(before, table[name].to_numpy()))
