"""Real numbers as elements of a ring, so that masks can hide them and sums stay exact.

Why a ring of 32 bits: a word is as long as the float32 that it stands for, so secure sums cost no
bytes. Of the 32 bits one is the sign, and one is left free: sums of honest words use half of the
ring, so masks that do not cancel are noticed at almost every batch (see `FixedPoint.decode`). With
n parties, 30 bits are shared out between n and the range: `limit` = 2^(30 - fraction) / n. The
default step is 2^-18 = 3.8e-6, about float32's own at 32, and then a value may be up to 2048 for
two feature parties and 1024 for four. The ring of 64 bits has twice the bytes and, with the step
2^-32, a range up to 2^30 / n: nothing that training produces is clipped, and the sum is as good as
one of float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from isthmus.crypto.masks import Words
from isthmus.errors import BadMessage, JobError, NotFinite

Floats = npt.NDArray[np.float32]
_DTYPES: dict[int, tuple[Any, Any]] = {32: (np.uint32, np.int32), 64: (np.uint64, np.int64)}
_MANTISSA = 24
"""Bits of a float32 number's significand."""


@dataclass(frozen=True)
class FixedPoint:
    """How values are written in the ring of integers modulo 2^bits.

    The sum of all parties' decoded values differs from the sum of the values by at most `bound`
    (and float32's rounding of the result), where none of them was clipped.

    Args:
        parties: how many parties' values are added, at least 2.
        bits: of the ring: 32 or 64.
        fraction: bits behind the point.

    Raises:
        JobError: no such ring, or less than 1 is left as range.
    """

    parties: int
    bits: int = 32
    fraction: int = 18

    def __post_init__(self) -> None:
        if self.bits not in _DTYPES or self.fraction < 0 or self.parties < 2:
            raise JobError(
                f"no fixed point of {self.bits} bits, {self.fraction} of them behind the point, "
                f"for {self.parties} parties",
                mend="Use 32 or 64 bits, and at least two parties.",
            )
        if self.limit < 1.0:
            raise JobError(
                f"with {self.fraction} bits behind the point and {self.parties} parties no number "
                f"above {self.limit:g} fits in {self.bits} bits",
                mend="Use fewer bits behind the point, or the ring of 64 bits.",
            )

    @property
    def step(self) -> float:
        """The distance between neighbouring values."""
        return 2.0**-self.fraction

    @property
    def limit(self) -> float:
        """The largest absolute value of one party that is not clipped; exact in float32."""
        return self._most * self.step

    @property
    def bound(self) -> float:
        """The largest error of a sum by rounding to the step: half a step a party."""
        return self.parties * self.step / 2

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the words: uint32 or uint64."""
        dtype: np.dtype[Any] = np.dtype(_DTYPES[self.bits][0])
        return dtype

    @property
    def _most(self) -> int:
        """The largest absolute value of one party's word, rounded down to what float32 can hold."""
        most = (1 << self.bits - 2) // self.parties
        spare = max(0, most.bit_length() - _MANTISSA)
        return most >> spare << spare

    def encode(self, values: Floats, out: Words) -> int:
        """Write `values` in the ring, rounded to the nearest step and clipped to +-`limit`.

        Args:
            values: float32, any shape.
            out: uint32 or uint64 of the same shape, contiguous; takes the result.

        Returns:
            How many values were clipped.

        Raises:
            NotFinite: a value is NaN or infinite.
        """
        clipped = 0
        # Powers of two change no digit of a float32: the rounding below is the only one.
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = values * np.float32(2.0**self.fraction)
        if scaled.size and not max(float(scaled.max()), -float(scaled.min())) <= self._most:
            if not np.isfinite(values).all():
                raise NotFinite(
                    "a cut tensor holds NaN or infinity",
                    mend="Lower the learning rate, or look for extreme values in numeric columns.",
                )
            clipped = int(np.count_nonzero(np.abs(scaled) > self._most))
            np.clip(scaled, -self._most, self._most, out=scaled)
        np.rint(scaled, out=scaled)
        np.copyto(out.view(_DTYPES[self.bits][1]), scaled, casting="unsafe")
        return clipped

    def decode(self, total: Words) -> Floats:
        """The sum of the parties' values, float32, from the sum of their words.

        Raises:
            BadMessage: the sum is larger than all parties together can send, as happens with
                probability 1/2 a word where masks do not cancel: somebody's message was of other
                samples, or not made by this protocol.
        """
        signed = total.view(_DTYPES[self.bits][1])
        most = self._most * self.parties
        if signed.size and max(int(signed.max()), -int(signed.min())) > most:
            raise BadMessage(
                "the masked sum is out of range: the feature parties' masks do not cancel",
                mend="All parties must run the same version and the same job.",
            )
        floats: Floats = signed.astype(np.float32)
        floats *= np.float32(self.step)
        return floats
