"""An extractor with two convolutions, for images of 16 x 16 pixels and more.

5 x 5 with 16 and 32 filters, each followed by 2 x 2 max pooling, as papers on personalised methods
for CIFAR have them; then one dense layer, where theirs have two, of some hundred units each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from isthmus.errors import JobError
from isthmus.fedrec.images.data import Reals
from isthmus.fedrec.images.networks import Extractor, Kept, Shapes

Singles = NDArray[np.floating]
SIDE = 5
"""Of a filter."""
LEAST = 16
"""Rows and columns: fewer leave nothing after both poolings."""


@dataclass(frozen=True)
class Convolutions(Extractor):
    """Convolution, pooling, relu, twice; then a dense layer with relu.

    Works in the images' own type, so that images in float32 cost half. Clients are gone through one
    by one: what is unfolded for a convolution is many times the size of the images.

    The shape of an image is its rows, columns and channels.

    Raises:
        JobError: images are too small.
    """

    filters: tuple[int, int] = (16, 32)

    def __post_init__(self) -> None:
        if min(self.shape[:2]) < LEAST:
            raise JobError(
                f"images of {self.shape[0]} x {self.shape[1]} are too small for convolutions",
                mend="Take --network dense.",
            )

    @property
    def _pooled(self) -> tuple[int, int]:
        """Rows and columns after both."""
        high, wide = (((side - SIDE + 1) // 2 - SIDE + 1) // 2 for side in self.shape[:2])
        return high, wide

    @property
    def shapes(self) -> Shapes:
        """Weight and bias of both convolutions and of the dense layer."""
        first, second = self.filters
        flat = int(np.prod(self._pooled)) * second
        return (
            (SIDE * SIDE * self.shape[2], first), (first,),
            (SIDE * SIDE * first, second), (second,),
            (flat, self.width), (self.width,),
        )  # fmt: skip

    def apply(self, parts: Sequence[Reals], x: Reals) -> tuple[Reals, Kept]:
        """Keeps the images, the first layer's output, both poolings' places and the last two."""
        found = [
            self._one([part[place] for part in parts], images) for place, images in enumerate(x)
        ]
        kept = tuple(np.stack(one) for one in zip(*found, strict=True))
        return np.asarray(kept[-1]), (x, *kept)

    def _one(self, parts: Sequence[Reals], x: Reals) -> Kept:
        """One client's: output and places of the first pooling, of the second, and at the end."""
        a, b, c, d, e, f = (part.astype(x.dtype, copy=False) for part in parts)
        first, at_first = _pool(_convolved(x.reshape(-1, *self.shape), a, b))
        np.maximum(first, 0, out=first)
        second, at_second = _pool(_convolved(first, c, d))
        flat = np.maximum(second, 0).reshape(len(x), -1)
        return first, at_first, at_second, flat, np.maximum(flat @ e + f, 0)

    def back(self, parts: Sequence[Reals], kept: Kept, error: Reals) -> list[Reals]:
        """By hand, checked against differences in the tests."""
        found = [
            self._one_back([part[place] for part in parts], tuple(one[place] for one in kept), by)
            for place, by in enumerate(error)
        ]
        return [np.stack(one) for one in zip(*found, strict=True)]

    def _one_back(self, parts: Sequence[Reals], kept: Kept, error: Reals) -> tuple[Singles, ...]:
        x, first, at_first, at_second, flat, hidden = kept
        c, e = (parts[place].astype(x.dtype, copy=False) for place in (2, 4))
        by_hidden = error.astype(x.dtype, copy=False) * (hidden > 0)
        by_flat = (by_hidden @ e.T) * (flat > 0)
        size = tuple(side - SIDE + 1 for side in first.shape[1:3])
        by_second = _unpool(by_flat.reshape(at_second.shape), at_second, size)
        by_first = _spread(by_second, c, first.shape) * (first > 0)
        size = tuple(side - SIDE + 1 for side in self.shape[:2])
        by_images = _unpool(by_first, at_first, size)
        return (
            _patches(x.reshape(-1, *self.shape)).T @ _flat(by_images), by_images.sum((0, 1, 2)),
            _patches(first).T @ _flat(by_second), by_second.sum((0, 1, 2)),
            flat.T @ by_hidden, by_hidden.sum(0),
        )  # fmt: skip


def _flat(images: Singles) -> Singles:
    """[B, h, w, c] as [B h w, c]."""
    return images.reshape(-1, images.shape[-1])


def _patches(images: Singles) -> Singles:
    """All squares of `SIDE` pixels, [B h' w', SIDE SIDE c], of images [B, h, w, c]."""
    seen = sliding_window_view(images, (SIDE, SIDE), axis=(1, 2)).transpose(0, 1, 2, 4, 5, 3)
    return seen.reshape(-1, SIDE * SIDE * images.shape[-1])


def _convolved(images: Singles, weight: Singles, bias: Singles) -> Singles:
    """[B, h', w', filters]; the border is left out."""
    count, high, wide = images.shape[:3]
    found = _patches(images) @ weight + bias
    return np.asarray(found.reshape(count, high - SIDE + 1, wide - SIDE + 1, -1))


def _spread(error: Singles, weight: Singles, shape: tuple[int, ...]) -> Singles:
    """The gradient by a convolution's input, of `shape`, from that by its output."""
    high, wide = error.shape[1:3]
    by_patch = (_flat(error) @ weight.T).reshape(*error.shape[:3], SIDE, SIDE, -1)
    out = np.zeros(shape, error.dtype)
    for i in range(SIDE):
        for j in range(SIDE):
            out[:, i : i + high, j : j + wide] += by_patch[:, :, :, i, j]
    return out


def _pool(images: Singles) -> tuple[Singles, NDArray[np.int8]]:
    """The greatest of each 2 x 2, and which it was, 0 to 3; an odd last row or column is left."""
    high, wide = (side // 2 * 2 for side in images.shape[1:3])
    four = [images[:, i:high:2, j:wide:2] for i in (0, 1) for j in (0, 1)]
    best, at = four[0].copy(), np.zeros(four[0].shape, np.int8)
    for number, one in enumerate(four[1:], 1):
        at[one > best] = number
        np.maximum(best, one, out=best)
    return best, at


def _unpool(error: Singles, at: NDArray[np.int8], size: tuple[int, ...]) -> Singles:
    """The gradient by a pooling's input, of `size` rows and columns."""
    out = np.zeros((len(error), *size, error.shape[-1]), error.dtype)
    high, wide = (side // 2 * 2 for side in size)
    for number in range(4):
        out[:, number // 2 : high : 2, number % 2 : wide : 2] = error * (at == number)
    return out
