"""Parts of a report: what the models reach, their curves, and what crossed the link."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    model_validator,
)

Share = Annotated[float, Field(ge=0, le=1)]
Scalar = bool | int | float | str | None


class Part(BaseModel):
    """Base of all parts: frozen, no unknown fields, no NaN or infinity."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


class Figures(Part):
    """How one model does on the test samples."""

    auc: Share
    ks: Share
    log_loss: NonNegativeFloat
    """In nats."""
    brier: Share
    rows: NonNegativeInt
    positives: NonNegativeInt | None = None
    """Positive rows; never in a feature party's report."""


class Metrics(Part):
    """The models compared, each where it is known to this party."""

    label_party_alone: Figures | None = None
    """The label party's own columns only."""
    federation: Figures | None = None
    """All parties' columns, each at its owner: what the job trained."""
    pooled: Figures | None = None
    """The same network over all columns in one place; only a simulation can know it."""


class TargetFigures(Part):
    """One metric of one target on the test samples that have a label for it, model by model."""

    name: str
    kind: Literal["binary", "multiclass", "real", "retrieval"]
    metric: str
    """AUC and log loss of a binary target, accuracy and log loss of several classes, root mean
    square error (RMSE) and mean absolute error (MAE) of a real one, deviance and Gini of counts and
    costs; where items are retrieved recall, NDCG and MRR, means over users."""
    rows: NonNegativeInt | None = None
    """Test samples with a label for it; never in a feature party's report."""
    label_party_alone: float | None = None
    federation: float | None = None
    pooled: float | None = None


class RankingFigures(Part):
    """One metric of the order within groups on the test samples, model by model."""

    metric: str
    """GAUC, MRR, or one of lists of a length: NDCG@5, recall@5, hit rate@5, MAP@5."""
    label_party_alone: Share | None = None
    federation: Share | None = None
    pooled: Share | None = None


class Ranking(Part):
    """How well models order the test samples of each user, or of each value of another column."""

    per: str
    """The label party's column."""
    groups: NonNegativeInt | None = None
    """Its values whose test samples are of both classes; never in a feature party's report."""
    left_out: NonNegativeInt | None = None
    """Its values whose test samples are all of one class; never in a feature party's report."""
    figures: tuple[RankingFigures, ...] = ()
    """Empty where no value has both classes."""


class SequenceFacts(Part):
    """A sequence of this party as the network reads it. Only its owner's report holds it."""

    name: str
    length: NonNegativeInt
    """The most items of a sample that are kept, the newest."""
    of: str | None = None
    """The column of items in the events that it is built from; None where a column holds it."""
    by: str | None = None
    """The column that says whose events they are."""
    where: str | None = None
    """Which events count; None for all."""
    share: str | None = None
    """The feature whose vectors the items have; None for vectors of their own."""
    events_used: NonNegativeInt | None = None
    """Events that stand in the history of a sample at least; None where a column holds it."""
    mean_items: NonNegativeFloat
    """Items of a sample on average, of all samples."""
    empty: Share
    """Share of all samples that have no item."""


class RecallCurves(Part):
    """Recall of held-out items by the length of the list, model by model."""

    lengths: tuple[Annotated[int, Field(ge=1)], ...]
    label_party_alone: tuple[Share, ...] | None = None
    federation: tuple[Share, ...] | None = None
    pooled: tuple[Share, ...] | None = None


class RetrievalFacts(Part):
    """What was retrieved; only in the label party's report, as it tells of its users and items."""

    items: NonNegativeInt
    new_items: NonNegativeInt
    """Items in no training sample."""
    users: NonNegativeInt
    """Users with a list."""
    top: Annotated[int, Field(ge=1)]
    """Items in a list."""
    exact_seconds: NonNegativeFloat
    """Of finding all lists exactly."""
    build_seconds: NonNegativeFloat | None = None
    """Of building the approximate index, where there is one."""
    approximate_seconds: NonNegativeFloat | None = None
    """Of finding all lists in it."""
    neighbours_found: Share | None = None
    """Of the exact lists' items the share that is in the approximate ones."""
    approximate: dict[str, Share] = Field(default={})
    """The federation's metrics where a held-out item counts only if the index finds it."""
    curves: RecallCurves


class Interval(Part):
    """A difference of two AUCs with its paired bootstrap interval."""

    mean: float
    """The difference of the two AUCs on the test samples."""
    low: float
    high: float
    level: Share
    """Share of bootstrap resamples within the interval, such as 0.95."""

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies wholly on one side of zero."""
        return self.low > 0 or self.high < 0


class Uplift(Part):
    """What the federation gains in AUC over the other models."""

    over_label_party_alone: Interval | None = None
    """Federation minus label party alone."""
    over_pooled: Interval | None = None
    """Federation minus pooled; near zero where splitting costs nothing."""


class RocPoint(Part):
    """One point of a ROC curve."""

    false_positive_rate: Share
    true_positive_rate: Share


class CalibrationBin(Part):
    """Predicted against observed in one bin of test samples."""

    predicted: Share
    observed: Share
    count: NonNegativeInt
    low: Share
    """Lower end of the 95% Wilson interval of `observed`."""
    high: Share
    """Upper end of it."""


class CutOff(Part):
    """What a cut-off on the score does: samples at or above it are called positive."""

    threshold: float
    called: Share
    """Share of the samples that are called positive."""
    recall: Share
    """Share of the positives that are called so: the gain."""
    false_positive_rate: Share
    """Share of the negatives that are called positive."""
    precision: Share
    """Share of positives among those called so."""


class LiftGroup(Part):
    """A tenth of the test samples; the first one has the best scores."""

    rows: NonNegativeFloat
    positives: NonNegativeFloat
    """Expected count: samples of one score are shared out evenly, so it need not be whole."""
    lift: NonNegativeFloat
    """The group's share of positives over that of all test samples."""


class ModelCurves(Part):
    """ROC curve, calibration and cut-offs of one model on the test samples."""

    roc: tuple[RocPoint, ...]
    calibration: tuple[CalibrationBin, ...]
    cutoffs: tuple[CutOff, ...] = ()
    """From the highest threshold down."""
    ks_at: float | None = None
    """The threshold at which positives and negatives are furthest apart; one of the cut-offs."""
    average_precision: Share | None = None
    """The area under precision by recall."""
    lift: tuple[LiftGroup, ...] = ()


class LorenzPoint(Part):
    """Test samples in the order of their predictions, the lowest first."""

    rows: Share
    """Share of the samples, or of their exposure, so far."""
    total: Share
    """Share of all that came true that is theirs."""


class LorenzCurves(Part):
    """How far models tell low from high values of a real target; only in the label party's report,
    as they tell about labels.
    """

    label_party_alone: tuple[LorenzPoint, ...] | None = None
    federation: tuple[LorenzPoint, ...] | None = None
    pooled: tuple[LorenzPoint, ...] | None = None


class Curves(Part):
    """The models' curves; only in the label party's report, as they tell about labels."""

    label_party_alone: ModelCurves | None = None
    federation: ModelCurves | None = None
    pooled: ModelCurves | None = None


class TopicTraffic(Part):
    """What crossed the link to one partner under one topic."""

    partner: str
    topic: str
    sent_bytes: NonNegativeInt
    received_bytes: NonNegativeInt
    sent_messages: NonNegativeInt
    received_messages: NonNegativeInt
    waited_seconds: NonNegativeFloat
    """Time this party waited for messages of the topic."""


class Traffic(Part):
    """Everything that crossed, by topic, and in total."""

    topics: tuple[TopicTraffic, ...] = ()
    sent_bytes: NonNegativeInt = 0
    received_bytes: NonNegativeInt = 0
    sent_messages: NonNegativeInt = 0
    received_messages: NonNegativeInt = 0
    waited_seconds: NonNegativeFloat = 0.0

    @property
    def bytes(self) -> int:
        """Sent and received together."""
        return self.sent_bytes + self.received_bytes

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        for field in ("sent_bytes", "received_bytes", "sent_messages", "received_messages"):
            if getattr(self, field) != sum(getattr(topic, field) for topic in self.topics):
                raise ValueError(f"{field} is not the sum over the topics")
        return self
