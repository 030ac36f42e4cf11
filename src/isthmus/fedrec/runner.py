"""A run: rounds of a method, judged after each under one or more protocols, with checkpoints."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from isthmus.errors import JobError
from isthmus.fedrec import checkpoint, finished
from isthmus.fedrec.evaluate import counted, metrics_of, ranks
from isthmus.fedrec.method import Arrays, Method, Score
from isthmus.fedrec.options import Recipe
from isthmus.fedrec.population import NONE, Interactions, Longs
from isthmus.fedrec.privacy.defences import Defences
from isthmus.fedrec.protocols import (
    PARTS,
    EvalProtocol,
    Exam,
    Part,
    exams,
    fewer_drawn,
    make_task,
)
from isthmus.fedrec.results import Judgement, Outcome, RoundRecord, RunResult
from isthmus.fedrec.task import Task
from isthmus.fedrec.uploads import Guard
from isthmus.files import storage_error, write_json

Told = Callable[[RunResult], None]
"""Called after every judged round with the result so far."""


@dataclass(frozen=True)
class RunOptions:
    """How a run goes; none of this but `seed`, `rounds` and `every` changes its result."""

    seed: int = 0
    rounds: int | None = None
    """None: as many as is usual for the algorithm."""
    every: int = 1
    """Judge every so many rounds, and the last."""
    threads: int = 1
    memory: int = 1 << 30
    """Bytes for a chunk of clients."""
    folder: Path | None = None
    """Where result, ranks and checkpoint go; None writes nothing."""
    resume: bool = False
    force: bool = False
    """A finished run in the folder does not count; see `finished_before`."""
    checkpoint_every: int = 10
    guards: tuple[Guard, ...] = ()
    """Hostile clients, observers: after the defences."""
    defences: Defences = field(default_factory=Defences)
    """What honest clients do to their uploads."""

    def see_folder(self) -> None:
        """See that there is a folder that can be written, before anything is trained.

        Raises:
            JobError: there is nothing to go on from.
            StorageError: the folder cannot be made or written.
        """
        if self.folder is not None:
            see_writable(self.folder)
        elif self.resume:
            raise JobError(
                "there is no folder to go on from", mend="Name that of the earlier run: --out."
            )


def see_writable(folder: Path) -> None:
    """Make `folder` and write into it, so that a mistake is told before training, not after it.

    Raises:
        StorageError: the folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise storage_error(folder, error) from error


def run(
    data: Interactions,
    recipe: Recipe,
    protocols: Sequence[EvalProtocol],
    options: RunOptions | None = None,
    told: Told | None = None,
) -> RunResult:
    """Train one algorithm on one data set with one seed and judge it under `protocols`.

    Args:
        data: the interactions.
        recipe: the algorithm and its numbers.
        protocols: with one ground, so that one training serves them all.
        options: how the run goes.
        told: called after each judged round.

    Raises:
        JobError: the protocols have different grounds, or a checkpoint is of another run or
            asked for without a folder.
        NotFinite: training diverged.
        StorageError: a file cannot be written.
    """
    options = options or RunOptions()
    options.see_folder()
    if len({one.ground for one in protocols}) != 1:
        raise JobError("these protocols need trainings of their own: run them one by one")
    task = make_task(
        data, protocols[0], options.seed, threads=options.threads, memory=options.memory
    )
    task = options.defences.protect(replace(task, guards=options.guards))
    judge = _Judge(task, tuple(protocols))
    method = recipe.build(task)
    going = Run(Facts.of(data), recipe, tuple(protocols), options, judge, method)
    return going.go(told or (lambda result: None))


@dataclass(frozen=True)
class Facts:
    """What is said of the data in a result."""

    name: str
    clients: int
    items: int
    interactions: int
    mark: str = ""
    """A digest of the interactions, empty where they are elsewhere."""
    notes: tuple[str, ...] = ()

    @staticmethod
    def of(data: Interactions) -> Facts:
        """Those of `data`."""
        return Facts(data.name, data.users, data.items, len(data.user), data.mark, data.notes)


def blank(
    data: Facts, recipe: Recipe, protocols: Sequence[EvalProtocol], options: RunOptions
) -> RunResult:
    """The result of a run before its first round: what it was asked for."""
    found = recipe.algorithm
    promise = found.promise(recipe.settings, options.defences.delta) if found.promise else ""
    return RunResult(
        data.name, data.clients, data.items, data.interactions, found.name,
        found.called(recipe.backbone), found.kind, found.leaves, recipe.backbone, options.seed,
        recipe.values(),
        outcomes={one.name: Outcome(one.name) for one in protocols},
        privacy=options.defences.record(options.rounds or found.rounds, found),
        notes=[*data.notes, *filter(None, [promise])],
    )  # fmt: skip


def finished_before(
    data: Facts, recipe: Recipe, protocols: Sequence[EvalProtocol], options: RunOptions
) -> RunResult | None:
    """What an earlier run that was asked for the same has left in the folder of `options`.

    None where there is nothing, where `options` go on from a checkpoint that lies there, and with
    `force`.

    Raises:
        JobError: a finished run of other options lies there.
        StorageError: it cannot be read.
    """
    folder = options.folder
    going_on = folder is not None and options.resume and (folder / checkpoint.FILE).is_file()
    if folder is None or going_on or options.force:
        return None
    head = finished.head_of(blank(data, recipe, protocols, options).to_json())
    rounds = options.rounds or recipe.algorithm.rounds
    return finished.earlier(folder, head, protocols, rounds, options.every, data.mark)


class Judge(Protocol):
    """Tells how clients' held-out items rank; here, or where the clients are."""

    judging: bool
    """Whether the round at hand is judged."""
    wall: float
    """Seconds that judging took within the round, and of processors in `cpu`."""
    cpu: float
    kept: Arrays

    def remarks(self) -> list[str]:
        """What a reader of the figures should know of the judging, in sentences."""
        ...

    def begin(self) -> None:
        """Forget the last round."""
        ...

    def watch(self, clients: Longs, score: Score) -> None:
        """See `method.Watch`."""
        ...

    def finish(self, method: Method) -> None:
        """Judge the clients that no watch has seen in this round."""
        ...

    def counts(self, protocol: str, part: Part) -> Longs:
        """As `evaluate.counted` has them, over all clients."""
        ...

    def keep(self, protocol: str) -> None:
        """This round is the best so far."""
        ...


@dataclass(eq=False)
class Run:
    """A run under way; `run` is the usual way to one."""

    data: Facts
    recipe: Recipe
    protocols: tuple[EvalProtocol, ...]
    options: RunOptions
    judge: Judge
    method: Method
    result: RunResult = field(init=False)

    def __post_init__(self) -> None:
        self.result = blank(self.data, self.recipe, self.protocols, self.options)
        self.result.notes += self.judge.remarks()

    @property
    def head(self) -> dict[str, Any]:
        """All that a checkpoint depends on."""
        asked = finished.head_of(self.result.to_json())
        return asked | {
            "protocols": [one.name for one in self.protocols],
            "every": self.options.every,
        }

    @property
    def mark(self) -> str:
        """A digest of `head`."""
        return checkpoint.fingerprint(self.head)

    def go(self, told: Told) -> RunResult:
        """All rounds that are not done yet."""
        rounds = self.options.rounds or self.recipe.algorithm.rounds
        for number in range(self.begin() + 1, rounds + 1):
            self.judge.judging = number % self.options.every == 0 or number == rounds
            self._round(number)
            if self.judge.judging:
                self._judge(number)
                told(self.result)
            if number % self.options.checkpoint_every == 0 and number < rounds:
                self._checkpoint()
        self._finish()
        return self.result

    def begin(self) -> int:
        """Take up a checkpoint if that is asked for; the rounds that are done already."""
        if self.result.rounds:
            return self.result.rounds[-1].number
        folder = self.options.folder
        if folder is None or not self.options.resume:
            return 0
        found = checkpoint.load(folder, self.head)
        if found is None:
            return 0
        self.result, state, self.judge.kept = found
        self.restore(state)
        return self.result.rounds[-1].number

    def state(self) -> Arrays:
        """What a checkpoint holds of the method."""
        return self.method.state()

    def restore(self, state: Arrays) -> None:
        """Go on from `state()`."""
        self.method.restore(state)

    def _round(self, number: int) -> None:
        self.judge.begin()
        wall, cpu = time.perf_counter(), time.process_time()
        report = self.method.round(number, self.judge.watch)
        wall = time.perf_counter() - wall - self.judge.wall
        cpu = time.process_time() - cpu - self.judge.cpu
        self.result.rounds.append(
            RoundRecord(number, report.loss, report.clients, report.up, report.down, wall, cpu)
        )

    def _judge(self, number: int) -> None:
        self.judge.finish(self.method)
        for rules in self.protocols:
            outcome = self.result.outcomes[rules.name]
            found = {part: metrics_of(self.judge.counts(rules.name, part)) for part in PARTS}
            outcome.judgements.append(Judgement(number, found["valid"], found["test"]))
            if not outcome.chosen or _better(outcome, rules, found[rules.choose_on]):
                outcome.chosen = number
                self.judge.keep(rules.name)

    def _checkpoint(self) -> None:
        if self.options.folder is not None:
            state, kept = self.state(), self.judge.kept
            checkpoint.save(self.options.folder, self.head, self.result, state, kept)

    def _finish(self) -> None:
        folder = self.options.folder
        if folder is None:
            return
        if self.judge.kept:
            checkpoint.save_ranks(folder, self.judge.kept)
        mark = {finished.MARK: self.data.mark} if self.data.mark else {}
        write_json(folder / finished.FILE, self.result.to_json() | mark)
        (folder / checkpoint.FILE).unlink(missing_ok=True)


def _better(outcome: Outcome, rules: EvalProtocol, now: dict[str, float]) -> bool:
    best = outcome.best
    before = best.test if rules.choose_on == "test" else best.valid
    # The reference programs take the later of two equal rounds.
    return now[rules.choose_by] >= before[rules.choose_by]


class _Judge:
    """Ranks of the round at hand, client by client as they become ready, and those kept."""

    def __init__(self, task: Task, protocols: tuple[EvalProtocol, ...]) -> None:
        self._task, self._protocols = task, protocols
        self._exams: dict[tuple[str, Part], Exam] = {}
        for rules in protocols:
            for part, exam in exams(rules, task.population, task.seed).items():
                self._exams[rules.name, part] = exam
        self.kept: Arrays = {}
        self.judging = True
        self.begin()

    def remarks(self) -> list[str]:
        """Protocols for which items to draw were too few."""
        out = []
        for rules in self._protocols:
            exam = self._exams[rules.name, "test"]
            if rules.candidates is not None and exam.sampled is not None:
                drawn = exam.sampled.counts[exam.positive != NONE] - 1
                short = int(np.count_nonzero(drawn < rules.candidates))
                out += fewer_drawn(rules, short, len(drawn))
        return out

    def begin(self) -> None:
        """Forget the last round."""
        count = self._task.population.clients
        self.wall, self.cpu = 0.0, 0.0
        self._seen = np.zeros(count, np.bool_)
        self.ranks = {key: np.zeros(count, np.int64) for key in self._exams}

    def watch(self, clients: Longs, score: Score) -> None:
        """Rank for these clients, with the score that they have now."""
        if not self.judging or not len(clients):
            return
        wall, cpu = time.perf_counter(), time.process_time()
        for rules in self._protocols:
            for part in PARTS:
                found = ranks(self._task, rules, self._exams[rules.name, part], clients, score)
                self.ranks[rules.name, part][clients] = found
        self._seen[clients] = True
        self.wall += time.perf_counter() - wall
        self.cpu += time.process_time() - cpu

    def finish(self, method: Method) -> None:
        """Rank for the clients that no watch has seen in this round."""
        self.watch(np.flatnonzero(~self._seen), method.score)

    def counts(self, protocol: str, part: Part) -> Longs:
        """How many clients have which rank."""
        return counted(self.ranks[protocol, part])

    def keep(self, protocol: str) -> None:
        """Keep the test ranks of this round, for paired tests between methods."""
        self.kept[protocol] = self.ranks[protocol, "test"].astype(np.int32)
