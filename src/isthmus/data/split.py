"""The train/valid/test cut that every party computes alike without a message.

A sample's part follows from a hash of the seed and its position in the aligned order, which all
parties share.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import JobError

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


@dataclass(frozen=True, eq=False)
class Split:
    """Positions in the aligned order, each int64, ascending, disjoint, together all samples."""

    train: NDArray[np.int64]
    valid: NDArray[np.int64]
    test: NDArray[np.int64]


def splitmix64(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The output function of SplitMix64, a bijection on 64 bits (Steele et al., OOPSLA 2014)."""
    z = x + np.uint64(_GOLDEN)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def split_samples(
    n: int, seed: int, fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
) -> Split:
    """Cut `n` aligned samples into train, valid and test parts of exactly the rounded sizes.

    Raises:
        JobError: the fractions are negative, do not sum to one, or leave no training part.
    """
    train, valid, test = fractions
    if min(fractions) < 0 or not math.isclose(train + valid + test, 1.0, abs_tol=1e-6):
        raise JobError(
            f"the split fractions {train}, {valid}, {test} must not be negative and must sum to 1"
        )
    if train == 0:
        raise JobError(
            "the split leaves nothing to train on", mend="Give train a fraction above 0."
        )
    first, second = round(n * train), round(n * (train + valid))
    keys = _keys(n, seed)
    part = (keys >= _threshold(keys, first)).astype(np.int8)
    part += keys >= _threshold(keys, second)
    # The last key equals no threshold above it, so a cut at n must take nothing away.
    if first >= n:
        part[:] = 0
    elif second >= n:
        np.minimum(part, 1, out=part)
    return Split(*(np.flatnonzero(part == k).astype(np.int64) for k in range(3)))


def _keys(n: int, seed: int) -> NDArray[np.uint64]:
    start = splitmix64(np.array([seed & _MASK], dtype=np.uint64))[0]
    # XOR with a constant and splitmix64 are bijections: n positions give n different keys.
    return splitmix64(np.arange(n, dtype=np.uint64) ^ start)


def _threshold(keys: NDArray[np.uint64], rank: int) -> np.uint64:
    """The key that has `rank` smaller ones: an exact cut in linear time, since keys differ."""
    if rank >= len(keys):
        return np.uint64(_MASK)
    return np.uint64(np.partition(keys, rank)[rank])
