"""One party's part of a trial: its data, prepared once for all trials that share it; its training.

Files in the party's folder of the search: `data/<align8>-<encode8>/` (the steps `align` and
`encode`), and `trial/` while one is under way.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from isthmus.errors import PartnerFailed, TrainError
from isthmus.files import storage_error
from isthmus.jobs.artefacts import PartyFolder
from isthmus.jobs.context import Context
from isthmus.jobs.job import Job, agreed_part
from isthmus.jobs.runner import run_steps
from isthmus.jobs.steps import STEPS, train

_PREPARING = tuple(step for step in STEPS if step.name in ("align", "encode", "bin"))
_OF_TRAINING = ("name", "train", "linear", "trees", "evaluate", "predict")
"""Parts of a job that its encoded data does not depend on."""


def data_name(job: Job) -> str:
    """What tells jobs with other data apart: a digest of what the alignment, and one of what the
    encoding depends on.
    """
    data = _without(_of_data(job), "guards")
    if (about := job.spec.train.model.retrieval) is not None:
        # What two towers learn is made with their labels.
        data["retrieval"] = about.model_dump(mode="json", exclude={"catalogue"})
    return f"{alignment_name(job)}-{_digest(data)}"


def alignment_name(job: Job) -> str:
    """What tells jobs with another alignment apart."""
    return _digest(_without(_of_data(job), "guards", "features"))


def prepare(context: Context, home: Path) -> str:
    """Align and encode for the job, as far as that is not done; gives a token of the alignment.

    All parties call this at the same time. A job whose columns are encoded otherwise keeps the
    alignment of an earlier trial.

    Raises:
        IsthmusError: this party, or a partner, could not go on. The partners have been told.
    """
    folder = PartyFolder(home / "data" / data_name(context.job))
    with _told(context):
        earlier = _aligned_before(folder)
        folder.create()
        if earlier is not None:
            copy_step(earlier, folder, "align")
    context = replace(context, folder=folder)
    run_steps(context, resume=folder.step("align").is_sealed, steps=_PREPARING)
    marker = folder.step("align").marker()
    assert marker is not None
    return marker.token


def run_training(context: Context, home: Path) -> None:
    """Train for the job, which has been prepared; all parties call this at the same time.

    Raises:
        TrainError: training with these values could not go on, here or at a partner.
        IsthmusError: this party, or a partner, could not go on. The partners have been told.
    """
    folder = PartyFolder(home / "trial")
    with _told(context):
        remove(folder.path)
        folder.create()
        for step in _PREPARING:
            source = (home / "data" / data_name(context.job) / step.name).resolve()
            if not source.exists():
                continue
            folder.step(step.name).path.symlink_to(source, target_is_directory=True)
        folder.step("train").create()
        with context.session.progress.task("train"):
            train.run(replace(context, folder=folder))
        remove(folder.path)


def lend_data(home: Path, job: Job, folder: PartyFolder) -> None:
    """Give a run of the job the data that its trial had. Raises StorageError."""
    folder.create()
    for step in _PREPARING:
        copy_step(PartyFolder(home / "data" / data_name(job)), folder, step.name)


def copy_step(source: PartyFolder, target: PartyFolder, name: str) -> None:
    """Copy a finished step where there is none; one copied in part is not taken for finished.

    Raises:
        StorageError: it cannot be written.
    """
    if target.step(name).is_sealed or source.step(name).marker() is None:
        return
    try:
        target.step(name).clear()
        shutil.copytree(source.step(name).path, target.step(name).path)
    except OSError as error:
        raise storage_error(target.step(name).path, error) from error


def remove(folder: Path) -> None:
    """Remove a folder, if it is there. Raises StorageError."""
    try:
        if folder.exists():
            shutil.rmtree(folder)
    except OSError as error:
        raise storage_error(folder, error) from error


@contextmanager
def _told(context: Context) -> Iterator[None]:
    """Partners are told of what goes wrong; training that fails at one of them fails here too."""
    try:
        yield
    except BaseException as error:
        cause = _of_training(error)
        for link in context.session.links.values():
            link.fail(cause)
        if cause is not error:
            raise cause from error
        raise


def _of_training(error: BaseException) -> BaseException:
    # So that a third party, which hears of it by way of the label party, sees what it is.
    if isinstance(error, PartnerFailed) and error.partner_code.startswith(TrainError.code):
        return TrainError(error.message)
    return error


def _aligned_before(folder: PartyFolder) -> PartyFolder | None:
    """The data of an earlier trial with the same alignment, where `folder` has none yet."""
    if folder.path.exists():
        return None
    alignment = folder.path.name.partition("-")[0]
    known = sorted(folder.path.parent.glob(f"{alignment}-*"))
    found = [PartyFolder(path) for path in known]
    return next((one for one in found if one.step("align").is_sealed), None)


def _of_data(job: Job) -> dict[str, Any]:
    return {name: one for name, one in agreed_part(job.spec).items() if name not in _OF_TRAINING}


def _without(agreed: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The job's parts, those of a party less `names`."""
    parties = {
        party: {name: part for name, part in about.items() if name not in names}
        for party, about in agreed["parties"].items()
    }
    return {**agreed, "parties": parties}


def _digest(parts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8]
