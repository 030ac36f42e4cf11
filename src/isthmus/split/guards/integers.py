"""Two to eight bits a value, rounded to the nearest or at random so that the mean is right.

Alistarh et al., "QSGD", NIPS 2017, section 3.1, with the largest value of a row in place of its
norm: x / s * L lies between two integers and goes to the upper one with a probability of its
distance to the lower one, so the expected value of what arrives is x.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from isthmus.errors import BadMessage
from isthmus.link import Array
from isthmus.split.guards.base import Arrays, Floats, Layout, Slot, TensorGuard
from isthmus.split.guards.noise import generator_state, load_generator, thresholds
from isthmus.split.guards.packing import pack, packed_bytes, unpack
from isthmus.split.guards.scales import LARGEST, SMALLEST, read_scales, row_scales, scale_parts


class Integers(TensorGuard):
    """Values as integers in [-L, L], L = 2^(bits-1) - 1, with a scale a row.

    The error of a value is below s / L, with s the row's scale (`scales`). Thresholds have 16 bits,
    so a mean is right to 2^-17 of a step.

    Args:
        bits: 2 to 8.
        rng: draws the rounding.
        stochastic: round at random, so that the mean is right; else to the nearest. Right for
            gradients, wrong for activations (`docs/guards.md`).
    """

    lossy = True

    def __init__(self, bits: int, rng: np.random.Generator, *, stochastic: bool = True) -> None:
        self.stochastic = stochastic
        self.bits = bits
        self.levels = 2 ** (bits - 1) - 1
        self._rng = rng

    def parts(self, rows: int, width: int) -> Layout:
        """See `TensorGuard.parts`."""
        codes = Slot(np.dtype(np.uint8), (packed_bytes(rows * width, self.bits),))
        return {**scale_parts(rows), "codes": codes}

    def encode_matrix(self, name: str, x: Floats, learn: bool) -> Arrays:
        """See `TensorGuard.encode_matrix`."""
        del name
        at_random = learn and self.stochastic
        parts, scales, saturated = row_scales(x)
        if saturated:
            self.saturated += saturated
            x = np.clip(x, -LARGEST, LARGEST)
        if not parts["peak"][0]:
            x = np.zeros_like(x)
        # In fixed point with 16 bits behind the point, which float32 holds exactly.
        fixed = np.rint(x * (self.levels * 65536.0 / np.maximum(scales, SMALLEST)))
        rounded = (fixed.astype(np.int32) + thresholds(self._rng, x.shape, at_random)) >> 16
        return {**parts, "codes": pack(rounded + self.levels, self.bits)}

    def decode_matrix(self, parts: Arrays, rows: int, width: int) -> Array:
        """See `TensorGuard.decode_matrix`."""
        scales = read_scales(parts)
        codes = unpack(parts["codes"], rows * width, self.bits)
        if codes.max(initial=0) > 2 * self.levels:
            raise BadMessage(f"a value has a code above {2 * self.levels}")
        whole = codes.astype(np.float32).reshape(rows, width) - np.float32(self.levels)
        return whole * (scales / np.float32(self.levels))

    def state(self) -> Arrays:
        """See `Guard.state`."""
        return {"rng": generator_state(self._rng)}

    def load_state(self, state: Mapping[str, Array]) -> None:
        """See `Guard.load_state`."""
        load_generator(self._rng, state.get("rng"))
