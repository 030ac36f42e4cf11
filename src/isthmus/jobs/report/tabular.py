"""Parts of a report about a model that is no network: linear, trees, and a scorecard."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt

from isthmus.jobs.report.parts import Figures, Part, Scalar, Share


class Coefficient(Part):
    """One coefficient of a linear model, of a column of this party."""

    column: str
    level: str | None = None
    """Of a categorical column; its most frequent level has none, the rare ones share `other`."""
    coefficient: float
    """By unit of the column, or of its level against the most frequent one."""
    by_deviation: float | None = None
    """By standard deviation of a numeric column: for comparing columns."""
    standard_error: NonNegativeFloat | None = None
    p_value: Share | None = None
    """Two-sided, by the normal distribution."""


class PredictorShare(Part):
    """How much a party's columns move the linear predictor."""

    party: str
    deviation: NonNegativeFloat
    """Standard deviation of the party's part over the training samples."""


class Importance(Part):
    """What a column does in the trees."""

    party: str
    column: str
    """Its name at its owner, elsewhere a number."""
    splits: NonNegativeInt
    gain: NonNegativeFloat | None = None
    """Sum of what its splits lower the loss by; known to the label party."""


class TreePoint(Part):
    """The losses after a tree, or after a round of trees where there are several classes."""

    trees: Annotated[int, Field(ge=1)]
    training: float | None = None
    validation: float | None = None


class CardBin(Part):
    """Points of one bin of a column of this party."""

    column: str
    bin: str
    points: float


class CardFacts(Part):
    """This party's part of a scorecard."""

    base: float | None = None
    """Points of a sample whose WOE are all 0; at the label party."""
    points: float
    """Score at `odds`."""
    odds: float
    """Negatives for each positive."""
    double: float
    """Points that double the odds."""
    bins: tuple[CardBin, ...]


class Stability(Part):
    """The model on its training samples beside the test samples, or those that an earlier model is
    applied to; only at the label party.
    """

    psi: NonNegativeFloat
    """Population stability index of the scores, over tenths of those of the training samples."""
    training: Figures | None = None
    """Of a binary label."""


class Fitted(Part):
    """What a job has learnt in place of a network, as far as this party knows it."""

    kind: Literal["linear", "trees"]
    family: str
    """Of the label: logistic, poisson; binary, multiclass."""
    settings: dict[str, Scalar]
    """What the job file says about it."""
    seconds: NonNegativeFloat
    """Of the step `train` here."""
    coefficients: tuple[Coefficient, ...] = ()
    intercept: float | None = None
    """At the label party: the linear predictor where all parties' numeric columns are at their
    means and all others at their most frequent level, or where all WOE are 0."""
    intercept_error: NonNegativeFloat | None = None
    rounds: NonNegativeInt | None = None
    """Encrypted gradients."""
    converged: bool | None = None
    shown: NonNegativeInt | None = None
    """Vectors of this party's columns that the label party has seen."""
    loss: float | None = None
    """Mean loss of the training samples; at the label party."""
    losses: tuple[float, ...] = ()
    """At the label party, where the loss ended the training: the mean loss with its penalties
    before each epoch; of linear regression over the variance of the label."""
    dispersion: NonNegativeFloat | None = None
    """At the label party."""
    shares: tuple[PredictorShare, ...] = ()
    """At the label party."""
    trees: NonNegativeInt | None = None
    """That were kept."""
    rho: NonNegativeFloat | None = None
    """What noise on feature parties' sums is worth for a row of theirs, in zero-concentrated
    differential privacy over all sums; None without noise."""
    importance: tuple[Importance, ...] = ()
    curve: tuple[TreePoint, ...] = ()
    """At the label party."""
    card: CardFacts | None = None
    stability: Stability | None = None

    @property
    def tells_of_labels(self) -> bool:
        """Whether it holds what is for the label party's report alone."""
        alone = (self.intercept, self.intercept_error, self.loss, self.dispersion, self.stability)
        base = None if self.card is None else self.card.base
        gains = any(one.gain is not None for one in self.importance)
        return (
            any(x is not None for x in (*alone, base))
            or gains
            or bool(self.shares + self.curve + self.losses)
        )
