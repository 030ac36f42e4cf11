"""The train/valid/test cut that every party computes alike without a message.

A sample's part follows from a hash of the seed and its position in the aligned order, which all
parties share.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import JobError

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


_CHUNK = 1 << 20
"""Samples looked at together: bounds the memory beyond the result."""
_BITS = 16
"""Of a key, by which the first look sorts it."""

Positions = NDArray[np.signedinteger[Any]]
"""Positions in the aligned order, int32 where they fit and int64 where not."""


@dataclass(frozen=True, eq=False)
class Split:
    """Positions in the aligned order, ascending, disjoint, together all samples."""

    train: Positions
    valid: Positions
    test: Positions


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
    cuts = _thresholds(n, seed, (first, second))
    dtype = np.int32 if n <= np.iinfo(np.int32).max else np.int64
    sizes = (first, second - first, n - second)
    parts: list[Positions] = [np.empty(size, dtype) for size in sizes]
    filled = [0, 0, 0]
    for start, keys in _keys(n, seed):
        part = np.zeros(len(keys), np.int8)
        for cut in cuts:
            if cut is not None:
                part += keys >= cut
        for k, positions in enumerate(parts):
            found = np.flatnonzero(part == k)
            positions[filled[k] : filled[k] + len(found)] = found + start
            filled[k] += len(found)
    return Split(*parts)


def _keys(n: int, seed: int) -> Iterator[tuple[int, NDArray[np.uint64]]]:
    """The keys of all positions: chunks, each with its first position."""
    salt = splitmix64(np.array([seed & _MASK], dtype=np.uint64))[0]
    for start in range(0, n, _CHUNK):
        # XOR with a constant and splitmix64 are bijections: n positions give n different keys.
        positions = np.arange(start, min(start + _CHUNK, n), dtype=np.uint64)
        yield start, splitmix64(positions ^ salt)


def _thresholds(n: int, seed: int, ranks: tuple[int, ...]) -> list[np.uint64 | None]:
    """For each rank the key that has so many smaller ones: an exact cut, since keys differ.

    None for a rank that no key has. Keys are counted by their first bits; only those that share
    these with a threshold are sorted.
    """
    counts = np.zeros(1 << _BITS, dtype=np.int64)
    for _, keys in _keys(n, seed):
        counts += np.bincount(_first_bits(keys), minlength=len(counts))
    ends = np.cumsum(counts)
    bins = {rank: int(np.searchsorted(ends, rank, side="right")) for rank in ranks if rank < n}
    near: dict[int, list[NDArray[np.uint64]]] = {place: [] for place in bins.values()}
    for _, keys in _keys(n, seed):
        first = _first_bits(keys)
        for place, found in near.items():
            found.append(keys[first == place])
    thresholds: list[np.uint64 | None] = []
    for rank in ranks:
        if rank >= n:
            thresholds.append(None)
            continue
        place = bins[rank]
        before = int(ends[place] - counts[place])
        thresholds.append(np.sort(np.concatenate(near[place]))[rank - before])
    return thresholds


def _first_bits(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    return (keys >> np.uint64(64 - _BITS)).view(np.int64)
