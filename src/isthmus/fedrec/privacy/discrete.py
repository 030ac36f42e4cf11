"""Noise that devices add to their words: discrete normal, drawn with whole numbers alone.

Canonne, Kamath, Steinke: The Discrete Gaussian for Differential Privacy, NeurIPS 2020, algorithms 1
to 3: exact, from the system's random bits, so that no rounding of floating numbers is there to give
a value away (Mironov, CCS 2012). Its sensitivity by its deviation gives the concentrated
differential privacy of normal noise (theorem 4). The sum of several devices' noise is as good as
one of the summed variance (Kairouz, Liu, Steinke, ICML 2021, theorem 1): apart from it by 10 n
exp(-pi^2 s^2) at most, with s the deviation of each in whole numbers, `FINEST` or more.

Whole numbers of 64 bits hold deviations below 2^21, so that values with more noise are rounded to
coarser steps first; what rounding adds to the sensitivity is made up for by more noise.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import JobError
from isthmus.fedrec.privacy.secure_terms import Terms

Whole = NDArray[np.int64]
Bits = Callable[[int], bytes]
"""So many random bytes."""
FINEST, _WIDEST = 64, 19
"""The least deviation of a device's noise, in steps; the usual one, as a power of two."""
_BLOCK = 1 << 18
_SLACK = 2.0**-14
"""Clipped changes are float32, and so may measure a little more than the clip."""


@dataclass(frozen=True)
class Share:
    """One device's share of the noise, in steps of its words."""

    coarse: int
    """Values are rounded to multiples of this."""
    deviation: int
    """Of the noise, in multiples of `coarse`."""

    def added(self, values: NDArray[np.float64], bits: Bits = secrets.token_bytes) -> Whole:
        """Values in steps, float64 [k], rounded, with noise, int64 [k]."""
        rounded = np.rint(values / self.coarse).astype(np.int64)
        return np.asarray(self.coarse * (rounded + gaussian(self.deviation, len(values), bits)))


def share(sensitivity: float, multiplier: float, numbers: int, terms: Terms) -> Share:
    """The share of each device of a secure sum.

    So much that the noise of the fewest honest devices is enough: after the tolerated losses, and
    without that of `terms.traitors`, who know their own and can take it off.

    Args:
        sensitivity: how far one client moves the sum at most, by the 2-norm, in steps.
        multiplier: the deviation wanted, in sensitivities.
        numbers: how many there are, each of which is rounded.
        terms: of the sum.

    Raises:
        JobError: the noise is less than `FINEST` steps.
    """
    least = math.sqrt(honest(terms))
    coarse = max(1, int(multiplier * sensitivity / least) >> _WIDEST)
    moved = sensitivity * (1 + _SLACK) + coarse * math.sqrt(numbers)
    deviation = math.ceil(multiplier * moved / (least * coarse))
    if not FINEST <= deviation < 1 << (_WIDEST + 2):
        raise JobError(
            f"noise of {deviation} steps for each shard is out of range",
            mend="Set a larger or smaller --clip or --noise.",
        )
    return Share(coarse, deviation)


def honest(terms: Terms) -> int:
    """The fewest devices whose noise is in the sum and unknown to others."""
    return max(1, terms.clients - terms.lost - terms.traitors)


def gaussian(deviation: int, count: int, bits: Bits = secrets.token_bytes) -> Whole:
    """Discrete normal numbers, int64 [count]: of x with a chance as exp(-x^2 / 2 deviation^2)."""
    out = np.empty(count, np.int64)
    for first in range(0, count, _BLOCK):
        out[first : first + _BLOCK] = _gaussian(deviation, min(_BLOCK, count - first), bits)
    return out


def _gaussian(deviation: int, count: int, bits: Bits) -> Whole:
    """Algorithm 3 with t = deviation."""
    out, missing = np.empty(count, np.int64), np.arange(count)
    while len(missing):
        drawn = _laplace(deviation, len(missing), bits)
        apart = (np.abs(drawn) - deviation) ** 2
        kept = _coins(apart, np.full(len(apart), 2 * deviation**2), bits)
        out[missing[kept]] = drawn[kept]
        missing = missing[~kept]
    return out


def _laplace(scale: int, count: int, bits: Bits) -> Whole:
    """Algorithm 2: of x with a chance as exp(-|x| / scale)."""
    out, missing = np.empty(count, np.int64), np.arange(count)
    while len(missing):
        size = len(missing)
        part = _below(np.full(size, scale), bits)
        kept = _coins(part, np.full(size, scale), bits)
        times = np.zeros(size, np.int64)
        going = np.flatnonzero(kept)
        while len(going):
            going = going[
                _coins(np.ones(len(going), np.int64), np.ones(len(going), np.int64), bits)
            ]
            times[going] += 1
        value = part + scale * times
        negative = _below(np.full(size, 2), bits) == 1
        kept &= ~(negative & (value == 0))
        out[missing[kept]] = np.where(negative, -value, value)[kept]
        missing = missing[~kept]
    return out


def _coins(over: Whole, under: Whole, bits: Bits) -> NDArray[np.bool_]:
    """Algorithm 1: true with a chance of exp(-over / under)."""
    whole, rest = np.divmod(over, under)
    out = _small_coins(rest, under, bits)
    for turn in range(int(whole.max(initial=0))):
        some = np.flatnonzero(out & (whole > turn))
        if not len(some):
            break
        one = np.ones(len(some), np.int64)
        out[some] = _small_coins(one, one, bits)
    return out


def _small_coins(over: Whole, under: Whole, bits: Bits) -> NDArray[np.bool_]:
    """The same for over / under of 1 at most."""
    odd, going, turn = np.zeros(len(over), np.bool_), np.arange(len(over)), 1
    while len(going):
        going = going[_below(under[going] * turn, bits) < over[going]]
        # Who stops after an even number of successes has its coin true.
        turn += 1
        odd[going] = ~odd[going]
    return ~odd


def _below(bound: Whole, bits: Bits) -> Whole:
    """Whole numbers of 0 to bound - 1, all alike."""
    size = bound.astype(np.uint64)
    most = np.uint64(0xFFFFFFFFFFFFFFFF)
    limit = most - (most % size + np.uint64(1)) % size
    out, missing = np.empty(len(bound), np.uint64), np.arange(len(bound))
    while len(missing):
        drawn = np.frombuffer(bits(8 * len(missing)), np.uint64)
        fine = drawn <= limit[missing]
        out[missing[fine]] = drawn[fine] % size[missing[fine]]
        missing = missing[~fine]
    return out.astype(np.int64)
