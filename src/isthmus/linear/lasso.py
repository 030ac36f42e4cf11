"""The step of Newton's method under an L1 penalty.

Lee, Sun and Saunders, Proximal Newton-type methods, SIAM J. Optimization 24 (2014); the quadratic
in it by coordinate descent (Friedman, Hastie and Tibshirani, J. Statistical Software 33 (2010)).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_MOST_SWEEPS = 10_000
_STILL = 1e-15
"""Of a quadratic's size, what a sweep changes when it has come to rest."""


def lasso_step(hessian: Floats, gradient: Floats, weights: Floats, lasso: Floats) -> Floats:
    """The d that is least in d'Hd / 2 - g'd + sum of lasso |weights + d|, float64 [weights].

    Args:
        hessian: H, float64 [weights, weights].
        gradient: g, minus the derivative of what is penalised, float64 [weights].
        weights: float64 [weights].
        lasso: the penalty of each weight, float64 [weights].
    """
    pull, found = gradient + hessian @ weights, weights.copy()
    diagonal = np.diag(hessian)
    used = np.flatnonzero(diagonal > 0)
    found[diagonal <= 0] = 0.0
    for _ in range(_MOST_SWEEPS):
        most = 0.0
        for j in used:
            alone = pull[j] - hessian[j] @ found + diagonal[j] * found[j]
            new = np.sign(alone) * max(abs(alone) - lasso[j], 0.0) / diagonal[j]
            most = max(most, diagonal[j] * (new - found[j]) ** 2)
            found[j] = new
        if most <= _STILL**2 * max(1.0, float(np.abs(pull @ found))):
            break
    return found - weights
