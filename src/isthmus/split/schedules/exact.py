"""The schedules whose updates are those of one place: a batch in one message, or in several."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from isthmus.session import Task
from isthmus.split.batches import Feed, Samples, count_samples
from isthmus.split.schedules.base import Rate, Schedule
from isthmus.split.schedules.flights import Flights
from isthmus.split.sides import FeatureSide, LabelSide


class Microbatch(Schedule):
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
        feed = Feed(side.feeds, (part for batch in batches for part in self._cut(batch)))
        for step, batch in enumerate(batches, first):
            flights = Flights(side)
            for number in self._numbers(step, batch):
                flights.add(side.forward(*feed.take(), number))
                feed.prepare()
            while len(flights):
                flights.land()
            side.update(rate(step))
            task.advance()

    def label_epoch(
        self, side: LabelSide, batches: Sequence[Samples], first: int, rate: Rate, task: Task
    ) -> float:
        """See `Schedule.label_epoch`."""
        feed = Feed(side.feeds, (part for batch in batches for part in self._cut(batch)))
        total = 0.0
        for step, batch in enumerate(batches, first):
            for number in self._numbers(step, batch):
                samples, inputs = feed.take()
                own = side.own_forward(inputs)
                feed.prepare()
                share = len(samples) / len(batch)
                exchange = side.top_step(samples, own, number, share)
                side.own_backward(own, exchange.gradients)
                total += exchange.loss * len(batch)
            side.update(rate(step))
            task.advance()
        return total / max(1, count_samples(batches))

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
