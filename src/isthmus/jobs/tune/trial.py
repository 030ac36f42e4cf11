"""One trial of a search: the job's steps up to the end of training, all parties in this process."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from isthmus.files import storage_error
from isthmus.jobs.artefacts import PartyFolder
from isthmus.jobs.context import Context
from isthmus.jobs.job import Job, agreed_part
from isthmus.jobs.rehearsal import rehearsal_secrets
from isthmus.jobs.runner import run_steps
from isthmus.jobs.steps import STEPS
from isthmus.session import Progress, Session, run_parties
from isthmus.split.options import EpochRecord

Judge = Callable[[EpochRecord], str]

_PREPARING = tuple(step for step in STEPS if step.name in ("align", "encode"))
_TRAINING = tuple(step for step in STEPS if step.name == "train")
_OF_TRAINING = ("name", "train", "evaluate", "predict")
"""Parts of a job that its encoded data does not depend on."""


class Workbench:
    """Where trials run; trials that differ in their training alone share encoded data.

    Args:
        folder: for the encoded data of the trials and the files of the one under way.
        progress: where all parties report to.
    """

    def __init__(self, folder: Path, progress: Progress) -> None:
        self._folder, self._progress = folder, progress
        self._prepared: dict[str, str] = {}

    def prepare(self, job: Job) -> tuple[str, str]:
        """Align and encode for the job, if that is not done yet.

        Returns:
            What the data is of, and a token of the execution in which it was made.

        Raises:
            IsthmusError: the first cause, of whichever party.
        """
        known = data_digest(job)
        if known not in self._prepared:
            folder = self._folder / "data" / known
            resume = folder.exists()

            def program(session: Session) -> None:
                assert session.folder is not None
                home = PartyFolder(session.folder)
                home.create()
                run_steps(_context(job, session, home), resume=resume, steps=_PREPARING)

            self._run(job, folder, program)
            marker = PartyFolder(folder / job.spec.label.party).step("align").marker()
            assert marker is not None
            self._prepared[known] = marker.token
        return known, self._prepared[known]

    def train(self, job: Job, judge: Judge) -> None:
        """Train for the job, which has been prepared; `judge` sees each epoch at the label party.

        Raises:
            IsthmusError: the first cause, of whichever party.
        """
        data, folder = self._folder / "data" / data_digest(job), self._folder / "trial"
        _remove(folder)

        def program(session: Session) -> None:
            assert session.folder is not None
            home = PartyFolder(session.folder)
            home.create()
            for step in _PREPARING:
                source = (data / session.me / step.name).resolve()
                home.step(step.name).path.symlink_to(source, target_is_directory=True)
            of_label_party = judge if session.is_label_party else None
            context = _context(job, session, home, of_label_party)
            run_steps(context, resume=False, steps=_TRAINING)

        self._run(job, folder, program)
        _remove(folder)

    def _run(self, job: Job, folder: Path, program: Callable[[Session], None]) -> None:
        spec = job.spec
        run_parties(
            dict.fromkeys(spec.order, program),
            label_party=spec.label.party,
            seed=spec.seed,
            folder=folder,
            progress=self._progress,
            secrets=rehearsal_secrets(spec.seed, spec.order),
        )


def data_digest(job: Job) -> str:
    """What tells jobs with other encoded data apart: a folder's name."""
    agreed = agreed_part(job.spec)
    parts = {name: part for name, part in agreed.items() if name not in _OF_TRAINING}
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8]


def _context(
    job: Job, session: Session, folder: PartyFolder, judge: Judge | None = None
) -> Context:
    return Context(job=job, session=session, folder=folder, workers=0, judge=judge)


def _remove(folder: Path) -> None:
    try:
        if folder.exists():
            shutil.rmtree(folder)
    except OSError as error:
        raise storage_error(folder, error) from error
