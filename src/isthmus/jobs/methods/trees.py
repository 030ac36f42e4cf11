"""Boosted trees in place of a network (`isthmus.trees`).

Files in the folder of `train`: `model.json` (this party's part: its cuts, and at the label party
the trees), `result.json` (for reading) and, at the label party, `fitted.safetensors` (the scores of
the training samples); while it is under way `checkpoints/`. All are of this party alone.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isthmus import trees
from isthmus.data import Split
from isthmus.errors import BadMessage, JobError
from isthmus.files import write_json
from isthmus.jobs.context import Context
from isthmus.jobs.job import Job
from isthmus.jobs.measured import Scores
from isthmus.jobs.methods.fitted import keep_fitted, seen
from isthmus.jobs.methods.own import Own, finished, labels_of, own_of, split_of, weights_of
from isthmus.jobs.rehearsal import rehearsal_secret
from isthmus.jobs.spec import JobSpec
from isthmus.jobs.targets import load_targets
from isthmus.session import PATIENCE, Progress, Session
from isthmus.trees import TreeModel, TreeOptions

Rows = NDArray[np.int64]

MODEL = "model.json"
RESULT = "result.json"
TOPIC = "train.classes"
_MOST_CLASSES = 1000


class TreesLearner:
    """See `isthmus.jobs.learners.Learner`."""

    def check(self, job: Job) -> None:
        """Raises JobError."""
        wanted, where = job.spec.trees, job.where("trees")
        try:
            options_of(job.spec, 2 if job.spec.label.kind == "multiclass" else None)
        except JobError as error:
            raise JobError(f"{where}: {error.message}", mend=error.mend) from None
        if wanted is not None and wanted.patience is not None and not job.spec.split.valid:
            raise JobError(
                f"{job.where('trees', 'patience')}: there are no validation samples to stop by",
                mend="Give split.valid a share, or leave patience out.",
            )

    def train(self, context: Context) -> None:
        """Raises DataError, TrainError, LinkError, StorageError."""
        began = context.clock()
        options = options_of(context.spec, _agree_on_classes(context))
        own = own_of(context)
        split = split_of(context, own)
        folder = context.step("train")
        session = replace(context.session, folder=folder.path)
        model = _fit(session, context, own, _columns(own), split, options)
        model.save(folder.file(MODEL))
        # Along the paths of these samples nobody learns what growing the trees has not shown.
        fitted = trees.predict(
            context.session, model, _table(_columns(own), seen(split)), paths=True
        )
        facts = _facts(context, model)
        if fitted is not None:
            facts["validation"] = keep_fitted(context, split, fitted, context.clock() - began)
        facts["seconds"] = round(context.clock() - began, 3)
        write_json(folder.file(RESULT), facts)
        trees.clear_checkpoints(folder.path)
        context.log.info("trained", cuts=len(model.cuts))

    def scores(self, context: Context, samples: NDArray[np.int64]) -> Scores | None:
        """Raises DataError, LinkError, StorageError."""
        model = TreeModel.load(context.trained("train").file(MODEL))
        return _predict(context, model, _table(_columns(own_of(context)), samples))

    def alone(self, context: Context, samples: NDArray[np.int64]) -> Scores:
        """Raises DataError, TrainError."""
        own = own_of(context)
        return _in_one_place(context, own, own.table, samples, context.session.secret)

    def pooled(self, job: Job, folder: Path, progress: Progress) -> Scores:
        """Raises DataError, TrainError, StorageError."""
        label = job.spec.label.party
        order = (label, *job.spec.feature_parties)
        views = {party: finished(job, folder, party, progress) for party in order}
        tables = {party: own_of(view) for party, view in views.items()}
        whole = pl.concat(
            [
                own.table.rename({name: f"{party}.{name}" for name in own.table.columns})
                for party, own in tables.items()
                if own.table.width
            ],
            how="horizontal",
        )
        test = split_of(views[label], tables[label]).test
        secret = rehearsal_secret(job.spec.seed, label)
        return _in_one_place(views[label], tables[label], whole, test, secret)


def options_of(spec: JobSpec, classes: int | None) -> TreeOptions:
    """What the parties agree on. Raises JobError."""
    wanted = spec.trees
    assert wanted is not None
    kind = spec.label.kind
    return TreeOptions(
        objective=wanted.family or kind,
        classes=classes,
        trees=wanted.trees,
        learning_rate=wanted.learning_rate,
        depth=wanted.depth,
        leaves=wanted.leaves,
        bins=wanted.bins,
        l2=wanted.l2,
        min_rows=wanted.min_rows,
        min_hessian=wanted.min_hessian,
        min_gain=wanted.min_gain,
        subsample=wanted.subsample,
        columns=wanted.columns,
        goss=wanted.goss,
        patience=wanted.patience,
        own_trees=wanted.own_trees,
        cell=wanted.cell,
        bits=wanted.bits,
        noise=wanted.noise,
    )


def _agree_on_classes(context: Context) -> int | None:
    """How many classes a label of several has, which only the label party knows at first."""
    if context.spec.label.kind != "multiclass":
        return None
    if context.is_label_party:
        classes = load_targets(context.step("encode").path).first.outputs
        for link in context.session.links.values():
            link.send(TOPIC, header={"classes": classes})
        return classes
    hub = context.session.hub
    told = hub.recv(TOPIC, timeout=PATIENCE).header.get("classes")
    if type(told) is not int or not 2 <= told <= _MOST_CLASSES:
        raise BadMessage(f"{hub.partner} sent no number of classes")
    return told


def _predict(context: Context, model: TreeModel, table: pl.DataFrame | None) -> Scores | None:
    wanted = context.spec.trees
    return trees.predict(context.session, model, table, paths=wanted is not None and wanted.paths)


def _columns(own: Own) -> pl.DataFrame | None:
    return own.table if own.table.width else None


def _table(columns: pl.DataFrame | None, samples: Rows) -> pl.DataFrame | None:
    return None if columns is None else columns[samples]


def _fit(
    session: Session,
    context: Context,
    own: Own,
    columns: pl.DataFrame | None,
    split: Split,
    options: TreeOptions,
) -> TreeModel:
    """Fit on the training samples; those for validation come behind them."""
    learnt = seen(split)
    table = _table(columns, learnt)
    if not session.is_label_party:
        return trees.fit(session, table, options=options)
    weights = weights_of(context, own)
    return trees.fit(
        session,
        table,
        labels_of(context, own, learnt)[learnt],
        options,
        weights=None if weights is None else weights[learnt],
        valid=np.arange(len(split.train), len(learnt)) if len(split.valid) else None,
    )


def _in_one_place(
    context: Context, own: Own, table: pl.DataFrame, samples: Rows, secret: bytes
) -> Scores:
    """The scores of a model of `table`, fitted here by the same code and the same draws."""
    session = Session(
        me=context.me,
        parties=(context.me,),
        label_party=context.me,
        seed=context.spec.seed,
        progress=context.session.progress,
        secret=secret,
    )
    options = options_of(context.spec, _classes(context))
    model = _fit(session, context, own, table, split_of(context, own), options)
    scores = trees.predict(session, model, table[samples])
    assert scores is not None
    return scores


def _classes(context: Context) -> int | None:
    first = load_targets(context.step("encode").path).first
    return first.outputs if first.kind == "multiclass" else None


def _facts(context: Context, model: TreeModel) -> dict[str, Any]:
    """For reading."""
    here = context.is_label_party
    valid = model.valid_losses or (None,) * len(model.losses)
    return {
        "kind": "trees",
        "objective": model.options.objective,
        "trees": model.rounds if here else None,
        "cuts": len(model.cuts),
        "rho": model.rho if model.options.noise else None,
        "start": list(model.start),
        "importance": [
            {
                "party": one.party,
                "column": one.column,
                "splits": one.splits,
                "gain": one.gain if here else None,
            }
            for one in model.importance()
        ],
        "curve": [
            {"trees": number, "training": training, "validation": validation}
            for number, (training, validation) in enumerate(
                zip(model.losses, valid, strict=True), start=1
            )
        ],
    }
