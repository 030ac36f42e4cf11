"""A model that an earlier job has trained, applied to other rows: where it lies, and that it fits.

A job with `predict.model` names the earlier job by its folder, `<name>-<hash8>`, which each party
has under its own folder of results. It is the earlier job's file with other tables: what is learnt,
from which columns and how, must be what it was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from isthmus.data import FeatureSpec
from isthmus.data.columns import as_text, check_numbers
from isthmus.data.schema import parse_features, source_columns, text_columns
from isthmus.errors import BadMessage, JobError, SchemaError, StorageError
from isthmus.files import write_text
from isthmus.jobs.artefacts import PartyFolder
from isthmus.jobs.context import Context
from isthmus.jobs.job import Job, agreed_part, canonical_json
from isthmus.jobs.tables import read_columns
from isthmus.session import PATIENCE

JOB = "job.json"
"""What the parties agreed on, beside the steps' folders: the text that the job's hash is of."""

TOPIC = "predict.model"
COLUMNS = "columns.json"
"""In the folder of the step `encode`: the party's columns with their kinds, guessed or given."""

_SAME = ("label", "train", "bin", "linear", "trees", "scorecard")
_SAME_OF_PARTY = ("features", "clean")
MOST_NAMED = 3
_KINDS = {"numeric": "numbers", "categorical": "categories"}


def keep_job(context: Context) -> None:
    """Leave what was agreed, for later jobs that apply the model. Raises StorageError."""
    write_text(context.folder.file(JOB), canonical_json(context.spec))


def check_applied(job: Job, party: str, out: Path, *, resume: bool = False) -> None:
    """See that the earlier job's model is here and is of the same kind. None needed: nothing.

    Args:
        job: the job.
        party: this one.
        out: the folder of results.
        resume: whether what an earlier run of this job left is to be kept.

    Raises:
        JobError: there is none, it was not trained to the end, or it is of another kind; or there
            are predictions here already, perhaps of other tables, which the hash does not tell.
        DataError, SchemaError: the table lacks a column that the model learnt from, or has text
            where it had numbers.
    """
    name = job.spec.predict.model
    if name is None:
        return
    where, folder = job.where("predict", "model"), PartyFolder(out / name / party)
    earlier = PartyFolder(out / job.folder_name / party)
    if not resume and earlier.step("predict").is_sealed:
        raise JobError(
            f"{earlier.path} holds predictions that were made before",
            mend="Give these a name of their own, at every party, such as --set name=march; or "
            "remove that folder.",
        )
    before = _job_of(folder, name, where)
    if folder.step("train").marker() is None or folder.step("encode").marker() is None:
        raise JobError(
            f"{where}: {folder.path} holds no finished training",
            mend="Run that job to its end, with --resume.",
        )
    now = agreed_part(job.spec)
    for section in _SAME:
        if now.get(section) != before.get(section):
            raise _differs(where, section, name)
    parties = before["parties"]
    if list(parties) != list(job.spec.order):
        raise _differs(where, "parties", name)
    for one in job.spec.order:
        for field in _SAME_OF_PARTY:
            if now["parties"][one].get(field) != parties[one].get(field):
                raise _differs(where, f"parties.{one}.{field}", name)
    _check_columns(job, party, features_in(folder.step("encode").file(COLUMNS)))


def _check_columns(job: Job, party: str, columns: Mapping[str, FeatureSpec]) -> None:
    """See that the table has the columns that the model learnt from, in the kinds that it did."""
    source, model = str(job.table_of(party)), job.spec.predict.model
    try:
        needed = source_columns(columns)
        frame = read_columns(job, party, needed, text=text_columns(columns)) if needed else None
    except SchemaError as error:
        raise SchemaError(
            f"{error.message}, from which {model} has learnt",
            mend=f"{error.mend} A column that is called otherwise now must get its old name.",
        ) from error
    if frame is None:
        return
    for name, feature in columns.items():
        try:
            if feature.kind == "numeric":
                check_numbers(frame[name], source)
            elif feature.kind == "categorical":
                as_text(frame[name].clear(), source)
        except SchemaError as error:
            raise SchemaError(
                f"{error.message}; {model} has learnt from {_KINDS[feature.kind]} there",
                mend="Mend these rows, leave them empty, or bring the column as it was.",
            ) from error


def check_same_training(context: Context) -> None:
    """See that the partners apply their parts of one and the same training.

    Raises:
        JobError: another party's part is of another execution.
        BadMessage: a partner sent something else.
    """
    marker = context.trained("train").marker()
    token = "" if marker is None else marker.token
    links = context.session.links.values()
    for link in links:
        link.send(TOPIC, header={"token": token})
    for link in links:
        told = link.recv(TOPIC, timeout=PATIENCE).header.get("token")
        if not isinstance(told, str):
            raise BadMessage(f"{link.partner} sent no token of its training")
        if told != token:
            raise JobError(
                f"{link.partner}'s part of {context.spec.predict.model} is of another run of it",
                mend="Train again together, or bring the folders of one run.",
            )


def columns_json(features: Mapping[str, FeatureSpec]) -> dict[str, Any]:
    """What `trained_features` reads: columns as a job file has them, without local paths."""
    return {
        name: feature.model_dump(mode="json", exclude_defaults=True, exclude={"events"})
        for name, feature in features.items()
    }


def trained_features(context: Context) -> dict[str, FeatureSpec]:
    """The columns that the encoder was fitted on, as they were then. Raises StorageError."""
    return features_in(context.trained("encode").file(COLUMNS))


def features_in(path: Path) -> dict[str, FeatureSpec]:
    """What `columns_json` gave, from its file. Raises StorageError."""
    try:
        return parse_features(json.loads(path.read_bytes()), source=str(path))
    except (OSError, ValueError) as error:
        raise StorageError(f"{path} cannot be read", mend="Train the model again.") from error


def _job_of(folder: PartyFolder, name: str, where: str) -> dict[str, Any]:
    path = folder.file(JOB)
    try:
        text = path.read_bytes()
        found: dict[str, Any] = json.loads(text)
    except FileNotFoundError as error:
        raise JobError(f"{where}: there is no {path}", mend=_those_there(folder)) from error
    except (OSError, ValueError) as error:
        raise JobError(f"{where}: {path} cannot be read", mend="Train the model again.") from error
    if not hashlib.sha256(text).hexdigest().startswith(name.rpartition("-")[2]):
        raise JobError(f"{where}: {path} is not of the job that its folder is called after")
    return found


def _those_there(folder: PartyFolder) -> str:
    """The jobs beside the one that `folder` is of in which this party has finished a training."""
    out, party = folder.path.parent.parent, folder.path.name
    found = sorted(out.glob(f"*/{party}/train/done.json"), key=lambda one: one.stat().st_mtime)
    names = [path.parent.parent.parent.name for path in found[: -MOST_NAMED - 1 : -1]]
    there = f"The latest trainings of {party} there: {', '.join(names)}. " if names else ""
    return f"{there}--out names the folder in which the earlier job's folder lies."


def _differs(where: str, what: str, name: str) -> JobError:
    return JobError(
        f"{where}: {what} is not what it was in {name}",
        mend="Take that job's file, with other tables and predict.model alone.",
    )
