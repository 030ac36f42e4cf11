"""Shorter floats: fp16, bf16 and the two fp8 formats.

Where half precision would overflow or underflow, a power of two is taken out of the tensor first
(loss scaling, Micikevicius et al., "Mixed precision training", ICLR 2018, section 3.2, chosen anew
for each tensor): gradients of a mean loss lie below fp16's smallest normal number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from isthmus.errors import BadMessage
from isthmus.link import Array
from isthmus.split.guards.base import Arrays, Floats, Layout, Slot, TensorGuard, finite
from isthmus.split.guards.noise import generator_state, load_generator, thresholds
from isthmus.split.guards.scales import LARGEST, SMALLEST, read_scales, row_scales, scale_parts

_FP16_MAX = 65504.0
_BF16_MAX = float(torch.finfo(torch.bfloat16).max)
_MOST_EXPONENT = 126


class Fp16(TensorGuard):
    """Values as IEEE half precision, to the nearest: 11 bits of precision.

    Args:
        scaled: take a power of two out of each tensor, so that its largest value lies in
            [2^14, 2^15): none overflows. Without, values over 65504 are sent as 65504 and counted.
    """

    lossy = True

    def __init__(self, *, scaled: bool = True) -> None:
        self.scaled = scaled

    def parts(self, rows: int, width: int) -> Layout:
        """See `TensorGuard.parts`."""
        values = {"half": Slot(np.dtype(np.float16), (rows, width))}
        return {"exponent": Slot(np.dtype(np.int8), (1,)), **values} if self.scaled else values

    def encode_matrix(self, name: str, x: Floats, learn: bool) -> Arrays:
        """See `TensorGuard.encode_matrix`."""
        del name, learn
        if not self.scaled:
            over = np.abs(x) > _FP16_MAX
            if over.any():
                self.saturated += int(np.count_nonzero(over))
                x = np.clip(x, -_FP16_MAX, _FP16_MAX)
            return {"half": x.astype(np.float16)}
        largest = float(np.abs(x).max(initial=0.0))
        exponent = math.frexp(largest)[1] - 15 if largest else 0
        exponent = min(max(exponent, -_MOST_EXPONENT), _MOST_EXPONENT)
        half = (x * np.float32(2.0**-exponent)).astype(np.float16)
        return {"exponent": np.array([exponent], np.int8), "half": half}

    def decode_matrix(self, parts: Arrays, rows: int, width: int) -> Array:
        """See `TensorGuard.decode_matrix`."""
        values = parts["half"].astype(np.float32)
        if self.scaled:
            exponent = int(parts["exponent"][0])
            if abs(exponent) > _MOST_EXPONENT:
                raise BadMessage(f"an exponent is beyond {_MOST_EXPONENT}")
            with np.errstate(over="ignore"):
                values = values * np.float32(2.0**exponent)
        if not finite(values):
            raise BadMessage("a half-precision value is not a finite number")
        return values


class Bf16(TensorGuard):
    """Values as bfloat16, to the nearest: the range of float32 with 8 bits of precision."""

    lossy = True

    def parts(self, rows: int, width: int) -> Layout:
        """See `TensorGuard.parts`."""
        return {"bits": Slot(np.dtype(np.uint16), (rows, width))}

    def encode_matrix(self, name: str, x: Floats, learn: bool) -> Arrays:
        """See `TensorGuard.encode_matrix`."""
        del name, learn
        over = np.abs(x) > _BF16_MAX
        if over.any():
            self.saturated += int(np.count_nonzero(over))
            x = np.clip(x, -np.float32(_BF16_MAX), np.float32(_BF16_MAX))
        bits = torch.from_numpy(np.require(x, requirements="W")).bfloat16().view(torch.int16)
        return {"bits": bits.numpy().view(np.uint16)}

    def decode_matrix(self, parts: Arrays, rows: int, width: int) -> Array:
        """See `TensorGuard.decode_matrix`."""
        values = (parts["bits"].astype(np.uint32) << 16).view(np.float32)
        if not finite(values):
            raise BadMessage("a bfloat16 value is not a finite number")
        return values


@dataclass(frozen=True)
class Fp8Format:
    """A format of Micikevicius et al., "FP8 formats for deep learning", arXiv 2209.05433."""

    name: str
    mantissa: int
    bias: int
    largest: float
    dtype: torch.dtype


E4M3 = Fp8Format("e4m3", 3, 7, 448.0, torch.float8_e4m3fn)
E5M2 = Fp8Format("e5m2", 2, 15, 57344.0, torch.float8_e5m2)


class Fp8(TensorGuard):
    """Values as eight-bit floats with a scale a row.

    Against int8, small values of a row keep their relative precision, large ones have less: the
    error of a value is below 2^-3 (E4M3) or 2^-2 (E5M2) of itself.

    Args:
        form: `E4M3` or `E5M2`.
        rng: draws the rounding.
        stochastic: as for `Integers`.
    """

    lossy = True

    def __init__(
        self, form: Fp8Format, rng: np.random.Generator, *, stochastic: bool = True
    ) -> None:
        self.stochastic = stochastic
        self.form = form
        self._rng = rng
        self._table: Floats = (
            torch.arange(256, dtype=torch.uint8).view(form.dtype).to(torch.float32).numpy()
        )

    def parts(self, rows: int, width: int) -> Layout:
        """See `TensorGuard.parts`."""
        return {**scale_parts(rows), "codes": Slot(np.dtype(np.uint8), (rows, width))}

    def encode_matrix(self, name: str, x: Floats, learn: bool) -> Arrays:
        """See `TensorGuard.encode_matrix`."""
        del name
        parts, scales, saturated = row_scales(x)
        if saturated:
            self.saturated += saturated
            x = np.clip(x, -LARGEST, LARGEST)
        if not parts["peak"][0]:
            x = np.zeros_like(x)
        scaled = x * (np.float32(self.form.largest) / np.maximum(scales, SMALLEST))
        code = (
            self._round(np.abs(scaled), learn and self.stochastic)
            | np.signbit(scaled).astype(np.uint8) << 7
        )
        return {**parts, "codes": code}

    def _round(self, a: Floats, at_random: bool) -> npt.NDArray[np.uint8]:
        """Codes of `a` >= 0, at most the format's largest, each rounded down or up."""
        form = self.form
        shift = 23 - form.mantissa
        # A float's bits grow with it, and between two numbers of the format they grow linearly:
        # with the exponents' biases aligned they are the code with `shift` bits behind the point.
        normal = a.view(np.uint32).astype(np.int32) - ((127 - form.bias) << 23)
        # Below the smallest normal number the code is the number of smallest steps.
        tiny = a < np.float32(2.0 ** (1 - form.bias))
        steps = a * np.float32(2.0 ** (form.bias - 1 + form.mantissa + shift))
        fixed = np.where(tiny, np.where(tiny, steps, 0).astype(np.int32), normal)
        noise = thresholds(self._rng, a.shape, at_random).astype(np.int32) << (shift - 16)
        rounded: npt.NDArray[np.uint8] = ((fixed + noise) >> shift).astype(np.uint8)
        return rounded

    def decode_matrix(self, parts: Arrays, rows: int, width: int) -> Array:
        """See `TensorGuard.decode_matrix`."""
        scales = read_scales(parts)
        values: Floats = self._table[parts["codes"]]
        if not finite(values):
            raise BadMessage("an eight-bit float is not a finite number")
        return values * (scales / np.float32(self.form.largest))

    def state(self) -> Arrays:
        """See `Guard.state`."""
        return {"rng": generator_state(self._rng)}

    def load_state(self, state: Mapping[str, Array]) -> None:
        """See `Guard.load_state`."""
        load_generator(self._rng, state.get("rng"))
