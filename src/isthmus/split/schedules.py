"""When batches are sent, waited for and applied: one small class a schedule, on the same sides."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from isthmus.errors import JobError
from isthmus.session import Task
from isthmus.split.batches import Feed, Samples
from isthmus.split.sides import FeatureSide, Flight, LabelSide

Rate = Callable[[int], float]
"""From the step to the factor of the learning rates."""


class Schedule(Protocol):
    """Runs one epoch on either side. `first` is the number of the epoch's first step."""

    def feature_epoch(
        self, side: FeatureSide, batches: Sequence[Samples], first: int, rate: Rate, task: Task
    ) -> None:
        """One epoch of a feature party."""

    def label_epoch(
        self, side: LabelSide, batches: Sequence[Samples], first: int, rate: Rate, task: Task
    ) -> float:
        """One epoch of the label party; returns the mean loss over the epoch's samples."""


class Microbatch:
    """A batch goes in several messages and makes one update, to which all of them add.

    The forward pass of a message overlaps the way of the one before. The result is that of `Exact`
    to the order of floating-point sums: each message's mean loss counts by its share of the batch.

    Args:
        parts: messages a batch.
    """

    def __init__(self, parts: int) -> None:
        self.parts = parts

    def feature_epoch(
        self, side: FeatureSide, batches: Sequence[Samples], first: int, rate: Rate, task: Task
    ) -> None:
        """See `Schedule.feature_epoch`."""
        feed = Feed(side.feeds, [part for batch in batches for part in self._cut(batch)])
        for step, batch in enumerate(batches, first):
            flights = []
            for number in self._numbers(step, batch):
                flights.append(side.forward(*feed.take(), number))
                feed.prepare()
            for flight in flights:
                side.backward(flight)
            side.update(rate(step))
            task.advance()

    def label_epoch(
        self, side: LabelSide, batches: Sequence[Samples], first: int, rate: Rate, task: Task
    ) -> float:
        """See `Schedule.label_epoch`."""
        feed = Feed(side.feeds, [part for batch in batches for part in self._cut(batch)])
        total = 0.0
        for step, batch in enumerate(batches, first):
            for number in self._numbers(step, batch):
                samples, inputs = feed.take()
                own = side.own_forward(inputs)
                feed.prepare()
                share = len(samples) / len(batch)
                loss, gradients = side.top_step(samples, own, number, share)
                side.own_backward(own, gradients)
                total += loss * len(batch)
            side.update(rate(step))
            task.advance()
        return total / max(1, sum(map(len, batches)))

    def _cut(self, batch: Samples) -> list[Samples]:
        return np.array_split(batch, min(self.parts, len(batch)))

    def _numbers(self, step: int, batch: Samples) -> range:
        return range(step * self.parts, step * self.parts + min(self.parts, len(batch)))


class Exact(Microbatch):
    """One batch in flight: the updates are those of the network trained in one place.

    While a party waits for the other it prepares its next batch, which does not depend on the
    weights.
    """

    def __init__(self) -> None:
        super().__init__(1)


class Pipeline(Exact):
    """Up to `depth` batches of a feature party in flight: it computes while the line carries.

    A batch's forward pass uses weights to which the last `depth - 1` batches' gradients have not
    been applied. Its backward pass uses the same weights, which are kept for it (weight stashing,
    Narayanan et al., "PipeDream", SOSP 2019, section 3.3), so each gradient is a true one of an
    earlier point; it is applied without correction. The label party always uses its newest weights.
    With `depth` 1 this is `Exact`. At the end of an epoch nothing is in flight.

    Args:
        depth: batches in flight, at most.
    """

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.depth = depth

    def feature_epoch(
        self, side: FeatureSide, batches: Sequence[Samples], first: int, rate: Rate, task: Task
    ) -> None:
        """See `Schedule.feature_epoch`."""
        feed = Feed(side.feeds, batches)
        flights: deque[Flight] = deque()

        def land() -> None:
            flight = flights.popleft()
            side.backward(flight)
            side.update(rate(flight.number))
            task.advance()

        for number in range(first, first + len(batches)):
            if len(flights) == self.depth:
                land()
            flights.append(side.forward(*feed.take(), number, stash=self.depth > 1))
            feed.prepare()
        while flights:
            land()


_MOST = 64
"""Messages a batch, or batches in flight."""


def make_schedule(name: str) -> Schedule:
    """The schedule called `name`: `exact`, `microbatch:4`, `pipeline:3`.

    Raises:
        JobError: there is none of that name, or its number makes no sense.
    """
    kind, _, number = name.partition(":")
    if kind == "exact" and not number:
        return Exact()
    if kind not in ("microbatch", "pipeline"):
        raise JobError(
            f"there is no schedule {name!r}",
            mend="Choose exact, microbatch:4 (messages a batch) or pipeline:3 (batches in flight).",
        )
    if not number.isascii() or not number.isdigit() or not 1 <= int(number) <= _MOST:
        raise JobError(
            f"the schedule {name!r} needs a number from 1 to {_MOST}", mend=f"Such as {kind}:4."
        )
    return Microbatch(int(number)) if kind == "microbatch" else Pipeline(int(number))
