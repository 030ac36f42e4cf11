"""What a party holds after a linear model was fitted: its own part of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import JobError
from isthmus.linear.options import LinearOptions

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearResult:
    """One party's part of a model."""

    options: LinearOptions
    """As agreed."""
    coefficients: Floats = field(repr=False)
    """Of the own columns in their own units, float64 [columns]."""
    intercept: float | None = None
    """At the label party, if one was asked for."""
    rounds: int
    """Encrypted gradients that were made; 1 with `moments`."""
    converged: bool
    """Whether `LinearOptions.tolerance` was reached."""
    shown: int
    """Vectors of this party's columns that the label party has seen; 0 at the label party."""
    standard_errors: Floats | None = field(default=None, repr=False)
    """Of `coefficients`, float64 [columns], if asked for."""
    intercept_error: float | None = None
    """The intercept's standard error, at the label party."""
    dispersion: float | None = None
    """At the label party: Pearson's, or 1 where the family fixes it. None with `moments`."""
    loss: float | None = None
    """At the label party: the mean loss without the penalty. None with `moments`."""

    def p_values(self) -> Floats:
        """Two-sided, by the normal distribution (Wald), float64 [columns].

        Raises:
            JobError: the fit was made without standard errors.
        """
        if self.standard_errors is None:
            raise JobError(
                "there are no standard errors to test with", mend="Fit with standard_errors=True."
            )
        z = np.abs(self.coefficients) / self.standard_errors
        return np.array([math.erfc(one / math.sqrt(2.0)) for one in z.tolist()])
