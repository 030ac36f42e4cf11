"""A search with all parties in this process: it goes on where it stopped."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from isthmus.errors import JobError, TrainError
from isthmus.jobs.artefacts import PartyFolder
from isthmus.jobs.context import Context
from isthmus.jobs.job import Job, changed_job, load_job
from isthmus.jobs.precheck import check_choices, check_own_side
from isthmus.jobs.rehearsal import rehearsal_secrets
from isthmus.jobs.tune.report import TuneReport, make_report, run_command, write_report
from isthmus.jobs.tune.space import Space, as_overrides, check_space, is_comparable
from isthmus.jobs.tune.study import (
    Attempt,
    Judge,
    check_data,
    need_optuna,
    open_study,
    search_name,
)
from isthmus.jobs.tune.trial import alignment_name, data_name, prepare, run_training
from isthmus.session import Progress, Session, SilentProgress, run_parties

if TYPE_CHECKING:
    from optuna import Study


@dataclass(frozen=True, kw_only=True)
class Search:
    """What is searched, and where its results go."""

    job: Path
    space: Space
    source: Path
    """The file that `space` was read from, for messages."""
    overrides: tuple[str, ...] = ()
    """As after `--set`: for all trials."""
    out: Path = Path("runs")
    progress: Progress = field(default_factory=SilentProgress)
    clock: Callable[[], float] = time.monotonic
    on_trial: Callable[[TuneReport], None] = lambda report: None
    """Called after each trial."""


def run_search(search: Search) -> Path:
    """Run the trials that are still to run; gives the page, beside which lies `tune.json`.

    The folder is `out/<job>-<hash8>-tune-<space8>`: the same search goes on there.

    Raises:
        JobError: the job or the space is not valid, Optuna is not installed.
        StorageError: the folder cannot be written, or a table changed since the first trials.
        IsthmusError: a trial could not run for a cause that its values have no part in.
    """
    need_optuna()
    job = load_job(search.job, search.overrides)
    is_comparable(job)
    check_space(search.space, job, search.source)
    for party in job.spec.order:
        check_own_side(job, party)
    folder = search.out / search_name(job, search.space)
    study = open_study(folder, job)
    bench = Workbench(folder, search.progress)
    report = _report(search, study, job)
    while len(report.trials) < search.space.trials:
        _run_one(search, study, bench, job, len(report.trials))
        report = _report(search, study, job)
        write_report(folder, report)
        search.on_trial(report)
    return write_report(folder, report)


def _report(search: Search, study: Study, job: Job) -> TuneReport:
    command = ("isthmus", "run", str(search.job), *run_command(search.overrides))
    return make_report(study, job, search.space, command)


def _run_one(search: Search, study: Study, bench: Workbench, job: Job, ended: int) -> None:
    prune = job.spec.learns == "network"
    attempt = Attempt(study, search.space, job.spec.train.metric, ended, prune=prune)
    began = search.clock()
    try:
        with search.progress.task(f"trial {attempt.number} of {search.space.trials}"):
            changed = changed_job(job, as_overrides(attempt.values))
            check_choices(changed)
            check_data(study, alignment_name(changed), bench.prepare(changed))
            bench.train(changed, attempt.judge)
    except (JobError, TrainError) as error:
        # Values that do not go together, or with which training diverges: a finding, no fault.
        attempt.fail(error.message)
    except BaseException:
        # In a thread of its own a party trains on until its next epoch ends.
        attempt.judge.stopped = True
        raise
    attempt.close(search.clock() - began)


class Workbench:
    """Where trials run; trials that differ in their training alone share encoded data.

    Args:
        folder: of the search; each party has one of its own in it.
        progress: where all parties report to.
    """

    def __init__(self, folder: Path, progress: Progress) -> None:
        self._folder, self._progress = folder, progress
        self._prepared: dict[str, str] = {}

    def prepare(self, job: Job) -> str:
        """Align and encode for the job, if that is not done yet; gives a token of the alignment.

        Raises:
            IsthmusError: the first cause, of whichever party.
        """
        known = data_name(job)
        if known not in self._prepared:

            def program(session: Session) -> None:
                context, home = _home(job, session)
                token = prepare(context, home)
                if session.is_label_party:
                    self._prepared[known] = token

            self._run(job, program)
        return self._prepared[known]

    def train(self, job: Job, judge: Judge) -> None:
        """Train for the job, which has been prepared; `judge` sees each epoch at the label party.

        Raises:
            IsthmusError: the first cause, of whichever party.
        """

        def program(session: Session) -> None:
            context, home = _home(job, session, judge if session.is_label_party else None)
            run_training(context, home)

        self._run(job, program)

    def _run(self, job: Job, program: Callable[[Session], None]) -> None:
        spec = job.spec
        run_parties(
            dict.fromkeys(spec.order, program),
            label_party=spec.label.party,
            seed=spec.seed,
            folder=self._folder,
            progress=self._progress,
            secrets=rehearsal_secrets(spec.seed, spec.order),
        )


def _home(job: Job, session: Session, judge: Judge | None = None) -> tuple[Context, Path]:
    assert session.folder is not None
    folder = PartyFolder(session.folder)
    folder.create()
    return Context(job=job, session=session, folder=folder, workers=0, judge=judge), folder.path
