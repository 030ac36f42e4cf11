"""The study of a search: which values come next and what became of each trial, kept in a journal.

Values are drawn by Optuna's tree-structured Parzen estimator (Bergstra et al., "Algorithms for
Hyper-Parameter Optimization", NIPS 2011). Each draw has a seed of its own, by the number of trials
that have ended, so that a search that was stopped draws what it would have drawn else. The journal
is a file of JSON lines, read and written by Optuna without pickle.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus.errors import JobError, StorageError
from isthmus.files import storage_error
from isthmus.jobs.job import Job
from isthmus.jobs.tune.space import Space, Values
from isthmus.split.options import EpochRecord

if TYPE_CHECKING:
    from optuna import Study, Trial

WORSE = "worse than the median of the other trials"
JOURNAL = "trials.log"


def need_optuna() -> None:
    """See that Optuna is installed. Raises JobError."""
    if importlib.util.find_spec("optuna") is None:
        raise JobError(
            "the package optuna is not installed", mend="Run `pip install 'isthmus[tune]'`."
        )


def search_name(job: Job, space: Space) -> str:
    """The folder of a search: more trials are the same one, any other change makes another."""
    text = space.model_dump_json(exclude={"trials"})
    return f"{job.folder_name}-tune-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def open_study(folder: Path, job: Job) -> Study:
    """The study in the folder; what a stopped run left under way in it is given up.

    Raises:
        StorageError: the folder cannot be made.
    """
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
        storage=JournalStorage(JournalFileBackend(str(folder / JOURNAL))),
        direction="maximize" if job.spec.train.metric == "auc" else "minimize",
        load_if_exists=True,
    )
    for trial in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    return study


def check_data(study: Study, alignment: str, token: str) -> None:
    """See that the samples are those of the earlier trials. Raises StorageError.

    Args:
        study: the search.
        alignment: names the alignment.
        token: of the execution in which it was made.
    """
    earlier = study.user_attrs.get(alignment, token)
    if earlier != token:
        raise StorageError(
            "a table has changed since the first trials, or a party has lost what it kept of them: "
            "they could not be compared",
            mend="Begin a new search, at every party: give another --out, or remove this folder.",
        )
    study.set_user_attr(alignment, token)


class Attempt:
    """One trial from its draw to its end.

    Args:
        study: where it is kept.
        space: what is searched.
        metric: the validation metric.
        ended: how many trials have ended before it.
        prune: whether the training has a course that can be cut short.
    """

    def __init__(
        self, study: Study, space: Space, metric: str, ended: int, *, prune: bool = True
    ) -> None:
        from optuna.pruners import MedianPruner
        from optuna.samplers import TPESampler

        study.pruner = MedianPruner(n_startup_trials=space.startup)
        study.sampler = TPESampler(seed=space.seed + ended, n_startup_trials=space.startup)
        self.number = ended + 1
        """From 1, by the order in which trials end."""
        self._study, self._trial = study, study.ask()
        self.values = {name: _draw(self._trial, name, one) for name, one in space.space.items()}
        """By field."""
        self._trial.set_user_attr("values", self.values)
        self.judge = Judge(self._trial, metric, space.prune and prune)
        """Looks at each epoch."""

    def fail(self, message: str, public: str = "") -> None:
        """The trial found that its values do not do; partners are told `public` alone."""
        self._trial.set_user_attr("error", message)
        self._trial.set_user_attr("public", public)

    def close(self, seconds: float) -> None:
        """The trial has ended and will not be run again."""
        from optuna.trial import TrialState

        self._trial.set_user_attr("seconds", round(seconds, 3))
        if "error" in self._trial.user_attrs or self.judge.best is None:
            self._study.tell(self._trial, state=TrialState.FAIL)
        elif self.judge.pruned:
            self._study.tell(self._trial, state=TrialState.PRUNED)
        else:
            self._study.tell(self._trial, self.judge.best)


class Judge:
    """Tells the study each epoch's metric and ends a trial that is not worth its time."""

    def __init__(self, trial: Trial, metric: str, prune: bool) -> None:
        self._trial, self._metric, self._prune = trial, metric, prune
        self._sign = 1.0 if metric == "auc" else -1.0
        self.best: float | None = None
        self.pruned = self.stopped = False

    def __call__(self, record: EpochRecord) -> str:
        """Why training should stop after this epoch; "" for no reason."""
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
