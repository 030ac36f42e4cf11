"""Several batches in flight, with bounded staleness."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from isthmus.session import Task
from isthmus.split.batches import Feed, Samples
from isthmus.split.schedules.base import Rate
from isthmus.split.schedules.exact import Exact
from isthmus.split.sides import FeatureSide, Flight


class DelayCompensation:
    """Makes a stale gradient one of the newest weights, to first order.

    A gradient g taken at weights w' becomes g + rate g*g*(w - w') at w: a Taylor expansion whose
    second derivative is approximated by the diagonal of the gradients' outer product. The rate of
    each number adapts to the gradients' size: rate = strength / sqrt(mean square + 1e-7), with a
    moving mean of 0.95 (Zheng et al., "Asynchronous Stochastic Gradient Descent with Delay
    Compensation", ICML 2017, eq. 10 and section 6, "DC-ASGD-a").

    Args:
        strength: lambda_0 of the paper, which takes 2 for CIFAR-10 and ImageNet.
    """

    def __init__(self, strength: float = 2.0) -> None:
        self.strength = strength
        self.squares: dict[str, Tensor] = {}

    @torch.no_grad()
    def __call__(self, name: str, gradient: Tensor, moved: Tensor) -> Tensor:
        """The gradient of the parameter `name`, which has `moved` since `gradient` was taken."""
        if name not in self.squares:
            self.squares[name] = torch.zeros_like(gradient)
        square = self.squares[name].mul_(0.95).addcmul_(gradient, gradient, value=0.05)
        rate = self.strength / (square + 1e-7).sqrt_()
        return gradient + rate * gradient * gradient * moved


class Pipeline(Exact):
    """Up to `depth` batches of a feature party in flight: it computes while the line carries.

    A batch's forward pass uses weights to which the last `depth - 1` batches' gradients have not
    been applied. Its backward pass uses the same weights, which are kept for it (weight stashing,
    Narayanan et al., "PipeDream", SOSP 2019, section 3.3), so each gradient is a true one of an
    earlier point. It is applied as it is, or corrected for how far the dense weights have moved
    since (`DelayCompensation`). The label party always uses its newest weights. With `depth` 1 this
    is `Exact`. At the end of an epoch nothing is in flight.

    Args:
        depth: batches in flight, at most.
        corrected: whether stale gradients are corrected.
    """

    def __init__(self, depth: int, *, corrected: bool = False) -> None:
        super().__init__()
        self.depth = depth
        self.correct = DelayCompensation() if corrected else None

    def feature_epoch(
        self, side: FeatureSide, batches: Sequence[Samples], first: int, rate: Rate, task: Task
    ) -> None:
        """See `Schedule.feature_epoch`."""
        feed = Feed(side.feeds, batches)
        flights: deque[Flight] = deque()

        def land() -> None:
            flight = flights.popleft()
            side.backward(flight, self.correct)
            side.update(rate(flight.number))
            task.advance()

        for number in range(first, first + len(batches)):
            if len(flights) == self.depth:
                land()
            flights.append(side.forward(*feed.take(), number, stash=self.depth > 1))
            feed.prepare()
        while flights:
            land()

    def state(self) -> dict[str, Tensor]:
        """See `Schedule.state`."""
        return {} if self.correct is None else dict(self.correct.squares)

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """See `Schedule.load_state`."""
        if self.correct is None:
            super().load_state(state)
        else:
            self.correct.squares = {name: tensor.clone() for name, tensor in state.items()}
