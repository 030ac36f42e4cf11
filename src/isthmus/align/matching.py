"""Two lists of masked ids in chunks: how they are cut, and which values both have."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from isthmus.align.protocol import Names, Positions
from isthmus.errors import BadMessage
from isthmus.link import Link

TAG_BYTES = 16
"""Of a masked id as it is compared."""

Tags = npt.NDArray[np.uint8]


def chunks(count: int, size: int) -> int:
    """How many chunks of `size` there are of `count` ids."""
    return -(-count // size)


def length(count: int, chunk: int, size: int) -> int:
    """How many of `count` ids chunk number `chunk` holds; 0 before the first and after the last."""
    return min(max(count - chunk * size, 0), size) if chunk >= 0 else 0


def distinct(link: Link, parts: Sequence[Tags]) -> npt.NDArray[np.bytes_]:
    """Chunks uint8 `[n, 16]` as one array of strings of 16 bytes.

    Raises:
        BadMessage: the partner sent one of them twice.
    """
    # Numpy compares such strings without their trailing zero bytes: the same as with them, since
    # all are equally long.
    values = np.ascontiguousarray(np.concatenate(parts)).view(f"S{TAG_BYTES}")[:, 0]
    if len(np.unique(values)) < len(values):
        raise BadMessage(f"{link.partner} sent the same point twice")
    return values


def in_common(
    link: Link, ours: Sequence[Tags], theirs: Sequence[Tags]
) -> tuple[Positions, Positions]:
    """Positions in both lists of the values that both have, int64 `[c]` each.

    Raises:
        BadMessage: the partner sent a value twice.
    """
    mine, other = _halves(ours), _halves(theirs)
    if _any_twice(mine[:, 0]) or _any_twice(other[:, 0]):
        # Two values whose first halves agree: made up, as good as certainly.
        return _in_common_of_strings(distinct(link, ours), distinct(link, theirs))
    # Numbers are compared many times faster than strings.
    _, here, there = np.intersect1d(
        mine[:, 0], other[:, 0], assume_unique=True, return_indices=True
    )
    same = mine[here, 1] == other[there, 1]
    return here[same], there[same]


def _halves(parts: Sequence[Tags]) -> npt.NDArray[np.uint64]:
    """Chunks uint8 `[n, 16]` as two numbers each, `[n, 2]`."""
    return np.ascontiguousarray(np.concatenate(parts)).view(np.uint64)


def _any_twice(values: npt.NDArray[np.uint64]) -> bool:
    ordered = np.sort(values)
    return bool((ordered[1:] == ordered[:-1]).any())


def _in_common_of_strings(
    mine: npt.NDArray[np.bytes_], other: npt.NDArray[np.bytes_]
) -> tuple[Positions, Positions]:
    _, here, there = np.intersect1d(mine, other, assume_unique=True, return_indices=True)
    return here, there


def find(own: Names, wanted: Names) -> Positions:
    """Which row of `own` each of `wanted` is, int64 `[c]`, -1 for none.

    Args:
        own: uint8 `[n, w]`, all different, w at least 8.
        wanted: uint8 `[c, w]`.
    """
    heads, asked = _heads(own), _heads(wanted)
    order = np.argsort(heads)
    heads = heads[order]
    maybe = np.argsort(asked)  # in order, so that the search stays in one place of memory
    at = np.searchsorted(heads, asked[maybe])
    found = np.full(len(wanted), -1, dtype=np.int64)
    while len(at):
        alike = at < len(heads)
        alike[alike] = heads[at[alike]] == asked[maybe[alike]]
        maybe, at = maybe[alike], at[alike]
        same = (own[order[at]] == wanted[maybe]).all(axis=1)
        found[maybe[same]] = order[at[same]]
        maybe, at = maybe[~same], at[~same] + 1  # the next may begin alike, though hardly ever does
    return found


def all_different(rows: Positions, count: int) -> bool:
    """Whether no row of `count` is there twice."""
    seen = np.zeros(count, dtype=bool)
    seen[rows] = True
    return int(seen.sum()) == len(rows)


def _heads(names: Names) -> npt.NDArray[np.uint64]:
    return np.ascontiguousarray(names[:, :8]).view(np.uint64)[:, 0]
