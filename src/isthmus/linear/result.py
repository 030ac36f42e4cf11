"""What a party holds after a linear model was fitted: its own part of it, and that as a file."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from isthmus.errors import DataError, JobError, StorageError
from isthmus.files import write_json
from isthmus.linear.options import LinearOptions

Floats = NDArray[np.float64]

_FORMAT = "isthmus.linear/1"
_MOST_COLUMNS = 1 << 20
_MOST_BYTES = 1 << 26
"""Of a file: more than so many columns take."""
_Numbers = Annotated[list[float], Field(max_length=_MOST_COLUMNS)]
_Count = Annotated[int, Field(ge=0)]


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
    """Encrypted gradients that were made; 1 with `moments`, 0 with `fit_alone`."""
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
    """At the label party: the mean loss without the penalty. None with `moments` and `arbiter`."""
    losses: tuple[float, ...] = field(default=(), repr=False)
    """At the label party with `stop="loss"`: the mean loss with all penalties before each epoch; of
    linear regression in units of the label's variance."""

    def score(self, data: Floats) -> Floats:
        """The own columns' part of the linear predictor, float64 [rows].

        Args:
            data: the own columns, float64 [rows, columns].

        Raises:
            DataError: there are other columns than the model was fitted with.
        """
        if data.shape[1] != len(self.coefficients):
            raise DataError(
                f"{data.shape[1]} columns for a model of {len(self.coefficients)}",
                mend="Give the columns that the model was fitted with, in their order.",
            )
        # Not by BLAS, whose rounding of a row depends on how many others there are: a row has the
        # same score among few as among many.
        total = np.zeros(len(data))
        for column, coefficient in zip(data.T, self.coefficients.tolist(), strict=True):
            total += column * coefficient
        return total

    def p_values(self) -> Floats:
        """Two-sided, by the normal distribution (Wald), float64 [columns].

        1 for a constant column, of whose coefficient 0 there is nothing to test.

        Raises:
            JobError: the fit was made without standard errors.
        """
        if self.standard_errors is None:
            raise JobError(
                "there are no standard errors to test with", mend="Fit with standard_errors=True."
            )
        known = self.standard_errors > 0
        z = np.abs(self.coefficients) / np.where(known, self.standard_errors, 1.0)
        return np.array([math.erfc(one / math.sqrt(2.0)) for one in z.tolist()])

    def save(self, path: str | Path) -> None:
        """Write this part as JSON, whole or not at all; numbers come back bit for bit.

        It is for this party alone: the coefficients are what the other parties do not learn.

        Raises:
            StorageError: the disk is full, the folder cannot be written, or a number is not finite.
        """
        errors = self.standard_errors
        content = {name: value for name, value in vars(self).items() if name in _Saved.model_fields}
        content |= {
            "format": _FORMAT,
            "options": asdict(self.options),
            "coefficients": self.coefficients.tolist(),
            "losses": list(self.losses),
            "standard_errors": None if errors is None else errors.tolist(),
        }
        try:
            write_json(Path(path), content)
        except ValueError as error:
            raise StorageError("a model of NaN or infinity is not for a file") from error

    @classmethod
    def load(cls, path: str | Path) -> LinearResult:
        """What `save` wrote.

        Raises:
            StorageError: there is no such file, or it is no part of a linear model.
        """
        try:
            # Read no further than it can be: what is there may be any file.
            with Path(path).open("rb") as file:
                text = file.read(_MOST_BYTES + 1)
            if len(text) > _MOST_BYTES:
                raise StorageError(f"{path} is too long for a linear model")
            saved = _Saved.model_validate_json(text, strict=True)
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error.strerror or error}") from error
        except (ValidationError, JobError) as error:
            raise StorageError(
                f"{path} is no part of a linear model, or of another version",
                mend="Fit the model again.",
            ) from error
        return saved.result()


class _Saved(BaseModel):
    """The file."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    format: Literal["isthmus.linear/1"]
    options: LinearOptions
    coefficients: _Numbers
    intercept: float | None
    rounds: _Count
    converged: bool
    shown: _Count
    standard_errors: _Numbers | None
    intercept_error: float | None
    dispersion: float | None
    loss: float | None
    losses: _Numbers = []

    @model_validator(mode="after")
    def _check(self) -> _Saved:
        errors = self.standard_errors
        if errors is not None and len(errors) != len(self.coefficients):
            raise ValueError("standard_errors is not of as many columns as coefficients")
        return self

    def result(self) -> LinearResult:
        errors = self.standard_errors
        return LinearResult(
            options=self.options,
            coefficients=np.array(self.coefficients, np.float64),
            intercept=self.intercept,
            rounds=self.rounds,
            converged=self.converged,
            shown=self.shown,
            standard_errors=None if errors is None else np.array(errors, np.float64),
            intercept_error=self.intercept_error,
            dispersion=self.dispersion,
            loss=self.loss,
            losses=tuple(self.losses),
        )
