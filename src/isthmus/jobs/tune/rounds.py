"""The rounds of a search at a party: what comes next is agreed, a trial runs, its end is kept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from isthmus.errors import (
    BadMessage,
    JobError,
    JobMismatch,
    StorageError,
    TrainError,
    public_reason,
)
from isthmus.jobs.context import Context
from isthmus.jobs.job import Job, changed_job
from isthmus.jobs.precheck import check_own_side, check_settings
from isthmus.jobs.tune.ledger import Ledger
from isthmus.jobs.tune.report import TuneReport, make_report, report_of, write_report
from isthmus.jobs.tune.space import Space, as_overrides
from isthmus.jobs.tune.study import Attempt, check_data, open_study
from isthmus.jobs.tune.talk import (
    Begin,
    Next,
    Ready,
    agree_on_space,
    hear_trials,
    receive,
    send,
    tell_trials,
)
from isthmus.jobs.tune.trial import alignment_name, data_name, prepare, run_training
from isthmus.link import Link
from isthmus.link.printable import printable

ContextOf = Callable[[Job], Context]
"""A context of this party for a job, over the links of the round."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """One party's side of a search."""

    job: Job
    """Before a trial's values are put into it."""
    me: str
    space: Space
    home: Path
    """This party's folder of the search."""
    command: tuple[str, ...]
    """The words that run this party of the job."""
    on_trial: Callable[[TuneReport], None]
    clock: Callable[[], float]

    def job_with(self, values: Mapping[str, object]) -> Job:
        """The job of a trial. Raises JobError."""
        return changed_job(self.job, as_overrides(values))


class Rounds(ABC):
    """The rounds of one party; the same in number at all parties."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.over = False
        """Whether there is nothing left to try."""
        self._tokens: dict[str, str] = {}

    @abstractmethod
    def prepare(self) -> None:
        """Before the partners are met."""

    @abstractmethod
    def run(self, links: Mapping[str, Link], context_of: ContextOf) -> None:
        """One round over these links. Raises IsthmusError where the search cannot go on."""

    @abstractmethod
    def report(self) -> TuneReport:
        """What this party knows of the search."""

    def _check(self, job: Job) -> None:
        """See that this party can run the trial. Raises JobError."""
        if data_name(job) in self._tokens:
            check_settings(job)
        else:
            check_own_side(job, self.side.me)

    def _token(self, job: Job) -> str:
        return self._tokens.get(data_name(job), "")

    def _prepare_data(self, context: Context) -> str:
        token = prepare(context, self.side.home)
        self._tokens[data_name(context.job)] = token
        return token

    def _write(self) -> None:
        report = self.report()
        write_report(self.side.home, report)
        self.side.on_trial(report)


class LabelRounds(Rounds):
    """The label party's: draws values, judges epochs, keeps the study."""

    def __init__(self, side: Side) -> None:
        super().__init__(side)
        self._study = open_study(side.home, side.job)
        self._attempt: tuple[Attempt, Job] | None = None

    def report(self) -> TuneReport:
        """See `Rounds.report`."""
        side = self.side
        found = make_report(self._study, side.job, side.space, side.command)
        return found.model_copy(update={"party": side.me})

    def prepare(self) -> None:
        """Draw values that this party finds nothing wrong with."""
        space, spec = self.side.space, self.side.job.spec
        metric, prune = spec.train.metric, spec.learns == "network"
        self._attempt = None
        while (ended := len(self.report().trials)) < space.trials and self._attempt is None:
            attempt = Attempt(self._study, space, metric, ended, prune=prune)
            try:
                job = self.side.job_with(attempt.values)
                self._check(job)
            except JobError as error:
                attempt.fail(error.message, public_reason(error))
                attempt.close(0.0)
                self._write()
            else:
                self._attempt = attempt, job

    def run(self, links: Mapping[str, Link], context_of: ContextOf) -> None:
        """See `Rounds.run`."""
        report, spec = self.report(), self.side.job.spec
        known = agree_on_space(links, self.side.space, len(report.trials))
        for partner, link in links.items():
            if known[partner] > len(report.trials):
                raise StorageError(
                    f"{partner} knows of {known[partner]} trials, {self.side.home} of "
                    f"{len(report.trials)}",
                    mend="Begin a new search: remove its folder at every party.",
                )
            unknown = report.trials[known[partner] :]
            tell_trials(link, unknown, metrics=spec.evaluate.share_metrics)
        if self._attempt is None:
            self.over = True
            _send_all(links, "tune.next", self._last(report))
        else:
            self._try(*self._attempt, links, context_of)

    def _last(self, report: TuneReport) -> Next:
        if report.best is None:
            return Next(what="over")
        values = report.trials[report.best - 1].values
        job = self.side.job_with(values)
        return Next(what="best", number=report.best, values=values, hash=job.hash)

    def _try(
        self, attempt: Attempt, job: Job, links: Mapping[str, Link], context_of: ContextOf
    ) -> None:
        number, began = attempt.number, self.side.clock()
        proposed = Next(what="trial", number=number, values=attempt.values, hash=job.hash)
        _send_all(links, "tune.next", proposed)
        answers = {name: _answer(link, number) for name, link in links.items()}
        refused = {name: answer.error for name, answer in answers.items() if answer.error}
        token = self._token(job)
        stale = not token or any(answer.data != token for answer in answers.values())
        _send_all(links, "tune.begin", Begin(number=number, go=not refused, prepare=stale))
        for name, said in refused.items():
            attempt.fail(f"{name} {said}", said)
        if not refused:
            self._train(attempt, context_of(job), stale)
        attempt.close(self.side.clock() - began)
        self._write()

    def _train(self, attempt: Attempt, context: Context, stale: bool) -> None:
        with _trial_shown(context, attempt.number, self.side.space):
            if stale:
                token = self._prepare_data(context)
                check_data(self._study, alignment_name(context.job), token)
            try:
                run_training(replace(context, judge=attempt.judge), self.side.home)
            except TrainError as error:
                # With these values training diverges: a finding, no fault.
                attempt.fail(error.message, public_reason(error))


class FeatureRounds(Rounds):
    """A feature party's: holds what is proposed to what was agreed, and takes part."""

    def __init__(self, side: Side) -> None:
        super().__init__(side)
        self._ledger = Ledger(side.home, side.space, side.job.spec.label.party)
        self._best: int | None = None

    def report(self) -> TuneReport:
        """See `Rounds.report`."""
        side, told = self.side, self._ledger.told
        found = report_of(side.job, side.space, told, self._best, side.command)
        return found.model_copy(update={"party": side.me})

    def prepare(self) -> None:
        """Nothing: the label party proposes."""

    def run(self, links: Mapping[str, Link], context_of: ContextOf) -> None:
        """See `Rounds.run`."""
        (hub,) = links.values()
        agree_on_space(links, self.side.space, len(self._ledger.told))
        heard = hear_trials(hub, self.side.space.trials)
        self._ledger.hear(heard)
        if heard:
            self._write()
        proposed = receive(hub, "tune.next", Next)
        if proposed.what == "trial":
            self._try(proposed, hub, context_of)
            return
        self.over = True
        if proposed.what == "best":
            self._best = self._ledger.end(proposed).number
            self._job_of(proposed, hub)

    def _try(self, proposed: Next, hub: Link, context_of: ContextOf) -> None:
        self._ledger.begin(proposed)
        job, context = self._job_of(proposed, hub), context_of(self.side.job)
        refused = ""
        try:
            self._check(job)
        except JobError as error:
            refused = public_reason(error)
            context.session.progress.say(f"trial {proposed.number} refused: {error}")
        answer = Ready(number=proposed.number, data=self._token(job), error=refused)
        send(hub, "tune.ready", answer)
        begin = receive(hub, "tune.begin", Begin)
        if begin.number != proposed.number:
            raise BadMessage(f"{hub.partner} begins another trial than {proposed.number}")
        if begin.go and not refused:
            self._train(proposed.number, context_of(job), begin.prepare)

    def _train(self, number: int, context: Context, stale: bool) -> None:
        with _trial_shown(context, number, self.side.space):
            if stale:
                self._prepare_data(context)
            try:
                run_training(context, self.side.home)
            except TrainError as error:
                context.session.progress.say(f"trial {number} failed: {error.message}")

    def _job_of(self, proposed: Next, hub: Link) -> Job:
        job = self.side.job_with(proposed.values)
        if job.hash != proposed.hash:
            raise JobMismatch(
                f"with the values of trial {proposed.number} the job here is another than at "
                f"{hub.partner}",
                mend="Install the same version of isthmus on both sides.",
            )
        return job


def _send_all(links: Mapping[str, Link], topic: str, said: Next | Begin) -> None:
    for link in links.values():
        send(link, topic, said)


def _answer(link: Link, number: int) -> Ready:
    answer = receive(link, "tune.ready", Ready)
    if answer.number != number:
        raise BadMessage(f"{link.partner} answers to another trial than {number}")
    return answer.model_copy(update={"error": printable(answer.error, 200)})


@contextmanager
def _trial_shown(context: Context, number: int, space: Space) -> Iterator[None]:
    with context.session.progress.task(f"trial {number} of {space.trials}"):
        yield
