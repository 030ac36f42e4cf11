"""Step `evaluate`: measure the federation on the test samples, and the label party alone.

Files at the label party: `scores.safetensors` (labels and each model's probabilities of the test
samples, or ranks of their items), `queries.safetensors` of a two-tower job, and
`alone/` (the training of the label party's own model). At a feature party, where the
job shares them: `shared.json` (the figures it was told). With labels at several parties: each has
`scores.safetensors` of its own targets, and the label party `towers.json` (what it was told).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors.numpy import save
from torch import nn

from isthmus.errors import BadMessage, DataError
from isthmus.files import write_bytes, write_json
from isthmus.jobs.context import Context
from isthmus.jobs.exposure import read_exposure
from isthmus.jobs.learners import learner_of
from isthmus.jobs.measured import METRICS_OF, METRICS_OF_AMOUNTS, Amounts, Measured, Scores
from isthmus.jobs.rankings import Groups, check_ranking, groups_of
from isthmus.jobs.report.parts import Metrics, Part, Ranking, TargetFigures, Uplift
from isthmus.jobs.retrieval.catalogue import FOLDER, load_catalogue
from isthmus.jobs.retrieval.vectors import Retrieval
from isthmus.jobs.spec import JobSpec, LabelSpec
from isthmus.jobs.steps import align, encode
from isthmus.jobs.steps.train import trained_modules, trained_tower
from isthmus.jobs.tables import read_columns
from isthmus.jobs.targets import load_targets
from isthmus.jobs.training import bottom_of, data_of, options_of, top_of
from isthmus.jobs.zoo.two_tower import can_alone
from isthmus.session import PATIENCE, Session
from isthmus.split import predict, train
from isthmus.split.in_batch import InBatch

SCORES = "scores.safetensors"
SHARED = "shared.json"
QUERIES = "queries.safetensors"
TOWERS = "towers.json"
TOPIC = "evaluate.metrics"
TOWER_TOPIC = "evaluate.tower"


SHARED_DIGITS = 4
"""Decimal places of what is shared: an AUC in full precision gives away the number of positives."""


class SharedFigures(Part):
    """What a feature party is told about the models, rounded.

    It does not hold the number of positives, and with many test samples that cannot be computed
    from it either. It allows an estimate, since losses and scores depend on the share of positives.
    """

    metrics: Metrics
    uplift: Uplift
    targets: tuple[TargetFigures, ...] = ()
    ranking: Ranking | None = None


class TowerFigures(Part):
    """What the label party is told about a tower party's targets, rounded."""

    targets: tuple[TargetFigures, ...] = ()


def run(context: Context) -> None:
    """Score the test samples with the partners. Raises LinkError, TrainError, StorageError."""
    test = encode.split_of(context, len(align.load_rows(context))).test
    if not len(test):
        raise DataError("there are no test samples", mend="Give split.test a larger share.")
    federation = federation_scores(context, test)
    if context.is_label_party:
        assert federation is not None
        _measure(context, test, federation)
        return
    if federation is not None:
        _measure_tower(context, test, federation)
    if context.spec.evaluate.share_metrics:
        shared = _receive(context)
        write_json(context.step("evaluate").file(SHARED), shared.model_dump(mode="json"))


def federation_scores(context: Context, samples: NDArray[np.int64]) -> Scores | None:
    """The trained federation's scores of this party's targets, see `Targets.scores`; None where it
    has none.
    """
    if (learner := learner_of(context.spec)) is not None:
        return learner.scores(context, samples)
    bottom, top = trained_modules(context)
    features = encode.load(context.step("encode").path)
    data = None if bottom is None else data_of(context.spec, features)
    return predict(
        context.session,
        samples=samples,
        bottom=bottom,
        data=data,
        top=top,
        options=options_of(context.spec),
        signer=context.signer,
        targets=load_targets(context.step("encode").path),
        tower=trained_tower(context),
    )


def _measure(context: Context, test: NDArray[np.int64], federation: Scores) -> None:
    labels = encode.load_labels(context.step("encode").path)
    scores = {"federation": federation}
    if context.spec.learns == "network":
        bottom, _ = trained_modules(context)
        inputs = context.step("encode").path
        scores = {"federation": reported(context.spec, inputs, bottom, federation)}
        _keep_queries(context, federation)
    # Without a column of its own the label party can learn nothing alone.
    if context.spec.evaluate.alone and can_alone(context.spec):
        scores["label_party_alone"] = _alone(context, test)
    targets = load_targets(context.step("encode").path)
    groups, amounts = _groups(context, test), _amounts(context, test)
    measured = Measured(labels[test], scores, targets, groups, amounts)
    measured.save(context.step("evaluate").file(SCORES))
    if context.spec.evaluate.share_metrics:
        _hear_towers(context)
        _share(context, measured)


def _amounts(context: Context, test: NDArray[np.int64]) -> Amounts | None:
    """What the first target is of, where the job takes it for counts or costs."""
    spec = context.spec
    if spec.trees is not None:
        return None if spec.trees.family is None else Amounts(1.0)
    if spec.linear is None or spec.linear.family in ("logistic", "linear"):
        return None
    power = {"poisson": 1.0, "gamma": 2.0}.get(spec.linear.family, spec.linear.power)
    exposure = read_exposure(context.job)
    return Amounts(power, None if exposure is None else exposure[align.load_rows(context)[test]])


def _measure_tower(context: Context, test: NDArray[np.int64], federation: Scores) -> None:
    """Measure the targets of a tower party, and tell the label party the figures, rounded."""
    inputs = context.step("encode").path
    labels, targets = encode.load_labels(inputs), load_targets(inputs)
    measured = Measured(labels[test], {"federation": federation}, targets)
    measured.save(context.step("evaluate").file(SCORES))
    if context.spec.evaluate.share_metrics:
        told = TowerFigures(targets=measured.target_figures(share_rows=False, plain=True))
        context.session.hub.send(TOWER_TOPIC, header=rounded(told.model_dump(mode="json")))


def _hear_towers(context: Context) -> None:
    """Keep what the tower parties tell of their targets."""
    heard: list[TargetFigures] = []
    for party in context.spec.tower_parties:
        header = context.session.link(party).recv(TOWER_TOPIC, timeout=PATIENCE).header
        try:
            told = TowerFigures.model_validate(dict(header))
        except ValidationError as error:
            raise BadMessage(f"{party} sent metrics that are none") from error
        check_targets(context.spec.label, told.targets, party)
        heard += told.targets
    if heard:
        kept = TowerFigures(targets=tuple(heard))
        write_json(context.step("evaluate").file(TOWERS), kept.model_dump(mode="json"))


def _groups(context: Context, test: NDArray[np.int64]) -> Groups | None:
    """Which test samples are ranked among each other; None where the job asks for none."""
    per = context.spec.evaluate.per
    if per is None:
        return None
    frame = read_columns(context.job, context.me, [per], text=[per])
    groups = groups_of(frame, per, str(context.job.table_of(context.me)))
    return groups[align.load_rows(context)[test]]


def _alone(context: Context, test: NDArray[np.int64]) -> Scores:
    """Train the same network on the label party's own columns: a session of one."""
    if (learner := learner_of(context.spec)) is not None:
        return learner.alone(context, test)
    spec, folder = context.spec, context.step("evaluate").file("alone")
    session = Session(
        me=context.me,
        parties=(context.me,),
        label_party=context.me,
        seed=spec.seed,
        folder=folder,
        progress=context.session.progress,
        secret=context.session.secret,
    )
    inputs = context.step("encode").path
    features, targets = encode.load(inputs), load_targets(inputs)
    data = data_of(spec, features)
    bottom, top = bottom_of(spec, session, features.layout), top_of(spec, session, targets.tasks)
    # The other schedules are ways of sending; nothing is sent here.
    options = replace(options_of(spec), schedule="exact")
    with session.progress.task(f"{context.me} alone"):
        train(
            session,
            split=encode.split_of(context, len(features)),
            bottom=bottom,
            data=data,
            top=top,
            labels=encode.load_labels(inputs),
            options=options,
            targets=targets,
        )
    scores = predict(
        session,
        samples=test,
        bottom=bottom,
        data=data,
        top=top,
        options=options,
        targets=targets,
    )
    assert scores is not None
    return reported(spec, inputs, bottom, scores)


def load_retrieval(spec: JobSpec, folder: Path) -> Retrieval | None:
    """The label party's side of a two-tower job, from its encode folder; None of other networks."""
    target, about = load_targets(folder), spec.train.model.retrieval
    if not isinstance(target, InBatch) or about is None:
        return None
    more, features = load_catalogue(folder / FOLDER), encode.load(folder)
    return Retrieval(
        target,
        encode.load_labels(folder),
        encode.load_split(folder, len(features)),
        data_of(spec, features),
        None if more is None else data_of(spec, more[0]),
        about.leave_out_seen,
    )


def reported(spec: JobSpec, folder: Path, bottom: nn.Module | None, scores: Scores) -> Scores:
    """Scores of the test samples as the report compares them: ranks where items are retrieved.

    Args:
        spec: the job.
        folder: the label party's encode folder.
        bottom: the label party's, trained as part of the network that gave the scores.
        scores: see `Targets.scores`.
    """
    retrieval = load_retrieval(spec, folder)
    if retrieval is None:
        return scores
    assert bottom is not None
    items = retrieval.item_vectors(bottom, options_of(spec).torch_device())
    return retrieval.ranks(scores, items)


def _keep_queries(context: Context, scores: Scores) -> None:
    """Of a two-tower job the users' vectors of the test samples, for the step that retrieves."""
    target = load_targets(context.step("encode").path)
    if isinstance(target, InBatch):
        queries = np.ascontiguousarray(scores[:, : target.width], dtype=np.float32)
        write_bytes(context.step("evaluate").file(QUERIES), save({"queries": queries}))


def _share(context: Context, measured: Measured) -> None:
    spec = context.spec
    shared = SharedFigures(
        metrics=measured.metrics(share_positives=False),
        uplift=measured.uplift(seed=spec.seed, resamples=spec.evaluate.resamples),
        targets=measured.target_figures(share_rows=False),
        ranking=measured.ranking(spec.evaluate, share_groups=False),
    )
    header: dict[str, Any] = rounded(shared.model_dump(mode="json"))
    for link in context.session.links.values():
        link.send(TOPIC, header=header)


def rounded(value: Any) -> Any:
    """A JSON value with all its fractional numbers to `SHARED_DIGITS` decimal places."""
    if isinstance(value, dict):
        return {name: rounded(below) for name, below in value.items()}
    if isinstance(value, list):
        return [rounded(below) for below in value]
    return round(value, SHARED_DIGITS) if isinstance(value, float) else value


def _receive(context: Context) -> SharedFigures:
    hub = context.session.hub
    header = hub.recv(TOPIC, timeout=PATIENCE).header
    try:
        shared = SharedFigures.model_validate(dict(header))
    except ValidationError as error:
        raise BadMessage(f"{hub.partner} sent metrics that are none") from error
    two_tower = context.spec.train.model.retrieval is not None
    check_targets(context.spec.label, shared.targets, hub.partner, retrieval=two_tower)
    check_ranking(context.spec.evaluate, shared.ranking, hub.partner)
    return shared


def _metrics_of(kind: str) -> tuple[str, ...]:
    return METRICS_OF[kind] + (METRICS_OF_AMOUNTS if kind == "real" else ())


def check_targets(
    label: LabelSpec, figures: Sequence[TargetFigures], partner: str, *, retrieval: bool = False
) -> None:
    """See that figures are of the partner's targets, whose names are known here, each metric once
    and without a number of rows, which is not told.

    Raises:
        BadMessage: they are of something else.
    """
    kinds: dict[str, str] = {n: one.kind for n, one in label.targets_of(partner).items()}
    if retrieval:
        kinds[label.name] = "retrieval"
    allowed = {(n, kind, metric) for n, kind in kinds.items() for metric in _metrics_of(kind)}
    given = [(one.name, one.kind, one.metric) for one in figures]
    counted = any(one.rows is not None for one in figures)
    if counted or len(given) != len(set(given)) or not allowed.issuperset(given):
        raise BadMessage(f"{partner} sent metrics of targets that the job does not have")
