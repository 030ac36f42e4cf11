"""The loss that ends the training with an arbiter, of a label party and one feature party.

With m = u_L - t, known to L, and B's part u of the linear predictor, d = m + u and so::

    sum of d^2 = 2 sum of m d - sum of m^2 + sum of u^2

L has the first as one more column of its masked products in each step (`arbiter`), B sends the last
once an epoch, with its penalties, in `linear.settled`. This is the loss of Hardy et al.,
arXiv:1711.10677, section 4.3; there, and in FATE, the arbiter reads it. Here L does and nobody
else, and B learns from it which epoch was the last.

**What L learns more than by its gradients**: in each step the sum of B's part times the label over
a batch, and in each epoch the sum of B's squares. So the label counts as one of L's columns when it
is seen to that no sum is over few rows. With several feature parties the square has products of two
partners' parts, which nobody could make without a ciphertext times a ciphertext: there is no loss.

Fixed point leaves about 1e-6 in a loss of 30,000 rows, so that steps tell a hundredth of a standard
error where this cannot.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import DataError
from isthmus.linear.options import LinearOptions
from isthmus.linear.span import Span

Floats = NDArray[np.float64]


class LossCurve:
    """The loss before each epoch, at the label party.

    Args:
        options: as agreed.
        curvature: of the loss.
        rows: in all batches.
    """

    def __init__(self, options: LinearOptions, curvature: float, rows: int) -> None:
        self._change, self._half = options.loss_change, curvature / 2.0 / rows
        self._start = math.log(2.0) - 0.5 if options.family == "logistic" else 0.0
        self._squares = 0.0
        self.losses: list[float] = []

    def add(self, own: Floats, crossed: float) -> None:
        """A batch: m, float64 [rows], and the sum of m d."""
        self._squares += 2.0 * crossed - float(own @ own)

    def close(self, rest: float) -> bool:
        """An epoch has ended: whether it has changed the loss by less than was agreed.

        Args:
            rest: the partner's squares, in the unit of the loss, and all penalties.
        """
        self.losses.append(self._start + self._half * self._squares + rest)
        self._squares = 0.0
        return len(self.losses) > 1 and abs(self.losses[-2] - self.losses[-1]) <= self._change


def check_label(data: Floats, pulls: Floats, options: LinearOptions) -> None:
    """See that sums over the label's values do not tell of few rows.

    Args:
        data: L's columns, float64 [rows, columns].
        pulls: t, float64 [rows].
        options: as agreed.

    Raises:
        DataError: they do.
    """
    try:
        Span(np.column_stack([data, pulls]), options, least_columns=0)
    except DataError as error:
        raise DataError(
            f"stopping by the loss makes the label one more column: {error.message}",
            mend='Use stop="steps", or clip the labels.',
        ) from error
