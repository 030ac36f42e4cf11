"""A schedule that tries others out during the first steps and keeps the best of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor

from isthmus.errors import BadMessage
from isthmus.link.meter import TopicMeter
from isthmus.session import Task
from isthmus.split.batches import Samples, count_samples
from isthmus.split.lane import shown
from isthmus.split.schedules.base import Rate, Schedule
from isthmus.split.schedules.exact import Exact, Microbatch
from isthmus.split.schedules.pipeline import Pipeline
from isthmus.split.sides import FeatureSide, LabelSide

_TOPIC = "train.plan"
_PINGS = 5
_WARM_UP = 4
"""Steps before the first measurement: memory is allocated, the line's window opens."""
_TRIAL_STEPS = 12
"""Steps that a measurement needs at least."""
_TRIAL_SECONDS = 0.8
"""How long a measurement lasts, where that is no more than `_TRIAL_SHARE`."""
_TRIAL_SHARE = 6
"""A trial takes at most one part in so many of a stretch of steps."""
_GAIN = 1.08
"""What a rung must bring over the best so far."""
_PATIENCE = 2
"""Rungs in a row that do not, before a ladder is left: one alone may have met a busy moment."""
_ENOUGH = 0.95
"""A less stale schedule is taken if it reaches this share of the fastest one's speed."""
_MOST_PARTS = 8


@dataclass(frozen=True)
class Candidate:
    """A schedule that may be chosen."""

    name: str
    staleness: int
    """Updates that a forward pass may miss."""


_EXACT = Candidate("exact", 0)


class Search:
    """Which schedules to try, and which of them to take.

    Args:
        bound: batches in flight, at most.
    """

    def __init__(self, bound: int) -> None:
        self.speeds: dict[Candidate, float] = {}
        """Steps a second of what was tried."""
        parts = (2**i for i in range(1, 10) if 2**i <= _MOST_PARTS)
        depths = sorted({2**i for i in range(1, 10) if 2**i < bound} | {bound} - {1})
        self._ladders = (
            [Candidate(f"microbatch:{n}", 0) for n in parts],
            [Candidate(f"pipeline:{n}", n - 1) for n in depths],
        )
        self.all = [_EXACT, *itertools.chain(*self._ladders)]
        """All that may be taken."""
        self._run = self._climb()
        self.next: Candidate | None = next(self._run)
        """What to try next; None when all is known."""

    def record(self, speed: float) -> None:
        """What was tried makes `speed` steps a second."""
        assert self.next is not None
        self.speeds[self.next] = min(speed, self.speeds.get(self.next, speed))
        try:
            self.next = self._run.send(speed)
        except StopIteration:
            self.next = None

    def best(self) -> Candidate:
        """The least stale of those that are fast enough; among these the fastest."""
        enough = _ENOUGH * max(self.speeds.values())
        good = [c for c, speed in self.speeds.items() if speed >= enough]
        least = min(candidate.staleness for candidate in good)
        # Of two that are equally stale the simpler one is tried first, and taken if fast enough.
        return next(candidate for candidate in good if candidate.staleness == least)

    def _climb(self) -> Generator[Candidate, float, None]:
        yield _EXACT  # tells how many steps a trial needs
        del self.speeds[_EXACT]
        exact = yield _EXACT
        for ladder in self._ladders:
            best, failed = exact, 0
            for candidate in ladder:
                speed = yield candidate
                failed = 0 if speed >= _GAIN * best else failed + 1
                best = max(best, speed)
                if failed == _PATIENCE:
                    break
        # A moment in which the machine was idle must not decide: the winner has to win twice.
        confirmed: set[Candidate] = set()
        while (winner := self.best()) not in confirmed:
            confirmed.add(winner)
            yield winner


class Auto(Schedule):
    """Tries schedules out during the first steps, keeps the best, and says why.

    The trials are training steps like any others. They begin with `Exact`; then batches are cut in
    2, 4, 8 messages (`Microbatch`) and 2, 4, ... batches are kept in flight (`Pipeline`), within
    the bound on staleness, until two doublings in a row do not make training 8 % faster. Kept is
    the least stale schedule that reaches 95 % of the fastest one's speed. The label party measures
    and decides, the feature parties follow, within the bound that all have agreed to.

    What is chosen depends on the line and the machines, so two runs of a job may differ; with a
    bound of 1 all choices give the result of `Exact` to the order of floating-point sums. A run
    that continues from a checkpoint keeps what was chosen before it. Where a stretch of steps is
    too short for a trial, it runs under `Exact`.

    Args:
        bound: batches in flight, at most.
        say: told what was measured and chosen.
    """

    def __init__(self, bound: int, say: Callable[[str], None]) -> None:
        self.bound = bound
        self._say = say
        self._schedule: Schedule = Exact()
        self._search = Search(bound)
        self._uses: dict[str, _Use] = {}
        self._line = ""
        self._told_short = False

    def feature_epoch(
        self, side: FeatureSide, batches: Sequence[Samples], first: int, rate: Rate, task: Task
    ) -> None:
        """See `Schedule.feature_epoch`."""
        at, pings = 0, 0
        while at < len(batches) and not self.chosen:
            plan = side.hub.recv(_TOPIC).header
            name, steps = str(plan.get("schedule")), plan.get("steps")
            if name == "ping" and pings < _PINGS:
                pings += 1
                side.hub.send(_TOPIC)
                continue
            counts = type(steps) is int and 0 <= steps <= len(batches) - at
            if not counts or not self._is_allowed(name):
                raise BadMessage(f"{side.hub.partner} sent no valid plan: {shown(dict(plan))}")
            if not steps:
                self._choose(name)
                self._say(f"{side.hub.partner} chose the schedule {self.chosen}")
                break
            part = batches[at : at + steps]
            _made(name).feature_epoch(side, part, first + at, rate, task)
            at += steps
        if at < len(batches):
            self._schedule.feature_epoch(side, batches[at:], first + at, rate, task)

    def label_epoch(
        self, side: LabelSide, batches: Sequence[Samples], first: int, rate: Rate, task: Task
    ) -> float:
        """See `Schedule.label_epoch`."""
        at, total = 0, 0.0
        while at < len(batches) and not self.chosen:
            self._line = self._line or _round_trip(side)
            trial = self._search.next
            if trial is None:
                self._decide(side)
                break
            steps, left = self._steps(trial, len(batches)), len(batches) - at
            is_trial = steps <= left
            name = trial.name if is_trial else "exact"
            part = batches[at : at + steps]
            _tell(side, name, len(part))
            watch, before = _Watch(task), _Use.of(side)
            loss = _made(name).label_epoch(side, part, first + at, rate, watch)
            total, at = total + loss * count_samples(part), at + len(part)
            if steps > len(batches) and not self._told_short:
                self._told_short = True
                self._say(
                    f"auto: {len(batches)} steps between two checkpoints or ends of epochs are too "
                    "few for a trial: they run under exact"
                )
            if is_trial:
                self._uses[name] = _Use.of(side).since(before, len(part))
                self._search.record(watch.speed(_WARM_UP + trial.staleness))
        if at < len(batches):
            loss = self._schedule.label_epoch(side, batches[at:], first + at, rate, task)
            total += loss * count_samples(batches[at:])
        return total / max(1, count_samples(batches))

    def state(self) -> dict[str, Tensor]:
        """See `Schedule.state`."""
        return {"chosen": torch.tensor(list(self.chosen.encode()), dtype=torch.uint8)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """See `Schedule.load_state`."""
        name = bytes(state["chosen"].tolist()).decode()
        if self._is_allowed(name):
            self._choose(name)

    def _steps(self, trial: Candidate, stretch: int) -> int:
        fastest = max(self._search.speeds.values(), default=0.0)
        enough = min(math.ceil(fastest * _TRIAL_SECONDS), stretch // _TRIAL_SHARE)
        wanted = max(_TRIAL_STEPS, enough)
        # The batches in flight arrive together: a part of such a group would count too much.
        depth = trial.staleness + 1
        return _WARM_UP + trial.staleness + -(-wanted // depth) * depth

    def _decide(self, side: LabelSide) -> None:
        best = self._search.best()
        self._choose(best.name)
        _tell(side, best.name, 0)
        speeds = self._search.speeds
        tried = ", ".join(f"{trial.name} {speed:.4g}" for trial, speed in speeds.items())
        waited, carried = self._uses["exact"].waited, self._uses[best.name].carried
        self._say(
            f"schedule {best.name} chosen: {self._line}; steps/s of {tried}; under exact "
            f"{waited * speeds[_EXACT]:.0%} of the time is waiting; {best.name} puts "
            f"{carried * speeds[best] / 1e6:.3g} MB/s on the line"
        )

    def _choose(self, name: str) -> None:
        self.chosen, self._schedule = name, _made(name)

    def _is_allowed(self, name: str) -> bool:
        """Whether `name` is a schedule within the agreed bound."""
        return any(candidate.name == name for candidate in self._search.all)


@dataclass(frozen=True)
class _Use:
    """What the lanes have seen."""

    waited: float
    """Seconds that the label party waited for cuts."""
    carried: float
    """Bytes, both ways."""

    @classmethod
    def of(cls, side: LabelSide) -> _Use:
        """So far, over all links."""
        cuts = [
            link.meter.snapshot().get("train.cut", TopicMeter()) for link in side.links.values()
        ]
        total = [link.meter.total() for link in side.links.values()]
        return cls(
            max((cut.waited_seconds for cut in cuts), default=0.0),
            sum(all_topics.sent_bytes + all_topics.received_bytes for all_topics in total),
        )

    def since(self, before: _Use, steps: int) -> _Use:
        """A step's share of what came after `before`."""
        return _Use((self.waited - before.waited) / steps, (self.carried - before.carried) / steps)


class _Watch:
    """Passes progress on and notes when it was made."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._times: list[float] = []

    def advance(self, amount: int = 1) -> None:
        """See `Task.advance`."""
        self._times.append(perf_counter())
        self._task.advance(amount)

    def note(self, text: str) -> None:
        """See `Task.note`."""
        self._task.note(text)

    def speed(self, skip: int) -> float:
        """Steps a second after the first `skip`."""
        return (len(self._times) - skip) / max(self._times[-1] - self._times[skip - 1], 1e-9)


def _made(name: str) -> Schedule:
    kind, _, number = name.partition(":")
    if kind == "exact":
        return Exact()
    return Microbatch(int(number)) if kind == "microbatch" else Pipeline(int(number))


def _tell(side: LabelSide, name: str, steps: int) -> None:
    for link in side.links.values():
        link.send(_TOPIC, header={"schedule": name, "steps": steps})


def _round_trip(side: LabelSide) -> str:
    """Of the slowest line, in words."""
    slowest = 0.0
    for link in side.links.values():
        trips = []
        for _ in range(_PINGS):
            began = perf_counter()
            link.send(_TOPIC, header={"schedule": "ping"})
            link.recv(_TOPIC)
            trips.append(perf_counter() - began)
        slowest = max(slowest, min(trips))
    return f"a round trip takes {slowest * 1e3:.3g} ms"
