"""Images dealt out to clients with label skew: by a Dirichlet draw, by shards or by writers."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import DataError, JobError

Reals = NDArray[np.float64]
Longs = NDArray[np.int64]
Skew = Literal["dirichlet", "shards", "writers"]


@dataclass(frozen=True, eq=False)
class Images:
    """Images as rows, standardised, or as bytes that are standardised when they are used."""

    name: str
    x: NDArray[np.float64] | NDArray[np.uint8]
    """[N, D]"""
    y: Longs
    """int64 [N], classes 0 to C - 1."""
    shape: tuple[int, int, int] | None = None
    """Rows, columns and channels of an image, the channels of a pixel side by side; if known."""
    writers: Longs | None = None
    """int64 [N], who wrote each, from 0; where images have writers."""
    center: NDArray[np.float32] | None = None
    """float32 [D], taken off the bytes; None: x is standardised already."""
    scale: NDArray[np.float32] | None = None
    """float32 [D], what they are divided by then."""
    known_classes: int | None = None
    """C, where these images may lack the last classes."""

    @property
    def classes(self) -> int:
        """C."""
        return self.known_classes or int(self.y.max()) + 1

    def pixels(self, rows: Longs) -> Reals:
        """Standardised, [*rows.shape, D]: float32 of bytes, else float64."""
        if self.center is None or self.scale is None:
            return np.asarray(self.x[rows])
        return np.asarray((self.x[rows] - self.center) / self.scale)


@dataclass(frozen=True, eq=False)
class Clients:
    """Which images each of n clients has; its parts have one distribution of labels."""

    train: list[Longs]
    valid: list[Longs]
    test: list[Longs]

    @property
    def weights(self) -> Reals:
        """n_k / n over training images, float64 [n]."""
        counts = np.array([len(one) for one in self.train], np.float64)
        return np.asarray(counts / counts.sum())


def load_local(source: str) -> Images:
    """scikit-learn's digits (1,797 of 8 x 8 pixels, offline), or an `.npz` file with `x` and `y`.

    `x` is numeric [N, ...], `y` integer [N], classes from 0. Images of [N, rows, columns] or [N,
    rows, columns, 1 or 3] have a shape.

    Raises:
        JobError: scikit-learn is not installed.
        DataError: the file is missing, no such archive, or holds something else.
    """
    if source == "digits":
        try:
            found = import_module("sklearn.datasets").load_digits()
        except ImportError as error:
            raise JobError(
                "the digits come with scikit-learn, which is not installed",
                mend="Run `pip install scikit-learn`, or give an .npz file.",
            ) from error
        return _standardised("digits", found.images, found.target)
    path = Path(source)
    if not path.is_file():
        raise DataError(
            f"{source} is neither a file nor an image set that is known",
            mend="Known: digits, cifar-10, cifar-100, femnist.",
        )
    try:
        with np.load(path, allow_pickle=False) as arrays:
            x, y = arrays["x"], arrays["y"]
    except (KeyError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{path.name} is no .npz file with plain arrays x and y") from error
    return _standardised(path.stem, x, y)


def _standardised(name: str, x: np.ndarray, y: np.ndarray) -> Images:
    fits = len(x) == len(y) and len(y) > 0 and y.ndim == 1 and np.issubdtype(y.dtype, np.integer)
    if not fits or not np.issubdtype(x.dtype, np.number) or y.min() < 0:
        raise DataError(f"{name}: x must be numbers [N, ...] and y classes from 0, integers [N]")
    flat = x.reshape(len(x), -1).astype(np.float64)
    if not np.isfinite(flat).all():
        raise DataError(f"{name}: x holds values that are not finite")
    deviation = flat.std(axis=0)
    scaled = (flat - flat.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
    return Images(name, scaled, y.astype(np.int64), _shape(x))


def _shape(x: np.ndarray) -> tuple[int, int, int] | None:
    if x.ndim == 3:
        return x.shape[1], x.shape[2], 1
    return x.shape[1:] if x.ndim == 4 and x.shape[3] in (1, 3) else None


def deal(
    images: Images, clients: int, skew: Skew, strength: float, rng: np.random.Generator
) -> Clients:
    """Deal all images out; each client's are cut at random into 60% training, 20% and 20%.

    Args:
        images: what is dealt.
        clients: n.
        skew: `dirichlet`: each class is shared out by a draw from Dirichlet(strength). `shards`:
            sorted by class and cut into n * strength pieces, of which each client gets `strength`.
            `writers`: clients are writers, drawn among those with 5 images or more, and the images
            of the others are left; `strength` says nothing.
        strength: see `skew`.
        rng: draws.

    Raises:
        JobError: a number is out of range, or 100 draws left a client with fewer than 5 images, or
            there are not so many writers.
    """
    if skew == "writers":
        return _as_clients(_by_writer(images, clients, rng), rng)
    if clients < 2 or not strength > 0 or (skew == "shards" and strength != int(strength)):
        raise JobError("2 clients or more, a strength above 0, and for shards a whole number")
    if skew not in ("dirichlet", "shards"):
        raise JobError(f"there is no skew {skew!r}", mend="Known: dirichlet, shards, writers.")
    for _ in range(100):
        parts = _dirichlet(images, clients, strength, rng) if skew == "dirichlet" else None
        parts = parts or _shards(images, clients, int(strength), rng)
        if min(map(len, parts)) >= 5:
            return _as_clients(parts, rng)
    raise JobError(
        "some client has fewer than 5 images in every draw",
        mend="Take fewer clients or a greater strength.",
    )


def _as_clients(parts: list[Longs], rng: np.random.Generator) -> Clients:
    cuts = [_cut(rng.permutation(one)) for one in parts]
    return Clients(*([one[k] for one in cuts] for k in range(3)))


def _by_writer(images: Images, clients: int, rng: np.random.Generator) -> list[Longs]:
    if images.writers is None:
        raise JobError(
            f"the images of {images.name} have no writers",
            mend="Take --skew dirichlet or --skew shards, or --data femnist.",
        )
    able = np.flatnonzero(np.bincount(images.writers) >= 5)
    if not 2 <= clients <= len(able):
        raise JobError(
            f"{len(able)} writers have 5 images or more; clients must be from 2 to that",
            mend="Take fewer clients or, with --take, more images.",
        )
    chosen = np.sort(rng.permutation(able)[:clients])
    return [np.flatnonzero(images.writers == one) for one in chosen]


def _dirichlet(
    images: Images, clients: int, strength: float, rng: np.random.Generator
) -> list[Longs]:
    lists: list[list[Longs]] = [[] for _ in range(clients)]
    for label in range(images.classes):
        own = rng.permutation(np.flatnonzero(images.y == label))
        share = rng.dirichlet(np.full(clients, strength))
        cuts = (np.cumsum(share)[:-1] * len(own)).astype(np.int64)
        for one, piece in zip(lists, np.split(own, cuts), strict=True):
            one.append(piece)
    return [np.concatenate(one) for one in lists]


def _shards(images: Images, clients: int, each: int, rng: np.random.Generator) -> list[Longs]:
    order = np.lexsort((rng.random(len(images.y)), images.y))
    pieces = np.array_split(order, clients * each)
    drawn = rng.permutation(len(pieces)).reshape(clients, each)
    return [np.concatenate([pieces[k] for k in own]) for own in drawn.tolist()]


def _cut(own: Longs) -> tuple[Longs, Longs, Longs]:
    valid = max(1, len(own) // 5)
    return own[2 * valid :], own[:valid], own[valid : 2 * valid]
