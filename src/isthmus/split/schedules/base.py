"""What every schedule offers: an epoch on either side, and a state for checkpoints."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from isthmus.errors import JobError
from isthmus.session import Task
from isthmus.split.batches import Samples
from isthmus.split.sides import FeatureSide, LabelSide

Rate = Callable[[int], float]
"""From the step to the factor of the learning rates."""


class Schedule(ABC):
    """Runs a stretch of steps on either side: an epoch, or a part of one.

    Both sides are given the same batches. At the end of a stretch nothing is in flight and nothing
    is kept but what `state` returns, so that a checkpoint can be written there.
    """

    chosen: str = ""
    """The name of what was chosen, for a schedule that chooses."""

    @abstractmethod
    def feature_epoch(
        self, side: FeatureSide, batches: Sequence[Samples], first: int, rate: Rate, task: Task
    ) -> None:
        """The steps of a feature party; `first` is the number of the first one."""

    @abstractmethod
    def label_epoch(
        self, side: LabelSide, batches: Sequence[Samples], first: int, rate: Rate, task: Task
    ) -> float:
        """The steps of the label party; returns the mean loss over the samples exchanged."""

    def state(self) -> dict[str, Tensor]:
        """What must be found again after a restart."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue from what `state` returned.

        Raises:
            JobError: the state is another schedule's.
        """
        if state:
            raise JobError(f"the checkpoint's schedule has a state, {type(self).__name__} has none")
