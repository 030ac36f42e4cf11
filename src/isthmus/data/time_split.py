"""The train/valid/test cut by time: the last samples are held out, of all or of each group."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from isthmus.data.split import Positions, Split
from isthmus.data.times import Times

TRAIN, VALID, TEST = 0, 1, 2

_CHUNK = 1 << 20
"""Samples looked at together: bounds the memory beyond the result."""

Parts = NDArray[np.uint8]
"""[samples]: 0 for training, 1 for validation, 2 for test."""


def part_sizes(n: int, fractions: tuple[float, float, float]) -> tuple[int, int, int]:
    """How many of `n` samples each part has, as in `split_samples`."""
    train, valid, _ = fractions
    first, second = round(n * train), round(n * (train + valid))
    return first, second - first, n - second


def parts_by_time(
    time: Times,
    fractions: tuple[float, float, float],
    group: NDArray[np.int64] | None = None,
) -> Parts:
    """The earliest samples are training, then come validation and test, in exactly rounded sizes.

    With `group` [samples] the same holds within each group: a sample's place is then the share of
    its group's samples before it, so that every group gives its last ones, and a group of one
    gives it to training (wherever training has more than half). Samples of equal time are told
    apart by their position in the aligned order.

    Args:
        time: float64 [samples], no NaN.
        fractions: train, valid, test.
        group: int64 [samples]; None for a single one.
    """
    n = len(time)
    place = time if group is None else _places(time, group)
    order = np.argsort(place, kind="stable")
    parts = np.empty(n, dtype=np.uint8)
    parts[order] = np.repeat(np.array([TRAIN, VALID, TEST], np.uint8), part_sizes(n, fractions))
    return parts


def parts_of(split: Split, samples: int) -> Parts:
    """`split` as one part number a sample."""
    parts = np.zeros(samples, dtype=np.uint8)
    parts[split.valid], parts[split.test] = VALID, TEST
    return parts


def split_of_parts(parts: Parts) -> Split:
    """The positions of each part, ascending."""
    dtype = np.int32 if len(parts) <= np.iinfo(np.int32).max else np.int64
    sizes = [np.count_nonzero(parts == part) for part in (TRAIN, VALID, TEST)]
    found: list[Positions] = [np.empty(size, dtype) for size in sizes]
    filled = [0, 0, 0]
    for start in range(0, len(parts), _CHUNK):
        chunk = parts[start : start + _CHUNK]
        for part, positions in enumerate(found):
            here = np.flatnonzero(chunk == part) + start
            positions[filled[part] : filled[part] + len(here)] = here
            filled[part] += len(here)
    return Split(*found)


def _places(time: Times, group: NDArray[np.int64]) -> Times:
    """(rank + 1/2) / size of each sample within its group, by time."""
    order = np.lexsort((time, group))
    _, start, size = np.unique(group[order], return_index=True, return_counts=True)
    rank = np.arange(len(time)) - np.repeat(start, size)
    places = np.empty(len(time))
    places[order] = (rank + 0.5) / np.repeat(size, size)
    return places
