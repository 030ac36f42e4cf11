"""Images by the name of a public set, from the tables of `isthmus data get`, or from a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isthmus.data.image_sets import SHAPES
from isthmus.data.sources import get, table_paths
from isthmus.errors import JobError
from isthmus.fedrec.images.data import Images, Longs, load_local

PUBLIC = tuple(SHAPES)
_AT_ONCE = 4096


def load(
    source: str,
    take: int | None = None,
    rng: np.random.Generator | None = None,
    say: Callable[[str], None] | None = None,
) -> Images:
    """Images of a public set, which is fetched if need be, scikit-learn's digits or an own file.

    Of a public set training and test images are taken alike, as clients get parts of their own, and
    pixels are standardised by the mean and the deviation of their channel over what is taken; of
    others by those of each pixel over all images, see `load_local`.

    Args:
        source: one of `PUBLIC`, `digits`, or the path of an `.npz` file.
        take: so many images, drawn at random, or, where images have writers, all images of writers
            drawn at random until there are so many; None: all. Of a public set only these are read.
        rng: draws; needed for `take`.
        say: told where a public set is being fetched from.

    Raises:
        SourceError: the public set cannot be had.
        DataError: the file is missing or holds something else.
        JobError: there are not so many images, or a package is missing.
    """
    if source in PUBLIC:
        return _load_public(source, take, rng, say)
    found = load_local(source)
    if take is None:
        return found
    rows = _drawn(len(found.y), take, None, rng)
    return replace(found, x=found.x[rows], y=found.y[rows], known_classes=found.classes)


def _load_public(
    name: str,
    take: int | None,
    rng: np.random.Generator | None,
    say: Callable[[str], None] | None,
) -> Images:
    path = table_paths(get(name, say=say))["images"]
    facts = pl.read_parquet(path, columns=_columns(path))
    writers = _numbered(facts["writer"]) if "writer" in facts.columns else None
    y = facts["label"].to_numpy().astype(np.int64)
    rows = np.arange(len(y)) if take is None else _drawn(len(y), take, writers, rng)
    x = _pixels(path, rows, SHAPES[name])
    center, scale = _by_channel(x, SHAPES[name][2])
    owners = None if writers is None else writers[rows]
    return Images(name, x, y[rows], SHAPES[name], owners, center, scale, int(y.max()) + 1)


def _drawn(count: int, take: int, writers: Longs | None, rng: np.random.Generator | None) -> Longs:
    """The rows of a sample, rising; see `load`."""
    if rng is None:
        raise JobError("a sample of images needs a generator")
    if not 1 <= take <= count:
        raise JobError(f"--take must be from 1 to {count:,}, the number of images")
    if writers is None:
        return np.sort(rng.permutation(count)[:take])
    order = rng.permutation(int(writers.max()) + 1)
    sizes = np.bincount(writers)[order]
    enough = int(np.searchsorted(np.cumsum(sizes), take)) + 1
    return np.flatnonzero(np.isin(writers, order[:enough]))


def _columns(path: Path) -> list[str]:
    return [name for name in ("label", "writer") if name in pl.read_parquet_schema(path)]


def _numbered(names: pl.Series) -> Longs:
    """0, 1, 2, ... by the names' order."""
    return np.unique(names.to_numpy(), return_inverse=True)[1].astype(np.int64)


def _pixels(path: Path, rows: Longs, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """uint8 [n, D]; `rows` rise."""
    lazy = pl.scan_parquet(path).select("image").with_row_index("row")
    wanted = pl.Series(rows, dtype=pl.get_index_type())
    column = lazy.filter(pl.col("row").is_in(wanted.implode())).collect()["image"]
    return np.frombuffer(b"".join(column), np.uint8).reshape(len(rows), int(np.prod(shape)))


def _by_channel(
    x: NDArray[np.uint8], channels: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and deviation of the channel that each of D pixels is of, float32 [D]."""
    seen = np.zeros((channels, 256), np.int64)
    for start in range(0, len(x), _AT_ONCE):
        part = x[start : start + _AT_ONCE].reshape(-1, channels)
        seen += [np.bincount(one, minlength=256) for one in part.T]
    share = seen / seen.sum(axis=1, keepdims=True)
    values = np.arange(256)
    mean = share @ values
    deviation = np.sqrt(np.maximum(share @ values**2 - mean**2, 0))
    times = x.shape[1] // channels
    scale = np.where(deviation > 0, deviation, 1.0)
    return np.tile(mean, times).astype(np.float32), np.tile(scale, times).astype(np.float32)
