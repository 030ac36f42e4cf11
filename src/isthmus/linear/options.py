"""What the parties of a linear model agree on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from pydantic import ConfigDict

from isthmus.errors import JobError
from isthmus.linear.families import FAMILIES, Family

PROTOCOLS = ("vectors", "moments", "arbiter")
STOPS = ("steps", "loss")
LEAST_CHANGE = 1e-6
"""What fixed point leaves of a loss."""


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
    """`vectors`, of the module `fit`, for all families; `moments` and `arbiter`, of the modules of
    these names, for linear regression, and for logistic regression by its loss's Taylor series:
    nothing by row is shown."""
    arbiter: str | None = None
    """The party that decrypts in the protocol `arbiter`; it has no data."""
    power: float = 1.5
    """The variance's power of the mean, between 1 and 2; of the family `tweedie` alone."""
    l2: float = 0.0
    """Penalty on the coefficients, not on the intercept: half of it times their squares is added to
    the mean loss. It is scikit-learn's `alpha`, and 1 / (C rows) of its `LogisticRegression`."""
    l1: float = 0.0
    """Penalty on the coefficients' sizes, not on the intercept, added to the mean loss; of the
    protocol `arbiter` and of `fit_alone`."""
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

    batch_size: int | None = None
    """With `arbiter`: about so many rows make a step. None: all of them."""
    epochs: int = 100
    """With `arbiter`: the most passes over all rows."""
    learning_rate: float = 1.0
    """With `arbiter`: of the longest step that surely lowers the loss, with one batch."""
    decay: float = 0.0
    """With `arbiter`: steps are divided by the root of 1 + decay times epochs made."""
    stop: str = "steps"
    """With `arbiter`: `steps` ends when all parties' steps have come to rest within `tolerance`.
    `loss`, with one feature party, when the loss has, which the label party then learns."""
    loss_change: float = 1e-5
    """With `stop="loss"`: an epoch that changes the mean loss by less is the last; 1e-6 at
    least, which is what fixed point leaves of it."""

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise JobError(f"there is no family {self.family!r}; there is {', '.join(FAMILIES)}")
        if self.protocol not in PROTOCOLS:
            raise JobError(
                f"there is no protocol {self.protocol!r}; there is {', '.join(PROTOCOLS)}"
            )
        if self.protocol != "vectors":
            self._check_quadratic()
        if (self.arbiter is None) == (self.protocol == "arbiter"):
            raise JobError(
                "the protocol arbiter takes a party that is the arbiter, and no other does",
                mend='Set both: protocol="arbiter" and arbiter to the name of the party.',
            )
        if self.stop != "steps" and self.protocol != "arbiter":
            raise JobError(
                f"stop={self.stop!r} is of the protocol arbiter", mend="Leave it out, or use that."
            )
        if self.l1 and self.standard_errors:
            raise JobError("penalised coefficients have no standard errors", mend="Set l1 to 0.")
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

    def _check_quadratic(self) -> None:
        if self.family not in ("linear", "logistic"):
            raise JobError(f"{self.protocol} is not enough for the family {self.family}")
        if self.standard_errors or self.rounds is not None:
            raise JobError(
                "standard_errors and rounds are of the protocol vectors",
                mend=f"Leave them out with {self.protocol}.",
            )

    def check_split(self) -> None:
        """Raises JobError where the protocol cannot do what `fit_alone` can."""
        if self.l1 and self.protocol != "arbiter":
            raise JobError(
                f"the protocol {self.protocol} has no L1 penalty, as no step of it is over single "
                "columns",
                mend='Use protocol="arbiter", or l2.',
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
        "l1": math.isfinite(options.l1) and options.l1 >= 0,
        "arbiter": options.arbiter is None or bool(options.arbiter),
        "batch_size": options.batch_size is None or options.batch_size >= 1,
        "epochs": options.epochs >= 1,
        "learning_rate": 0.0 < options.learning_rate < 2.0,
        "decay": math.isfinite(options.decay) and options.decay >= 0,
        "stop": options.stop in STOPS,
        "loss_change": LEAST_CHANGE <= options.loss_change < math.inf,
        "rounds": rounds is None or rounds >= 1,
        "least_columns": options.least_columns >= 1,
        "least_group": options.least_group >= 1,
        "most_leverage": 0.0 < options.most_leverage <= 1.0,
        "rows_per_column": options.rows_per_column >= 1,
    }
