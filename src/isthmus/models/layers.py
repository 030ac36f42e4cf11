"""Layers that draw from a generator of their own, so that every party is reproducible alone.

Torch's layers draw from one generator a process. With several parties in a process their initial
weights and dropout masks would depend on each other, and on nothing a partner could repeat.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


def seeded_linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """A linear layer with torch's usual initial values, drawn from `generator`."""
    layer: nn.Linear = nn.utils.skip_init(  # type: ignore[no-untyped-call]
        nn.Linear, inputs, outputs
    )
    bound = 1.0 / math.sqrt(inputs) if inputs else 0.0
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=generator)
        layer.bias.uniform_(-bound, bound, generator=generator)
    return layer


class Dropout(nn.Module):
    """Dropout whose masks come from a generator of its own, saved with the model's state.

    Args:
        rate: the probability that a value is set to zero in training.
        seed: seeds the generator.
    """

    def __init__(self, rate: float, seed: int) -> None:
        super().__init__()
        self.rate = rate
        self._generator = torch.Generator().manual_seed(seed)

    def forward(self, x: Tensor) -> Tensor:
        """`x` with each value kept with probability 1 - rate and then divided by it."""
        mask = self.mask(x.shape)
        return x if mask is None else x * mask.to(x.device, x.dtype)

    def mask(self, shape: Sequence[int]) -> Tensor | None:
        """Draw the next factors, float32: 0 or 1 / (1 - rate). None where nothing is dropped."""
        if not self.training or self.rate == 0.0:
            return None
        keep = 1.0 - self.rate
        mask = torch.empty(tuple(shape)).bernoulli_(keep, generator=self._generator)
        return mask.div_(keep)

    def get_extra_state(self) -> Tensor:
        """The generator's state, uint8 [bytes]."""
        return self._generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        """Continue from a saved generator state."""
        self._generator.set_state(state.cpu())
