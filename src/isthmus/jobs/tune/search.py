"""The search itself: draws values, runs trials, keeps what came out, goes on where it stopped.

Values are drawn by Optuna's tree-structured Parzen estimator (Bergstra et al., "Algorithms for
Hyper-Parameter Optimization", NIPS 2011). Each draw has a seed of its own, by the number of trials
that have ended, so that a search that was stopped draws what it would have drawn else.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus.errors import JobError, StorageError, TrainError
from isthmus.files import storage_error
from isthmus.jobs.job import Job, load_job
from isthmus.jobs.precheck import check_choices, check_own_side
from isthmus.jobs.tune.report import TuneReport, make_report, write_report
from isthmus.jobs.tune.space import Space, Values, as_overrides, check_space, is_comparable
from isthmus.jobs.tune.trial import Workbench
from isthmus.session import Progress, SilentProgress
from isthmus.split.options import EpochRecord

if TYPE_CHECKING:
    from optuna import Study, Trial

WORSE = "worse than the median of the other trials"


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
    if importlib.util.find_spec("optuna") is None:
        raise JobError(
            "the package optuna is not installed", mend="Run `pip install 'isthmus[tune]'`."
        )
    job = load_job(search.job, search.overrides)
    is_comparable(job)
    check_space(search.space, search.job, search.overrides, search.source)
    for party in job.spec.order:
        check_own_side(job, party)
    folder = search.out / f"{job.folder_name}-tune-{_digest(search.space)}"
    study = _open(folder, job)
    bench = Workbench(folder, search.progress)
    report = make_report(study, job, search)
    while len(report.trials) < search.space.trials:
        _run_one(search, study, bench, job.spec.train.metric, len(report.trials))
        report = make_report(study, job, search)
        write_report(folder, report)
        search.on_trial(report)
    return write_report(folder, report)


def _run_one(search: Search, study: Study, bench: Workbench, metric: str, ended: int) -> None:
    from optuna.pruners import MedianPruner
    from optuna.samplers import TPESampler
    from optuna.trial import TrialState

    space = search.space
    study.pruner = MedianPruner(n_startup_trials=space.startup)
    study.sampler = TPESampler(seed=space.seed + ended, n_startup_trials=space.startup)
    trial = study.ask()
    values = {name: _draw(trial, name, one) for name, one in space.space.items()}
    trial.set_user_attr("values", values)
    judge = _Judge(trial, metric, space.prune)
    began = search.clock()
    try:
        with search.progress.task(f"trial {ended + 1} of {space.trials}"):
            job = load_job(search.job, (*search.overrides, *as_overrides(values)))
            check_choices(job)
            _check_data(study, *bench.prepare(job))
            bench.train(job, judge)
    except (JobError, TrainError) as error:
        # Values that do not go together, or with which training diverges: a finding, no fault.
        trial.set_user_attr("error", error.message)
    except BaseException:
        # In a thread of its own a party trains on until its next epoch ends.
        judge.stopped = True
        raise
    trial.set_user_attr("seconds", round(search.clock() - began, 3))
    if "error" in trial.user_attrs or judge.best is None:
        study.tell(trial, state=TrialState.FAIL)
    elif judge.pruned:
        study.tell(trial, state=TrialState.PRUNED)
    else:
        study.tell(trial, judge.best)


class _Judge:
    """Tells the study each epoch's metric and ends a trial that is not worth its time."""

    def __init__(self, trial: Trial, metric: str, prune: bool) -> None:
        self._trial, self._metric, self._prune = trial, metric, prune
        self._sign = 1.0 if metric == "auc" else -1.0
        self.best: float | None = None
        self.pruned = self.stopped = False

    def __call__(self, record: EpochRecord) -> str:
        if self.stopped:
            return "the search was stopped"
        value: float | None = getattr(record, f"valid_{self._metric}")
        assert value is not None
        if self.best is None or self._sign * (value - self.best) > 0:
            self.best = value
        self._trial.report(value, record.epoch)
        self.pruned = self._prune and self._trial.should_prune()
        return WORSE if self.pruned else ""


def _draw(trial: Trial, name: str, values: Values) -> Any:
    if values.choice is not None:
        # Optuna keeps texts and numbers; a choice may be a list.
        return json.loads(trial.suggest_categorical(name, [json.dumps(v) for v in values.choice]))
    low, high = values.low, values.high
    assert low is not None
    assert high is not None
    if values.is_whole:
        step = int(values.step or 1)
        return trial.suggest_int(name, int(low), int(high), log=values.log, step=step)
    return trial.suggest_float(name, low, high, log=values.log, step=values.step)


def _open(folder: Path, job: Job) -> Study:
    """The study in the folder; what a stopped run left under way in it is given up."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise storage_error(folder, error) from error
    study = optuna.create_study(
        study_name="tune",
        storage=JournalStorage(JournalFileBackend(str(folder / "trials.log"))),
        direction="maximize" if job.spec.train.metric == "auc" else "minimize",
        load_if_exists=True,
    )
    for trial in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    return study


def _check_data(study: Study, data: str, token: str) -> None:
    """See that the data is that of the earlier trials. Raises StorageError."""
    earlier = study.user_attrs.get(data, token)
    if earlier != token:
        raise StorageError(
            "a table has changed since the first trials, which can then not be compared",
            mend="Begin a new search: give another --out, or remove this one's folder.",
        )
    study.set_user_attr(data, token)


def _digest(space: Space) -> str:
    """Of what decides the draws and the outcomes: more trials are the same search."""
    return hashlib.sha256(space.model_dump_json(exclude={"trials"}).encode()).hexdigest()[:8]
