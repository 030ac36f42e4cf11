"""The two sides of the cut: what a feature party and the label party do with one batch.

The sides offer the pieces of a step; a schedule (`isthmus.split.schedules`) puts them in order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from isthmus.errors import NotFinite
from isthmus.models import later_weight_gradients
from isthmus.split.batches import PartyData, Samples
from isthmus.split.lane import CutLane
from isthmus.split.optim import PartyOptimizer
from isthmus.split.options import Loss

Cut = dict[str, Tensor]


@dataclass(frozen=True)
class Part:
    """A module with, for a bottom, the data it reads and, in training, its optimiser."""

    module: nn.Module
    device: torch.device
    data: PartyData | None = None
    optimizer: PartyOptimizer | None = None

    def update(self, factor: float) -> None:
        """Apply the gradients, with the learning rates multiplied by `factor`."""
        assert self.optimizer is not None
        self.optimizer.step(factor)

    def batch(self, samples: Samples, *, backward: bool) -> Any:
        """This bottom's input for `samples`, on its device."""
        assert self.data is not None
        return self.move(self.data.batch(samples, backward=backward))

    def move(self, batch: Any) -> Any:
        """`batch` on this part's device."""
        return batch if self.device.type == "cpu" else batch.to(self.device)


@dataclass(frozen=True)
class Flight:
    """A batch whose cut tensors have left and whose gradient has not come back."""

    step: int
    size: int
    cut: Cut


class FeatureSide:
    """A feature party's pieces of a step."""

    def __init__(self, bottom: Part, lane: CutLane) -> None:
        self.bottom = bottom
        self.lane = lane

    @property
    def feeds(self) -> Sequence[PartyData]:
        """The data sets whose batches the schedule must prepare."""
        assert self.bottom.data is not None
        return [self.bottom.data]

    def forward(self, samples: Samples, batches: Sequence[Any], step: int) -> Flight:
        """Compute and send the cut tensors of a batch."""
        cut: Cut = self.bottom.module(self.bottom.move(batches[0]))
        self.lane.send_cut(cut, step)
        return Flight(step, len(samples), cut)

    def backward(self, flight: Flight, factor: float) -> None:
        """Wait for the gradient of a flight and apply it."""
        gradient = self.lane.recv_gradient(flight.size, flight.step)
        names = [name for name, tensor in flight.cut.items() if tensor.requires_grad]
        torch.autograd.backward(
            [flight.cut[name] for name in names], [gradient[name] for name in names]
        )
        self.bottom.update(factor)


class LabelSide:
    """The label party's pieces of a step.

    Args:
        top: the top model.
        bottoms: the bottoms computed here: the label party's own, if it has features; all of them
            in the pooled reference.
        lanes: a lane per feature party.
        labels: float32 [samples].
        loss: of logits and labels.
    """

    def __init__(
        self,
        top: Part,
        bottoms: Mapping[str, Part],
        lanes: Mapping[str, CutLane],
        labels: npt.NDArray[np.float32],
        loss: Loss,
    ) -> None:
        self.top = top
        self.bottoms = dict(bottoms)
        self.lanes = dict(lanes)
        self.labels = labels
        self.loss = loss

    @property
    def feeds(self) -> Sequence[PartyData]:
        """The data sets whose batches the schedule must prepare, in the order of `bottoms`."""
        return [part.data for part in self.bottoms.values() if part.data is not None]

    def own_forward(self, batches: Sequence[Any]) -> dict[str, Cut]:
        """The cut tensors of the bottoms that are here."""
        return {
            party: part.module(part.move(batch))
            for (party, part), batch in zip(self.bottoms.items(), batches, strict=True)
        }

    def top_step(self, samples: Samples, own: Mapping[str, Cut], step: int) -> tuple[float, Cuts]:
        """Receive the partners' cuts, compute the loss, send their gradients.

        Partners get their gradient before our own bottoms run backward: they are waiting.

        Returns:
            The batch's mean loss, and the own cuts' gradients for `own_backward`.
        """
        leaves = {party: _leaves(cut) for party, cut in own.items()}
        for party, lane in self.lanes.items():
            leaves[party] = _leaves(lane.recv_cut(len(samples), step))
        logits = self.top.module(leaves)
        loss = self.loss(logits, torch.from_numpy(self.labels[samples]).to(self.top.device))
        value = loss.item()
        if not math.isfinite(value):
            raise NotFinite(
                f"the loss is {value} at step {step}",
                mend="Lower the learning rate, or look for extreme values in numeric columns.",
            )
        with later_weight_gradients() as later:
            loss.backward()  # type: ignore[no-untyped-call]
        gradients = {party: _gradients(cut) for party, cut in leaves.items()}
        for party, lane in self.lanes.items():
            lane.send_gradient(gradients[party], step)
        later.finish()
        return value, {party: gradients[party] for party in own}

    def own_backward(
        self, own: Mapping[str, Cut], gradients: Mapping[str, Cut], factor: float
    ) -> None:
        """Backward through the bottoms that are here, and update them and the top."""
        self.top.update(factor)
        for party, cut in own.items():
            names = [name for name, tensor in cut.items() if tensor.requires_grad]
            torch.autograd.backward(
                [cut[name] for name in names], [gradients[party][name] for name in names]
            )
            self.bottoms[party].update(factor)


Cuts = dict[str, Cut]


def _leaves(cut: Cut) -> Cut:
    return {name: tensor.detach().requires_grad_() for name, tensor in cut.items()}


def _gradients(leaves: Cut) -> Cut:
    # A tensor that the top does not use has no gradient: it is zero.
    return {
        name: torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        for name, leaf in leaves.items()
    }
