"""The best split of a node, from the sums of derivatives by bin of all parties' columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from isthmus.trees.options import TreeOptions
from isthmus.trees.shape import BinShape, Bools, Cut, Longs

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Histogram:
    """A node's sums by bin, of one party's columns."""

    sums: Longs
    """First and second derivatives in fixed point, int64 `[total, 2]`."""
    allowed: Bools
    """The cuts that leave enough rows on both sides, bool `[2, total]`."""


@dataclass(frozen=True)
class Split:
    """What to do with a node."""

    source: int
    """Whose column, by place among those that take part in this tree."""
    cut: Cut
    """By the columns of the tree."""
    gain: float


@dataclass(frozen=True)
class Scale:
    """The fixed point of a tree: the unit of first and of second derivatives."""

    first: float
    second: float

    def of(self, sums: Longs) -> tuple[Floats, Floats]:
        """Sums `[..., 2]` as numbers."""
        numbers = sums.astype(np.float64) * np.array([self.first, self.second])
        return numbers[..., 0], numbers[..., 1]


def best_split(
    shapes: Sequence[BinShape],
    histograms: Sequence[Histogram],
    total: Longs,
    scale: Scale,
    options: TreeOptions,
) -> Split | None:
    """The split of most gain, the first of several alike; None where none gains enough.

    The gain is G_L^2 / (H_L + l2) + G_R^2 / (H_R + l2) - G^2 / (H + l2), as in LightGBM: twice that
    of Chen and Guestrin, "XGBoost", KDD 2016, equation 7.

    Args:
        shapes: of each source of columns.
        histograms: of the node, from each source.
        total: the node's own sums, int64 `[2]`.
        scale: of the tree.
        options: as agreed.
    """
    best: Split | None = None
    least = options.min_gain
    for source, (shape, histogram) in enumerate(zip(shapes, histograms, strict=True)):
        gains, mass = _gains(shape, histogram, total, scale, options)
        # Column by column and bin by bin, whoever has the columns: so ties do not depend on it.
        at = int(gains.T.argmax())
        place, direction = divmod(at, 2)
        gain = float(gains[direction, place])
        if gain > least:
            cut = shape.cut(direction, place)
            if not shape.missing[cut.column]:
                # Nothing was missing here: what later is goes to the heavier side.
                heavier = bool(mass[0, place] >= scale.of(total)[1] - mass[0, place])
                cut = Cut(cut.column, cut.bin, heavier)
            best, least = Split(source, cut, gain), gain
    return best


def leaf_value(total: Longs, scale: Scale, options: TreeOptions) -> float:
    """What a leaf of these sums `[2]` adds to the score."""
    first, second = scale.of(total)
    below = float(second) + options.l2
    return -options.learning_rate * float(first) / below if below > 0 else 0.0


def _gains(
    shape: BinShape, histogram: Histogram, total: Longs, scale: Scale, options: TreeOptions
) -> tuple[Floats, Floats]:
    """Each cut's gain, minus infinity where it may not be, and the left side's second derivatives.

    Both float64 `[2, total]`.
    """
    left = np.stack([shape.left(histogram.sums[:, lane]) for lane in range(2)], axis=-1)
    first, second = scale.of(left)
    others, rest = scale.of(total - left)
    fine = histogram.allowed & (second >= options.min_hessian) & (rest >= options.min_hessian)
    fine &= (second + options.l2 > 0) & (rest + options.l2 > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        sides = first**2 / (second + options.l2) + others**2 / (rest + options.l2)
    all_first, all_second = scale.of(total)
    below = float(all_second) + options.l2
    together = float(all_first) ** 2 / below if below > 0 else 0.0
    return np.where(fine, sides - together, -np.inf), second
