"""A party's table as the job file describes it: the right columns, or an error that names them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

import polars as pl

from isthmus.data import FeatureSpec, load_table, parse_label, read_table
from isthmus.data.infer import infer_schema
from isthmus.data.schema import source_columns
from isthmus.errors import DataError, JobError, SchemaError
from isthmus.jobs.job import Job


def check_party(job: Job, party: str) -> None:
    """See that the job knows `party`, and that it brings a table. Raises JobError."""
    check_anyone(job, party)
    if party == job.spec.arbiter:
        raise JobError(
            f"{party} is the arbiter of {job.path}: it brings no table, and has a part in the "
            "training alone",
            mend="It runs `isthmus party` when the others do.",
        )


def check_anyone(job: Job, party: str) -> None:
    """See that the job knows `party`, be it with a table or the arbiter. Raises JobError."""
    if party not in job.spec.everyone:
        linear = job.spec.linear
        if linear is not None and party == linear.arbiter:
            raise JobError(
                f"{party} was the arbiter of the training, and {job.path} applies the model",
                mend="Predictions go without it: there is nothing for it to run.",
            )
        close = difflib.get_close_matches(party, job.spec.everyone, n=1)
        meant = f"Did you mean {close[0]!r}? " if close else ""
        known = ", ".join(job.spec.everyone)
        raise JobError(
            f"{party!r} is not a party of {job.path}", mend=f"{meant}Its parties: {known}."
        )


def check_table(job: Job, party: str) -> None:
    """See that `party`'s tables can be opened and have the columns that the job names.

    Raises:
        JobError: the job file names no table.
        DataError: a table cannot be read.
        SchemaError: a column is missing.
    """
    path = job.table_of(party)
    if not path.exists():
        raise DataError(
            f"{job.where('parties', party, 'table')}: there is no table {path}",
            mend="The path is relative to the job file.",
        )
    present = read_table(path).collect_schema().names()
    spec = job.spec
    _require(spec.key_of(party), present, path, "the key")
    features = spec.parties[party].features or {}
    _require(source_columns(features), present, path, f"parties.{party}.features")
    if spec.label.targets_of(party) and not spec.applies:
        _require_label(job, party, present, path)
    for name, feature in features.items():
        if feature.events is not None:
            _check_events(job, party, name, feature)


def events_of(job: Job, party: str, name: str) -> Path:
    """The table of events of a feature that is built from them; the party's own one by default.

    Raises:
        JobError: the job file here names no table for `party`.
    """
    events = (job.spec.parties[party].features or {})[name].events
    return job.table_of(party) if events is None else job.path.parent / events.expanduser()


def _check_events(job: Job, party: str, name: str, feature: FeatureSpec) -> None:
    path = events_of(job, party, name)
    if not path.exists():
        where = job.where("parties", party, "features", name, "events")
        raise DataError(
            f"{where}: there is no table {path}", mend="The path is relative to the job file."
        )
    present = read_table(path).collect_schema().names()
    _require(feature.event_columns, present, path, f"parties.{party}.features.{name}")


def read_columns(
    job: Job, party: str, columns: Iterable[str], *, text: Iterable[str] = ()
) -> pl.DataFrame:
    """The named columns of `party`'s table, in memory; `text` ones stay text."""
    return load_table(job.table_of(party), list(columns), text=list(text))


def features_of(job: Job, party: str) -> dict[str, FeatureSpec]:
    """The features as the job file says, else guessed from the table; ignored ones left out.

    Empty where a party brings only labels.
    """
    given = job.spec.parties[party].features
    features = given if given is not None else _guess(job, party)
    used = {name: spec for name, spec in features.items() if spec.kind != "ignore"}
    if given is None and not used:
        raise SchemaError(
            f"{party}'s table shows no feature to learn from",
            mend=f"Name some in parties.{party}.features; {{}} says that there is only a label.",
        )
    return used


def _guess(job: Job, party: str) -> dict[str, FeatureSpec]:
    guessed = infer_schema(read_table(job.table_of(party))).features
    taken: set[str | None] = set(job.spec.key_of(party))
    taken |= set(job.spec.label.columns_of(party))
    if job.spec.linear is not None and party == job.spec.label.party:
        taken |= {job.spec.linear.offset, job.spec.linear.exposure}
    return {name: spec for name, spec in guessed.items() if name not in taken}


def _require(names: Iterable[str], present: list[str], path: Path, what: str) -> None:
    for name in names:
        if name not in present:
            raise SchemaError(f"{path} has no column {name!r} ({what})", mend=_hint(name, present))


def _require_label(job: Job, party: str, present: list[str], path: Path) -> None:
    label = job.spec.label
    for also, target in label.targets_of(party).items():
        for name in parse_label(target.expression).columns:
            if name not in present:
                field = "label.party" if target.party is None else f"label.also.{also}.party"
                first = party == label.party and also == label.name
                place = "label" if first else f"label.also.{also}"
                raise SchemaError(
                    f"{path} has no column {name!r}, which the label {target.expression!r} needs "
                    f"({place}.expression)",
                    mend=f"{field} says that {party} holds it: if another party does, name that "
                    "one.",
                )
    if party != label.party:
        return
    named = {
        "label.weight": label.weight,
        "label.time": label.time,
        "split.per": job.spec.split.per,
        "evaluate.per": job.spec.evaluate.per,
    }
    if job.spec.linear is not None:
        named["linear.offset"] = job.spec.linear.offset
        named["linear.exposure"] = job.spec.linear.exposure
    if (about := job.spec.train.model.retrieval) is not None:
        named["train.model.retrieval.item"] = about.item
        named["train.model.retrieval.user"] = about.user
    for place, column in named.items():
        if column is not None:
            _require([column], present, path, place)


def _hint(name: str, present: list[str]) -> str:
    close = difflib.get_close_matches(name, present, n=1)
    if close:
        return f"Did you mean {close[0]!r}?"
    return f"Its columns are: {', '.join(present[:20])}{', ...' if len(present) > 20 else ''}."
