"""The report of a finished job, made from the files that its steps left at one party."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors.numpy import load_file

from isthmus.align import Alignment
from isthmus.data import Features, Split
from isthmus.errors import StorageError
from isthmus.jobs import tabular
from isthmus.jobs.artefacts import PartyFolder
from isthmus.jobs.job import Job
from isthmus.jobs.measured import Measured
from isthmus.jobs.outcome_arbiter import build_arbiter_report
from isthmus.jobs.outcome_looks import looks_of
from isthmus.jobs.outcome_run import artefacts, crossed, job_facts, times_of, utc_now
from isthmus.jobs.outcome_tabular import fitted_facts
from isthmus.jobs.report import (
    AlignmentFacts,
    Curves,
    DataFacts,
    EpochFacts,
    FeatureFacts,
    GuardFacts,
    LorenzCurves,
    Metrics,
    ModelFacts,
    ModelPart,
    Report,
    RetrievalFacts,
    SignalWeights,
    TargetFigures,
    TrainingFacts,
    UnseenFacts,
    Uplift,
    cautions,
    traffic_of,
    write_report,
)
from isthmus.jobs.retrieval.figures import recall_curves
from isthmus.jobs.runner import POOLED
from isthmus.jobs.sequence_facts import sequence_facts
from isthmus.jobs.spec import JobSpec
from isthmus.jobs.steps import encode
from isthmus.jobs.steps.evaluate import SCORES, SHARED, TOWERS, SharedFigures, TowerFigures
from isthmus.jobs.steps.retrieve import FIGURES
from isthmus.jobs.steps.train import RESULT
from isthmus.jobs.targets import load_targets
from isthmus.jobs.unseen import load_unseen, warnings_of

_SETTINGS = {
    *("embedding_learning_rate", "weight_decay", "embedding_decay", "decay", "warmup_steps"),
    *("epochs", "metric", "patience"),
}
"""What the report tells of the training besides what has a field of its own."""


def write_party_report(job: Job, party: str, folder: PartyFolder) -> Path:
    """Write `report.html` and `report.json` of one party; gives the page's path.

    Raises:
        StorageError: a step's files are missing, or the report cannot be written.
    """
    build = build_arbiter_report if party == job.spec.arbiter else build_report
    report = build(job, party, folder)
    page, _ = write_report(report, folder.path)
    return page


def build_report(
    job: Job, party: str, folder: PartyFolder, now: Callable[[], datetime] | None = None
) -> Report:
    """The report of `party` from its files."""
    spec = job.spec
    alignment = Alignment.load(folder.step("align").path)
    measured = _measured(folder)
    shown = _figures(job, party, folder, measured)
    if party in spec.tower_parties:
        # Its own targets are not the job's first one, which is what metrics and curves are about.
        measured = None
    seconds, phases = times_of(folder)
    return Report(
        job=job_facts(job, party, (now or utc_now)()),
        data=_data(job, party, folder, alignment),
        alignment=_alignment(job, alignment),
        model=_model(job, folder) if spec.trains_network else None,
        training=_training(job, folder) if spec.trains_network else None,
        fitted=fitted_facts(job, folder, measured),
        looks=looks_of(job, folder),
        metrics=shown.metrics,
        uplift=shown.uplift,
        targets=shown.targets,
        ranking=shown.ranking,
        retrieval=_retrieval(folder, measured),
        curves=measured.curves() if measured else Curves(),
        lorenz=measured.lorenz() if measured else LorenzCurves(),
        traffic=traffic_of(crossed(folder)),
        phases=phases,
        seconds=seconds,
        artefacts=artefacts(folder),
        notes=_notes(job, party, measured),
        warnings=(
            *alignment.warnings,
            *warnings_of(load_unseen(folder.step("encode"))),
            *cautions(shown.metrics),
        ),
    )


def _notes(job: Job, party: str, measured: Measured | None) -> tuple[str, ...]:
    spec, notes = job.spec, []
    for other in spec.tower_parties:
        names = ", ".join(spec.label.targets_of(other))
        notes.append(
            f"{other} holds the labels and the tower of: {names}. The losses and metrics of the "
            f"epochs are those of {spec.label.party}'s targets."
        )
    wanted = spec.wants_pooled and party == spec.label.party
    if wanted and not (measured is not None and POOLED in measured.scores):
        notes.append(
            "The job asks for the pooled model (evaluate.pooled). Only `isthmus run` can train "
            "it, after all parties have finished."
        )
    return tuple(notes)


def _measured(folder: PartyFolder) -> Measured | None:
    scores = folder.step("evaluate").file(SCORES)
    if not scores.exists():
        return None
    measured = Measured.load(scores, load_targets(folder.step("encode").path))
    evaluated, pooled = folder.step("evaluate").marker(), folder.step(POOLED)
    marker = pooled.marker()
    if evaluated is None or marker is None or marker.token != evaluated.token:
        return measured
    scores_of = {**measured.scores, **load_file(pooled.file(SCORES))}
    return replace(measured, scores=scores_of)


def _figures(job: Job, party: str, folder: PartyFolder, measured: Measured | None) -> SharedFigures:
    """In full of this party's own targets; of the others what was shared, if anything."""
    evaluate, step = job.spec.evaluate, folder.step("evaluate")
    own: tuple[TargetFigures, ...] = ()
    if measured is not None and party in job.spec.tower_parties:
        own = measured.target_figures(share_rows=False, plain=True)
    elif measured is not None:
        tower: tuple[TargetFigures, ...] = ()
        if step.file(TOWERS).exists():
            tower = TowerFigures.model_validate(step.read_json(TOWERS)).targets
        return SharedFigures(
            metrics=measured.metrics(),
            uplift=measured.uplift(seed=job.spec.seed, resamples=evaluate.resamples),
            targets=(*measured.target_figures(plain=bool(tower)), *tower),
            ranking=measured.ranking(evaluate),
        )
    shared = SharedFigures(metrics=Metrics(), uplift=Uplift())
    if step.file(SHARED).exists():
        shared = SharedFigures.model_validate(step.read_json(SHARED))
    return shared.model_copy(update={"targets": (*shared.targets, *own)})


def _retrieval(folder: PartyFolder, measured: Measured | None) -> RetrievalFacts | None:
    step = folder.step("retrieve")
    if measured is None or not step.file(FIGURES).exists():
        return None
    facts = step.read_json(FIGURES)
    curves = recall_curves(measured.labels, measured.scores, facts["top"])
    return RetrievalFacts(**facts, curves=curves)


def _data(job: Job, party: str, folder: PartyFolder, alignment: Alignment) -> DataFacts:
    inputs = folder.step("encode").path
    nobody = np.empty(0, dtype=np.int64)
    split = Split(train=nobody, valid=nobody, test=nobody)
    if not job.spec.applies:
        split = encode.load_split(inputs, len(alignment))
    has_label = party == job.spec.label.party and not job.spec.applies
    features = encode.load(inputs) if job.spec.learns == "network" else None
    return DataFacts(
        rows_read=alignment.summary.rows,
        features=tuple(_table_columns(folder) if features is None else _features(features)),
        training_samples=len(split.train),
        validation_samples=len(split.valid),
        test_samples=len(split.test),
        positive_rate=_positive_rate(inputs) if has_label else None,
        sequences=tuple(
            ()
            if features is None
            else sequence_facts(features, job.spec.parties[party].features or {})
        ),
        unseen=tuple(UnseenFacts(**asdict(one)) for one in load_unseen(folder.step("encode"))),
    )


def _table_columns(folder: PartyFolder) -> Iterator[FeatureFacts]:
    for name, feature in tabular.columns_used(folder).items():
        yield FeatureFacts(name=name, kind=feature.kind, table_rows=0)


def _features(features: Features) -> Iterator[FeatureFacts]:
    layout = features.layout
    for field in layout.fields:
        yield FeatureFacts(name=field.name, kind=field.kind, table_rows=field.rows)
    for vector in layout.vectors:
        yield FeatureFacts(name=vector.name, kind=vector.kind, table_rows=0)


def _positive_rate(inputs: Path) -> float | None:
    labels, targets = encode.load_labels(inputs), load_targets(inputs)
    if targets.first.kind != "binary":
        return None
    return float(np.nanmean(targets.column(labels, 0)))


def _alignment(job: Job, alignment: Alignment) -> AlignmentFacts:
    counts = alignment.summary
    return AlignmentFacts(
        protocol=job.spec.align.protocol,
        keys=job.spec.align.keys,
        own_rows=counts.rows,
        own_keys=counts.keys,
        partner_keys=dict(counts.partners),
        common_keys=counts.common,
        samples=counts.samples,
        dropped_duplicates=counts.duplicates,
        dropped_nulls=counts.nulls,
    )


def _model(job: Job, folder: PartyFolder) -> ModelFacts:
    model = job.spec.train.model
    result = _result(folder)
    return ModelFacts(
        name=model.name,
        # The path of a catalogue is local, and would tell of the machine.
        hyper_parameters={
            name: value
            for name, value in _flat(
                model.model_dump(exclude={"name": True, "retrieval": {"catalogue"}})
            )
            if name not in model.idle()
        },
        parts=tuple(ModelPart(**part) for part in result["parts"]),
        blend=tuple(
            SignalWeights(signal=name, **weights)
            for name, weights in result.get("blend", {}).items()
        ),
    )


def _flat(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Settings of the network with those of its parts, such as `cross.layers`; none unset."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}.")
        elif value is not None:
            yield f"{above}{name}", value


def _training(job: Job, folder: PartyFolder) -> TrainingFacts:
    train, result = job.spec.train, _result(folder)
    epochs = result["epochs"]
    return TrainingFacts(
        schedule=train.schedule,
        chosen_schedule=result.get("chosen_schedule") or None,
        optimizer="Adam",
        batch_size=train.batch_size,
        learning_rate=train.learning_rate,
        hyper_parameters={
            "split": split_words(job.spec),
            **train.model_dump(include=_SETTINGS),
            "aggregation": train.aggregation,
            "secure_sum": f"{train.secure_sum} bits" if train.secure_sum else "none",
            "cut_guard": _guards(job, "cut"),
            "gradient_guard": _guards(job, "gradient"),
        },
        epochs=len(epochs),
        steps=sum(epoch["steps"] for epoch in epochs),
        samples_per_second=result["samples_per_second"],
        best_epoch=result["best_epoch"] or None,
        stop_reason=result["stop_reason"],
        curve=tuple(_epoch(epoch) for epoch in epochs),
        guards=tuple(GuardFacts(**guard) for guard in result.get("guards", ())),
    )


def split_words(spec: JobSpec) -> str:
    """How the samples were divided into those for training, validation and test."""
    split = spec.split
    shares = f"{split.train:.0%} / {split.valid:.0%} / {split.test:.0%}"
    if split.by == "random":
        return f"at random, {shares}"
    per = f" of each {split.per}" if split.per else ""
    return f"by {spec.label.time}, {shares}{per}, the latest for the test"


def _guards(job: Job, direction: Literal["cut", "gradient"]) -> str:
    """One guard where all feature parties have the same, else each one's."""
    texts = {party: job.spec.guard_of(direction, party) for party in job.spec.feature_parties}
    if len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    return ", ".join(f"{text} ({party})" for party, text in texts.items())


def _epoch(record: dict[str, Any]) -> EpochFacts:
    return EpochFacts(
        epoch=record["epoch"],
        seconds=record["seconds"],
        learning_rate=record["learning_rate"],
        train_loss=record["train_loss"],
        validation_auc=record["valid_auc"],
        validation_log_loss=record["valid_log_loss"],
        validation_loss=record.get("valid_loss"),
        tower_train_loss=record.get("tower_train_loss"),
        tower_validation_loss=record.get("tower_valid_loss"),
        tower_validation_auc=record.get("tower_valid_auc"),
    )


def _result(folder: PartyFolder) -> dict[str, Any]:
    result = folder.step("train").read_json(RESULT)
    if not isinstance(result, dict):
        raise StorageError(f"{folder.step('train').file(RESULT)} is not a training result")
    return result
