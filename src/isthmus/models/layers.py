"""Layers that draw from a generator of their own, so that every party is reproducible alone.

Torch's layers draw from one generator a process. With several parties in a process their initial
weights and dropout masks would depend on each other, and on nothing a partner could repeat. Nor
does torch's generator serve as a party's own: on a CPU it keeps 32 bits of its seed, few enough for
a partner to try them all and so to know the initial weights. Numpy's keeps all of them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn


def normal(rows: int, width: int, std: float, rng: np.random.Generator) -> Tensor:
    """Normal values of mean 0, float32 [rows, width]."""
    return torch.from_numpy(rng.standard_normal((rows, width), dtype=np.float32)).mul_(std)


def seeded_linear(inputs: int, outputs: int, rng: np.random.Generator) -> nn.Linear:
    """A linear layer with torch's usual initial values, drawn from `rng`."""
    layer: nn.Linear = nn.utils.skip_init(  # type: ignore[no-untyped-call]
        nn.Linear, inputs, outputs
    )
    bound = 1.0 / math.sqrt(inputs) if inputs else 0.0
    with torch.no_grad():
        for parameter in (layer.weight, layer.bias):
            values = rng.random(tuple(parameter.shape), dtype=np.float32)
            parameter.copy_(torch.from_numpy(values).mul_(2.0).sub_(1.0).mul_(bound))
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
        self._rng = np.random.default_rng(seed)

    def forward(self, x: Tensor) -> Tensor:
        """`x` with each value kept with probability 1 - rate and then divided by it."""
        mask = self.mask(x.shape)
        return x if mask is None else x * mask.to(x.device, x.dtype)

    def mask(self, shape: Sequence[int]) -> Tensor | None:
        """Draw the next factors, float32: 0 or 1 / (1 - rate). None where nothing is dropped."""
        if not self.training or self.rate == 0.0:
            return None
        kept = self._rng.random(tuple(shape), dtype=np.float32) >= self.rate
        return torch.from_numpy(kept.astype(np.float32)).div_(1.0 - self.rate)

    def get_extra_state(self) -> Tensor:
        """The generator's state, uint8 [bytes]."""
        text = json.dumps(self._rng.bit_generator.state).encode()
        return torch.frombuffer(bytearray(text), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Continue from a saved generator state."""
        self._rng.bit_generator.state = json.loads(state.cpu().numpy().tobytes())
