"""What the parties of a boosted-tree model agree on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from isthmus.errors import JobError

OBJECTIVES = ("binary", "real", "multiclass", "poisson")
MOST_BITS = 40
MOST_DEPTH = 24
_EXACT_BITS = 52
"""Sums of fewer bits than float64 holds, so that whoever makes them gets the same."""
_NOISY_BITS = 30
"""So that the most noise stays within them."""


@dataclass(frozen=True, kw_only=True)
class TreeOptions:
    """The same at every party.

    Raises:
        JobError: a value is out of range, or two do not go together.
    """

    objective: str = "binary"
    """`binary` for labels 0 and 1, `real` for numbers with squared errors, `multiclass` for 0 to
    `classes` - 1, `poisson` for counts with a logarithmic link."""
    classes: int | None = None
    """Of `multiclass`, at least 2; None otherwise."""
    trees: int = 20
    """Rounds of boosting; with `multiclass` each has a tree for every class."""
    learning_rate: float = 0.1
    """What a tree's values are multiplied with."""
    depth: int = 5
    """Splits from the root to a leaf, at most."""
    leaves: int | None = None
    """The most leaves of a tree, which then grows by the split of most gain first. None: level by
    level, up to `depth` alone."""
    bins: int = 32
    """The most bins of a column, besides one for missing values."""
    l2: float = 1.0
    """Added to the sum of second derivatives: shrinks values of small leaves."""
    min_rows: int = 20
    """The fewest rows of a bin, and of a leaf, among those that a tree learns from."""
    min_hessian: float = 1e-3
    """The least sum of second derivatives of a leaf."""
    min_gain: float = 0.0
    """What a split must gain more than."""
    subsample: float = 1.0
    """Share of the rows that a tree learns from, drawn at random."""
    columns: float = 1.0
    """Share of all parties' columns that a tree may use, drawn at random."""
    goss: tuple[float, float] | None = None
    """The share of rows with the greatest gradients that are all taken, and the share drawn from
    the others, which count for more (Ke et al., "LightGBM", NIPS 2017). Partners are not told which
    rows are left out, so that it saves no time."""
    patience: int | None = None
    """Stop after so many rounds without a better loss on the rows `valid`, and keep the best
    number. None: make all `trees`."""
    own_trees: int = 0
    """So many first rounds use the label party's columns alone: they show partners nothing and ask
    nothing of them."""
    bits: int = MOST_BITS
    """Fixed-point bits of a derivative at the most; fewer show less in the sums of small nodes."""
    cell: int = 1
    """The fewest rows of a sum that a partner shows: bins with fewer are put together, in every
    node. 1: each bin is shown, and a model of several parties is that of the pooled table. Rows of
    next to no weight count like others."""
    noise: float = 0.0
    """Standard deviation of the Gaussian noise that a partner adds to each sum that it shows, in
    times the largest derivative (a power of two above it). 0: the sums are exact."""
    seed: int = 0
    """Of what is drawn, beside the session's."""

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise JobError(
                f"there is no objective {self.objective!r}; there is {', '.join(OBJECTIVES)}"
            )
        if (self.objective == "multiclass") != (self.classes is not None):
            raise JobError(
                "classes are for the objective multiclass, which needs them",
                mend="Give the number of classes with multiclass alone.",
            )
        for name, fine in _fine(self).items():
            if not fine:
                raise JobError(f"{name} cannot be {getattr(self, name)!r}")
        if self.cell > 1 and self.goss is not None:
            raise JobError(
                "cell counts rows that goss leaves out, unknown to the partner who counts",
                mend="Take subsample, whose rows partners know.",
            )

    @property
    def trees_a_round(self) -> int:
        """Trees of a round: one, or one for each class."""
        return self.classes or 1

    @property
    def most_splits(self) -> int:
        """Splits of a tree, at most."""
        deepest: int = 2**self.depth - 1
        return deepest if self.leaves is None else min(deepest, self.leaves - 1)

    def bits_for(self, rows: int) -> int:
        """Fixed-point bits such that sums over so many rows are exact in float64, too."""
        most = _NOISY_BITS if self.noise else MOST_BITS
        return min(self.bits, most, _EXACT_BITS - rows.bit_length())

    def agreed(self) -> dict[str, Any]:
        """For comparing with a partner's, JSON values."""
        return asdict(self) | {"goss": None if self.goss is None else list(self.goss)}


def _fine(options: TreeOptions) -> Mapping[str, bool]:
    goss, leaves, patience = options.goss, options.leaves, options.patience
    return {
        "classes": options.classes is None or _whole(options.classes, 2, 1000),
        "trees": _whole(options.trees, 1, 10_000),
        "learning_rate": _real(options.learning_rate, 1e-9, 10.0),
        "depth": _whole(options.depth, 1, MOST_DEPTH),
        "leaves": leaves is None or _whole(leaves, 2, 1 << MOST_DEPTH),
        "bins": _whole(options.bins, 2, 1024),
        "l2": _real(options.l2, 0.0, 1e12),
        "min_rows": _whole(options.min_rows, 1, 10**9),
        "min_hessian": _real(options.min_hessian, 0.0, 1e12),
        "min_gain": _real(options.min_gain, 0.0, 1e300),
        "subsample": _real(options.subsample, 1e-6, 1.0),
        "columns": _real(options.columns, 1e-6, 1.0),
        "goss": goss is None
        or (len(goss) == 2 and all(_real(one, 1e-6, 1.0) for one in goss) and sum(goss) <= 1.0),
        "patience": patience is None or _whole(patience, 1, 10_000),
        "own_trees": _whole(options.own_trees, 0, options.trees),
        "bits": _whole(options.bits, 4, MOST_BITS),
        "cell": _whole(options.cell, 1, 10**9),
        "noise": _real(options.noise, 0.0, 1e3),
        "seed": _whole(options.seed, 0, 2**62),
    }


def _whole(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _real(value: Any, low: float, high: float) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and low <= value <= high
