"""What can be found wrong at one party before it meets its partners: its table and its settings."""

from __future__ import annotations

import importlib.util
import re

import numpy as np

from isthmus.align.keys import check_keys
from isthmus.align.normalise import normalised
from isthmus.align.rr22_spu import find_spu
from isthmus.data import FeatureSpec, fit_encoder, read_table
from isthmus.data.label_columns import read_labels, read_weights
from isthmus.data.schema import source_columns, text_columns
from isthmus.data.times import times_of
from isthmus.errors import DataError, JobError
from isthmus.jobs import tabular
from isthmus.jobs.classes import check_both_classes
from isthmus.jobs.cleaning import check_cleaning
from isthmus.jobs.exposure import read_offset
from isthmus.jobs.histories import (
    check_own_labels,
    events_in,
    histories_in,
    is_own_table,
    load_events,
    no_time,
    own_time,
)
from isthmus.jobs.job import Job
from isthmus.jobs.learners import learner_of
from isthmus.jobs.looks import check_bins, check_looks
from isthmus.jobs.network import check_family
from isthmus.jobs.rankings import groups_of
from isthmus.jobs.retrieval.catalogue import check_retrieval
from isthmus.jobs.tables import (
    check_anyone,
    check_table,
    events_of,
    features_of,
    read_columns,
)

DEVICES = re.compile(r"auto|cpu|cuda(:\d{1,3})?")


def check_own_side(job: Job, party: str) -> None:
    """See that `party` can do its part of the job on this machine, as far as it can know alone.

    Raises:
        JobError: the job does not know the party, names no table for it, or asks for a device or a
            package that is not there.
        DataError: the table cannot be read, or does not hold what the job says.
        AlignError: the key columns hold no ids, missing ones or repeated ones.
    """
    check_anyone(job, party)
    check_settings(job)
    if party == job.spec.arbiter:
        return
    check_table(job, party)
    check_values(job, party)
    if party == job.spec.label.party and job.spec.train.model.retrieval is not None:
        check_retrieval(job)


def check_settings(job: Job) -> None:
    """See that the device and the packages that the job asks for are here. Raises JobError."""
    _check_device(job)
    check_choices(job)
    if job.spec.align.protocol == "rr22":
        find_spu()
    if job.spec.train.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise JobError(
            f"{job.where('train', 'tensorboard')}: the package tensorboard is not installed",
            mend="Run `pip install 'isthmus[tensorboard]'`, or leave the field out.",
        )


def check_choices(job: Job) -> None:
    """See that what the job chooses is there, and goes together. Raises JobError."""
    check_looks(job)
    _check_errors(job)
    # They take seconds to load, which a job without them need not wait for here.
    if (learner := learner_of(job.spec)) is not None:
        learner.check(job)
    if job.spec.learns != "network":
        return
    check_family(job)
    _check_guards(job)
    _check_schedule(job)


def _check_errors(job: Job) -> None:
    linear = job.spec.linear
    if linear is None or not linear.standard_errors or job.spec.label.weight is None:
        return
    if linear.family in ("logistic", "poisson"):
        raise JobError(
            f"{job.where('linear', 'standard_errors')}: there are none of a weighted "
            f"{linear.family} regression yet",
            mend="Leave standard_errors out, or label.weight.",
        )


def check_values(job: Job, party: str) -> None:
    """See that the table of `party` holds ids, numbers and labels where the job says so.

    Raises:
        DataError: text in a numeric column, missing labels, labels of one class, no rows.
        AlignError: the ids are missing, repeated, or of a kind that cannot be an id.
    """
    spec, source = job.spec, str(job.table_of(party))
    key = spec.key_of(party)
    ids = read_columns(job, party, key, text=key)
    if not len(ids):
        raise DataError(f"{source} holds no rows")
    events = spec.align.keys == "entity" and party == spec.label.party
    written, _ = normalised(ids, spec.align.rules)
    check_keys(written, repeats="keep" if events else spec.align.duplicates, nulls=spec.align.nulls)
    if spec.applies:
        return
    if party == spec.label.party:
        _check_labels(job, source)
    elif targets := spec.label.targets_of(party):
        frame = read_columns(job, party, spec.label.columns_of(party))
        for target in targets.values():
            read_labels(frame, target.expression, target.kind, may_miss=True, source=source)
    if spec.is_tabular:
        check_cleaning(job, party, tabular.columns_of(job, party))
        check_bins(job, party, tabular.columns_of(job, party))
        tabular.read(job, party)
        tabular.rows_kept(job, party)
    if spec.learns != "network":
        return
    features = features_of(job, party)
    codes = text_columns(features)
    columns = source_columns(features)
    if columns:
        # Fitted on one row, it looks at all values of numeric columns and at the type of the rest.
        frame = read_columns(job, party, columns, text=codes)
        fit_encoder(frame, features, np.zeros(1, dtype=np.int64), source=source)
    for name, feature in histories_in(features):
        _check_history(job, party, name, feature)


def _check_labels(job: Job, source: str) -> None:
    label = job.spec.label
    frame = read_columns(job, label.party, label.columns)
    first = read_labels(
        frame, label.expression, label.kind, may_miss=label.kind != "binary", source=source
    )
    if job.spec.train.model.retrieval is not None:
        if not first.values.any():
            raise DataError(
                f"label.expression {label.expression!r} is negative in all {len(frame)} rows of "
                f"{source}: nothing can be retrieved",
                mend="Does the expression say what is meant?",
            )
    elif label.kind == "binary":
        found = first.values.astype(np.float32)
        check_both_classes(label.expression, found, f"{len(found)} rows of {source}")
    for also in list(label.targets_of(label.party).values())[1:]:
        read_labels(frame, also.expression, also.kind, may_miss=True, source=source)
    if label.weight is not None:
        read_weights(frame, label.weight, source=source)
    read_offset(job)
    if (per := job.spec.evaluate.per) is not None:
        groups_of(read_columns(job, label.party, [per], text=[per]), per, source)
    if (per := job.spec.split.per) is not None:
        groups_of(read_columns(job, label.party, [per], text=[per]), per, source)
    if label.time is not None:
        _check_time(job, label.time, source)


def _check_time(job: Job, name: str, source: str) -> None:
    """See that every row has a time, and that a split by time has something to go by."""
    where = job.where("label", "time")
    times = times_of(read_columns(job, job.spec.label.party, [name])[name], source)
    if missing := int(np.count_nonzero(np.isnan(times))):
        raise DataError(
            f"{where}: the time {name!r} is missing in {missing} of {len(times)} rows of {source}",
            mend="Fill the column or drop these rows before the job.",
        )
    if job.spec.split.by == "time" and times.min() == times.max():
        raise DataError(
            f"{where}: the time {name!r} is the same in all rows of {source}, by which they cannot "
            "be divided",
            mend="Name another column, or divide at random.",
        )


def _check_history(job: Job, party: str, name: str, feature: FeatureSpec) -> None:
    """See that the events can be read, and that the samples' own times will be known."""
    present = read_table(job.table_of(party)).collect_schema().names()
    column, label = own_time(feature, present), job.spec.label
    told = label.time is not None and (party == label.party or label.share_time)
    if column is None and not told:
        raise no_time(job, party, name)
    own = None
    if column is not None:
        own = times_of(read_columns(job, party, [column])[column], str(job.table_of(party)))
    source = str(events_of(job, party, name))
    by = str(feature.by)
    owners = read_columns(job, party, [by], text=[by])[by]
    table = load_events(job, party, name, feature)
    if own is not None and is_own_table(job, party, name):
        check_own_labels(job, party, name, table, own)
    events, _ = events_in(table, feature, owners, source=source)
    if not len(events.items):
        raise DataError(
            f"{job.where('parties', party, 'features', name)}: no event of {source} counts",
            mend="Are the owners' ids the same in both tables, and does `where` say what is meant?",
        )


def _check_guards(job: Job) -> None:
    own = {name: party.guards.model_dump() for name, party in job.spec.parties.items()}
    places: dict[tuple[str, ...], dict[str, str | None]]
    places = {("train",): job.spec.train.guards.model_dump()}
    places |= {("parties", name): guards for name, guards in own.items()}
    for above, guards in places.items():
        for way, text in guards.items():
            if text not in (None, "none"):
                _check_guard(text, job.where(*above, "guards", way))


def _check_guard(text: str, where: str) -> None:
    from isthmus.split.guards import parse_guard

    try:
        parse_guard(text)
    except JobError as error:
        raise JobError(f"{where}: {error.message}", mend=error.mend) from None


def _check_schedule(job: Job) -> None:
    if job.spec.train.schedule == "exact":
        return
    from isthmus.split.schedules import make_schedule

    try:
        make_schedule(job.spec.train.schedule)
    except JobError as error:
        where = job.where("train", "schedule")
        raise JobError(f"{where}: {error.message}", mend=error.mend) from None


def _check_device(job: Job) -> None:
    device = job.spec.train.device
    where = job.where("train", "device")
    if DEVICES.fullmatch(device) is None:
        raise JobError(
            f"{where}: {device!r} is not a device", mend="Write auto, cpu, cuda, or cuda:1."
        )
    if device in ("auto", "cpu"):
        return
    # Takes seconds to load, which a job without such a wish need not wait for here.
    import torch

    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(device.partition(":")[2] or 0) >= there:
        found = f"{there} of them are" if there > 1 else "one is" if there else "no such device is"
        raise JobError(
            f"{where}: {device!r} is asked for, but {found} on this machine",
            mend="Write cpu, or auto, which takes CUDA where there is one.",
        )
