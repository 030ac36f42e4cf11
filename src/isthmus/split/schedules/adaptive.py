"""Exchanges that are left out while the loss stands still."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from isthmus.errors import BadMessage
from isthmus.session import Task
from isthmus.split.batches import Feed, Samples
from isthmus.split.lane import shown
from isthmus.split.schedules.base import Rate, Schedule
from isthmus.split.schedules.local import SentCuts, TakenCuts, no_weights, similarity
from isthmus.split.sides import FeatureSide, LabelSide

_TOPIC = "train.pace"
_WINDOW = 256
"""Exchanges whose mean loss is compared with that of as many before: at batch 1024 the losses' own
scatter moves such a mean by some 0.25 %."""
_FALL = 0.005
"""The loss falls if the newer mean is lower by this share."""


class Adaptive(Schedule):
    """While the loss stands still, `updates - 1` batches after each exchange are not exchanged.

    (Fewer while fewer exchanges are kept, as at the beginning of an epoch.)

    The loss stands still when its mean over the last 256 exchanges is not 0.5 % or more below that
    of the 256 before. Then both sides visit earlier exchanges again, as in `Local`, in place of the
    batches left out: neither cuts nor gradients cross. While the loss falls, this is `Exact`. An
    epoch makes as many updates as under `Exact` and exchanges fewer rows. The idea is the
    loss-based state C of Chen, Li and Chakrabarti, "Communication and Computation Reduction for
    Split Learning using Asynchronous Training", arXiv 2107.09786, section 3; there the feature
    party's model rests meanwhile.

    The label party tells after each exchange how many batches are left out, which shows the feature
    parties when its loss stands still.

    Args:
        updates: for each exchange while the loss stands still.
        weighted: whether samples of earlier exchanges are weighted by `similarity`.
    """

    def __init__(self, updates: int, *, weighted: bool = True) -> None:
        self.updates = updates
        self.weigh = similarity if weighted else no_weights
        self.losses: deque[float] = deque(maxlen=2 * _WINDOW)

    def feature_epoch(
        self, side: FeatureSide, batches: Sequence[Samples], first: int, rate: Rate, task: Task
    ) -> None:
        """See `Schedule.feature_epoch`."""
        feed = Feed(side.feeds, batches)
        kept = SentCuts(self.updates - 1, self.weigh)
        step, end = first, first + len(batches)
        while step < end:
            samples, made = feed.take()
            batch = side.bottom.move(made[0])
            flight = side.forward(samples, [batch], step)
            kept.land(side, flight, batch, rate(step))
            pause = self._told(side, end - step - 1)
            kept.revisit(side, pause, rate(step))
            feed.skip(pause)
            step += 1 + pause
            task.advance(1 + pause)

    def label_epoch(
        self, side: LabelSide, batches: Sequence[Samples], first: int, rate: Rate, task: Task
    ) -> float:
        """See `Schedule.label_epoch`."""
        feed = Feed(side.feeds, batches)
        kept = TakenCuts(self.updates - 1, self.weigh)
        step, end = first, first + len(batches)
        total, count = 0.0, 0
        while step < end:
            size = len(batches[step - first])
            loss = kept.exchange(side, feed, step, rate(step))
            total, count = total + loss * size, count + size
            self.losses.append(loss)
            # No more batches are left out than there are exchanges to visit in their place.
            pause = min(len(kept) if self.stands_still() else 0, end - step - 1)
            for link in side.links.values():
                link.send(_TOPIC, header={"pause": pause})
            kept.revisit(side, pause, rate(step))
            feed.skip(pause)
            step += 1 + pause
            task.advance(1 + pause)
        return total / max(1, count)

    def stands_still(self) -> bool:
        """Whether the loss does not fall; False while too few exchanges are known."""
        if len(self.losses) < 2 * _WINDOW:
            return False
        losses = list(self.losses)
        return sum(losses[_WINDOW:]) > (1.0 - _FALL) * sum(losses[:_WINDOW])

    def state(self) -> dict[str, Tensor]:
        """See `Schedule.state`."""
        return {"losses": torch.tensor(list(self.losses), dtype=torch.float64)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """See `Schedule.load_state`."""
        self.losses.clear()
        self.losses.extend(state["losses"].tolist())

    def _told(self, side: FeatureSide, left: int) -> int:
        pause = side.hub.recv(_TOPIC).header.get("pause")
        if type(pause) is not int or not 0 <= pause <= min(left, self.updates - 1):
            raise BadMessage(f"{side.hub.partner} asks to leave out {shown(pause)} batches")
        return pause
