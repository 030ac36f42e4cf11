"""A generalised linear model in place of a network (`isthmus.linear`).

Files in the folder of `train`: `columns.json` (how this party's columns become numbers),
`model.json` (its coefficients), `result.json` (both for reading), of a scorecard also what
`isthmus.jobs.methods.scorecard` names, and, at the label party,
`fitted.safetensors` (the scores of the training samples). All are of this party alone.
"""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus import linear
from isthmus.errors import DataError, JobError, TrainError
from isthmus.files import write_json
from isthmus.jobs.arbiter import call_arbiter
from isthmus.jobs.context import Context
from isthmus.jobs.job import Job
from isthmus.jobs.measured import Scores
from isthmus.jobs.methods.columns import Design, check_whole, fit_design
from isthmus.jobs.methods.fitted import keep_fitted, seen
from isthmus.jobs.methods.needs import check_vertical
from isthmus.jobs.methods.own import (
    Own,
    finished,
    labels_of,
    offset_of,
    own_of,
    split_of,
    weights_of,
)
from isthmus.jobs.methods.scorecard import make_card
from isthmus.jobs.spec import JobSpec
from isthmus.linear import LinearOptions, LinearResult
from isthmus.linear.arbiter import parts_of
from isthmus.session import Progress

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

COLUMNS = "columns.json"
MODEL = "model.json"
RESULT = "result.json"
_FIELDS = r"\b(least_columns|rows_per_column|batch_size|learning_rate|stop)\b"
"""That errors of the model name."""
CHUNK = 1 << 17
"""Samples that are scored at a time, at every party alike."""


class LinearLearner:
    """See `isthmus.jobs.learners.Learner`."""

    def check(self, job: Job) -> None:
        """Raises JobError."""
        if not job.spec.applies:
            check_vertical(job, "linear")
        try:
            options_of(job.spec)
        except JobError as error:
            where = job.where("linear")
            raise JobError(f"{where}: {error.message}", mend=error.mend) from None
        _check_moments(job)

    def train(self, context: Context) -> None:
        """Raises DataError, JobError, TrainError, LinkError, StorageError."""
        began = context.clock()
        own, options = own_of(context), options_of(context.spec)
        split = split_of(context, own)
        # Moments shows nothing of the training samples, and this would.
        hidden = options.protocol != "vectors"
        train, known = split.train, split.valid if hidden else seen(split)
        design = design_of(context, own, train, options)
        data = design.apply(own.table[train]) if design.columns else None
        result = _fit(context, own, train, design, data, options)
        folder = context.step("train")
        design.save(folder.file(COLUMNS))
        result.save(folder.file(MODEL))
        make_card(context, design, result)
        parts = _shares(context, result, design, own, known)
        facts = _facts(context, result, design)
        if parts is not None:
            if not hidden:
                facts["shares"] = {p: float(part[: len(train)].std()) for p, part in parts.items()}
            fitted = _mean(context, own, result, parts, known)
            facts["validation"] = keep_fitted(context, split, fitted, context.clock() - began)
        facts["seconds"] = round(context.clock() - began, 3)
        write_json(folder.file(RESULT), facts)
        context.log.info("trained", rounds=result.rounds, converged=result.converged)

    def scores(self, context: Context, samples: NDArray[np.int64]) -> Scores | None:
        """Raises LinkError, StorageError."""
        folder, own = context.trained("train"), own_of(context)
        design, result = Design.load(folder.file(COLUMNS)), LinearResult.load(folder.file(MODEL))
        for column in own.table:
            check_whole(column, context.me)
        parts = _shares(context, result, design, own, samples)
        return None if parts is None else _mean(context, own, result, parts, samples)

    def alone(self, context: Context, samples: NDArray[np.int64]) -> Scores:
        """Raises DataError, TrainError."""
        own = {context.me: own_of(context)}
        return _in_one_place(context, own, split_of(context, own[context.me]).train, samples)

    def pooled(self, job: Job, folder: Path, progress: Progress) -> Scores:
        """Raises DataError, TrainError, StorageError."""
        views = {party: finished(job, folder, party, progress) for party in job.spec.order}
        own = {party: own_of(view) for party, view in views.items()}
        context = views[job.spec.label.party]
        split = split_of(context, own[context.me])
        return _in_one_place(context, own, split.train, split.test)


def options_of(spec: JobSpec) -> LinearOptions:
    """What the parties agree on. Raises JobError."""
    wanted = spec.linear
    assert wanted is not None
    return LinearOptions(
        family=wanted.family,
        protocol=wanted.protocol,
        arbiter=wanted.arbiter,
        power=wanted.power,
        l2=wanted.l2,
        l1=wanted.l1,
        tolerance=wanted.tolerance,
        rounds=wanted.rounds,
        standard_errors=wanted.standard_errors,
        least_columns=wanted.least_columns,
        rows_per_column=wanted.rows_per_column,
        batch_size=wanted.batch_size,
        epochs=wanted.epochs,
        learning_rate=wanted.learning_rate,
        decay=wanted.decay,
        stop=wanted.stop,
        loss_change=wanted.loss_change,
    )


def serve(context: Context) -> None:
    """Fit as the arbiter, and leave what there is to tell of it. Raises LinkError, StorageError."""
    began = context.clock()
    result = linear.fit(context.session, None, options=options_of(context.spec))
    facts = _facts(context, result, Design(()))
    facts["seconds"] = round(context.clock() - began, 3)
    write_json(context.step("train").file(RESULT), facts)
    context.log.info("trained", rounds=result.rounds, converged=result.converged)


def design_of(
    context: Context, own: Own, train: Rows, options: LinearOptions, party: str = ""
) -> Design:
    """How a party's columns become numbers. Raises DataError."""
    binned = _binned(context)
    design = fit_design(
        own.table,
        train,
        least=options.least_group,
        # WOE is a scale of its own: points are made of its coefficients.
        scale=not binned,
        party=party or context.me,
        parts=parts_of(context.session, len(train), options),
    )
    if not design.columns and not context.is_label_party:
        mend = "Lower bin.least_iv." if binned else "Name some in its features."
        raise DataError(f"no column of {context.me} is left to learn from", mend=mend)
    return design


def _binned(context: Context) -> bool:
    """Whether models learn from WOE."""
    return context.spec.bin is not None and context.spec.bin.transform


def _check_moments(job: Job) -> None:
    spec = job.spec
    if spec.linear is None or spec.linear.protocol != "moments":
        return
    where = job.where("linear", "protocol")
    if spec.label.weight is not None:
        raise JobError(f"{where}: moments knows no weights", mend="Write vectors.")
    if len(spec.feature_parties) > 1:
        raise JobError(f"{where}: moments is for one feature party", mend="Write vectors.")


def _fit(
    context: Context,
    own: Own,
    train: Rows,
    design: Design,
    data: Floats | None,
    options: LinearOptions,
) -> LinearResult:
    session = call_arbiter(context)
    try:
        if not context.is_label_party:
            return linear.fit(session, data, options=options)
        return linear.fit(
            session,
            data,
            labels_of(context, own, train)[train],
            options,
            weights=_at(weights_of(context, own), train),
            offset=_at(offset_of(context, own), train),
        )
    except (DataError, JobError, TrainError) as error:
        mend = re.sub(_FIELDS, r"linear.\1", error.mend)
        raise type(error)(_named(error.message, design), mend=mend) from error


def _named(message: str, design: Design) -> str:
    """Names in place of the numbers that the model knows columns by."""
    terms = design.terms

    def name(found: re.Match[str]) -> str:
        number = int(found[1])
        if number >= len(terms):
            return found[0]
        term = terms[number]
        return repr(term.column) if term.level is None else f"{term.column!r} = {term.level!r}"

    return re.sub(r"\bcolumn (\d+)\b", name, message)


def _shares(
    context: Context, result: LinearResult, design: Design, own: Own, samples: Rows
) -> dict[str, Floats] | None:
    """At the label party each party's part of the linear predictor, float64 [samples]."""
    parts: list[dict[str, Floats]] = []
    for start in range(0, len(samples), CHUNK):
        table = own.table[samples[start : start + CHUNK]] if design.columns else None
        data = None if table is None else design.apply(table)
        found = linear.shares(context.session, result, data)
        if found is not None:
            parts.append(found)
    if not parts:
        return {} if context.is_label_party else None
    return {party: np.concatenate([part[party] for part in parts]) for party in parts[0]}


def _mean(
    context: Context, own: Own, result: LinearResult, parts: dict[str, Floats], samples: Rows
) -> Scores:
    """The expected labels, float64 [samples]."""
    eta = np.full(len(samples), result.intercept or 0.0)
    for part in parts.values():
        eta += part
    offset = _at(offset_of(context, own), samples)
    return result.options.likelihood().mean(eta if offset is None else eta + offset)


def _in_one_place(context: Context, own: dict[str, Own], train: Rows, samples: Rows) -> Scores:
    """The scores of a model of these parties' columns, fitted here on the samples of `train`."""
    options = replace(
        options_of(context.spec),
        protocol="vectors",
        arbiter=None,
        stop="steps",
        rounds=None,
        standard_errors=False,
    )
    mine = own[context.me]
    designs = {party: design_of(context, one, train, options, party) for party, one in own.items()}
    offset = offset_of(context, mine)

    def data(rows: Rows) -> Floats:
        parts = [designs[p].apply(one.table[rows]) for p, one in own.items() if one.table.width]
        return np.hstack(parts) if parts else np.empty((len(rows), 0))

    result = linear.fit_alone(
        data(train),
        labels_of(context, mine, train)[train],
        options,
        weights=_at(weights_of(context, mine), train),
        offset=_at(offset, train),
    )
    return linear.predict_alone(result, data(samples), offset=_at(offset, samples))


def _at(values: Floats | None, rows: Rows) -> Floats | None:
    return None if values is None else values[rows]


def _facts(context: Context, result: LinearResult, design: Design) -> dict[str, Any]:
    """For reading: of a numeric column the coefficient by unit and by standard deviation."""
    scaled = not _binned(context)
    errors, p_values = result.standard_errors, None
    if errors is not None:
        p_values = result.p_values()
    coefficients = [
        {
            "column": term.column,
            "level": term.level,
            "coefficient": value / term.deviation,
            "by_deviation": value if scaled and term.level is None else None,
            "standard_error": None if errors is None else float(errors[n]) / term.deviation,
            "p_value": None if p_values is None else float(p_values[n]),
        }
        for n, (term, value) in enumerate(
            zip(design.terms, result.coefficients.tolist(), strict=True)
        )
    ]
    return {
        "kind": "linear",
        "options": asdict(result.options),
        "coefficients": coefficients,
        "intercept": result.intercept,
        "intercept_error": result.intercept_error,
        "dispersion": result.dispersion,
        "loss": result.loss,
        "losses": list(result.losses),
        "rounds": result.rounds,
        "converged": result.converged,
        "shown": result.shown,
        "shares": {},
    }
