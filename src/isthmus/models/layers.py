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
        if not self.training or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        mask = torch.empty(x.shape, dtype=x.dtype).bernoulli_(keep, generator=self._generator)
        return x * mask.div_(keep).to(x.device)

    def get_extra_state(self) -> Tensor:
        """The generator's state, uint8 [bytes]."""
        return self._generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        """Continue from a saved generator state."""
        self._generator.set_state(state.cpu())


def mlp(
    inputs: int, widths: Sequence[int], *, dropout: float, generator: torch.Generator
) -> nn.Sequential:
    """Linear layers of the given widths, each followed by ReLU and, where asked for, dropout."""
    layers: list[nn.Module] = []
    for width in widths:
        layers += [seeded_linear(inputs, width, generator), nn.ReLU()]
        if dropout:
            seed = int(torch.randint(2**62, (), generator=generator))
            layers.append(Dropout(dropout, seed))
        inputs = width
    return nn.Sequential(*layers)
