"""Several batches in flight, with bounded staleness."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from isthmus.session import Task
from isthmus.split.batches import Feed, Samples
from isthmus.split.schedules.base import Rate
from isthmus.split.schedules.exact import Exact
from isthmus.split.sides import FeatureSide, Flight


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
