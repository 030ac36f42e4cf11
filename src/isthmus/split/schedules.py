"""When batches are sent, waited for and applied: one small class a schedule, on the same sides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from isthmus.errors import JobError
from isthmus.session import Task
from isthmus.split.batches import Feed, Samples
from isthmus.split.sides import FeatureSide, LabelSide

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


class Exact:
    """One batch in flight: the updates are those of the network trained in one place.

    While a party waits for the other it prepares its next batch, which does not depend on the
    weights.
    """

    def feature_epoch(
        self, side: FeatureSide, batches: Sequence[Samples], first: int, rate: Rate, task: Task
    ) -> None:
        """See `Schedule.feature_epoch`."""
        feed = Feed(side.feeds, batches)
        step = first
        while (ready := feed.take()) is not None:
            flight = side.forward(*ready, step)
            feed.prepare()
            side.backward(flight, rate(step))
            step += 1
            task.advance()

    def label_epoch(
        self, side: LabelSide, batches: Sequence[Samples], first: int, rate: Rate, task: Task
    ) -> float:
        """See `Schedule.label_epoch`."""
        feed = Feed(side.feeds, batches)
        step, total = first, 0.0
        while (ready := feed.take()) is not None:
            samples, inputs = ready
            own = side.own_forward(inputs)
            feed.prepare()
            loss, gradients = side.top_step(samples, own, step)
            side.own_backward(own, gradients, rate(step))
            total += loss * len(samples)
            step += 1
            task.advance()
        return total / max(1, sum(map(len, batches)))


SCHEDULES: dict[str, Callable[[], Schedule]] = {"exact": Exact}


def make_schedule(name: str) -> Schedule:
    """The schedule called `name`.

    Raises:
        JobError: there is none of that name.
    """
    if name not in SCHEDULES:
        raise JobError(
            f"there is no schedule {name!r}", mend=f"Choose one of {', '.join(SCHEDULES)}."
        )
    return SCHEDULES[name]()
