"""What the parties of a linear model agree on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from pydantic import ConfigDict

from isthmus.errors import JobError
from isthmus.linear.families import FAMILIES, Family


@dataclass(frozen=True, kw_only=True)
class LinearOptions:
    """The same at every party.

    Raises:
        JobError: a value is out of range, or two do not go together.
    """

    # Of options in a file: another version's are not quietly taken for ours.
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    family: str = "logistic"
    """One of `FAMILIES`."""
    protocol: str = "vectors"
    """`vectors`, of the module `fit`, for all families; `moments`, of the module `moments`, for
    linear regression, and for logistic regression by its loss's Taylor series: nothing by row is
    shown."""
    power: float = 1.5
    """The variance's power of the mean, between 1 and 2; of the family `tweedie` alone."""
    l2: float = 0.0
    """Penalty on the coefficients, not on the intercept: half of it times their squares is added to
    the mean loss. It is scikit-learn's `alpha`, and 1 / (C rows) of its `LogisticRegression`."""
    intercept: bool = True
    """Whether the label party fits one."""
    tolerance: float = 0.01
    """Stop where the coefficients are about this far from the optimum, in standard errors."""
    rounds: int | None = None
    """The most vectors that a feature party shows. None: as many as `tolerance` asks for, which are
    never more than its independent columns."""
    standard_errors: bool = False
    """Also fit the coefficients' standard errors. Feature parties then show a whole basis of what
    their columns span."""
    least_columns: int = 2
    """A feature party with fewer independent columns refuses: what it shows would be the column."""
    least_group: int = 5
    """A feature party refuses a column that all but fewer rows than this share one value of: its
    gradient would tell it about these rows' labels."""
    most_leverage: float = 0.7
    """A feature party refuses columns in which a row has more leverage than this: of what the sums
    tell of its residual, that part is its own. A group of g rows that is told apart has 1 / g each;
    1 refuses nothing."""
    rows_per_column: int = 20
    """The label party refuses a partner that has not this many rows for each column: its gradients
    would tell it the labels."""

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise JobError(f"there is no family {self.family!r}; there is {', '.join(FAMILIES)}")
        if self.protocol not in ("vectors", "moments"):
            raise JobError(f"there is no protocol {self.protocol!r}; there is vectors, moments")
        if self.protocol == "moments":
            self._check_moments()
        for name, fine in _fine(self).items():
            if not fine:
                raise JobError(f"{name} cannot be {getattr(self, name)!r}")
        if self.standard_errors and self.l2:
            raise JobError("penalised coefficients have no standard errors", mend="Set l2 to 0.")
        if self.standard_errors and self.rounds is not None:
            raise JobError(
                "standard errors take all vectors of a feature party, and rounds bounds them",
                mend="Leave one of the two out.",
            )

    def _check_moments(self) -> None:
        if self.family not in ("linear", "logistic"):
            raise JobError(f"moments are not enough for the family {self.family}")
        if self.standard_errors or self.rounds is not None:
            raise JobError(
                "standard_errors and rounds are of the protocol vectors",
                mend="Leave them out with moments.",
            )

    def likelihood(self) -> Family:
        """The family's losses."""
        return FAMILIES[self.family](self.power)

    def agreed(self) -> dict[str, Any]:
        """For comparing with a partner's, JSON values."""
        return asdict(self)


def _fine(options: LinearOptions) -> Mapping[str, bool]:
    rounds = options.rounds
    return {
        "power": 1.0 < options.power < 2.0,
        "l2": math.isfinite(options.l2) and options.l2 >= 0,
        "tolerance": math.isfinite(options.tolerance) and options.tolerance > 0,
        "rounds": rounds is None or rounds >= 1,
        "least_columns": options.least_columns >= 1,
        "least_group": options.least_group >= 1,
        "most_leverage": 0.0 < options.most_leverage <= 1.0,
        "rows_per_column": options.rows_per_column >= 1,
    }
