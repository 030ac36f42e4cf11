"""The parts of a job file about tables: what is looked at, and models that are not networks."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from pydantic.config import JsonDict

from isthmus.jobs.spec_label import LabelSpec
from isthmus.jobs.spec_parts import Count, Name, Part, Penalty, misplaced

SECTION: JsonDict = {"section": True}
"""Marks a field of a job file that may be left out: left out, it is no part of what is agreed."""

Below = Annotated[float, Field(gt=0.0, lt=1.0)]
Above = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class CleanSpec(Part):
    """What is done to a column before anything looks at it. Statistics are of training rows."""

    missing: Literal["keep", "mean", "median", "mode", "zero", "drop"] | Number = "keep"
    """What stands for a missing value: a statistic, or a number. `drop`: rows without a value take
    no part in the alignment."""
    clip: tuple[Number, Number] | None = None
    """The least and the greatest value that are kept as they are."""
    winsorise: Annotated[float, Field(gt=0.0, lt=0.5)] | None = None
    """Share of values at each end that are brought to the quantile there."""
    standardise: bool = False
    """Mean 0 and deviation 1."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.clip is not None and not self.clip[0] < self.clip[1]:
            raise ValueError("clip needs a least value below the greatest")
        return self


class ProfileSpec(Part):
    """Look at the columns of each party: the owner sees all, its partners what it lets them."""

    least: Count = 50
    """Cells of fewer rows are not shown to partners."""
    bins: Annotated[int, Field(ge=2, le=200)] = 20
    """Cells of a histogram."""
    epsilon: Above | None = None
    """Noise on the counts that partners see: differential privacy of each column."""


class BinSpec(Part):
    """Bin all columns, with weight of evidence (WOE) and information value (IV)."""

    method: Literal["quantile", "width", "chi", "monotone"] = "quantile"
    """Equal rows, equal widths, merged by chi-square, or merged until the WOE is monotone."""
    bins: Annotated[int, Field(ge=2, le=100)] = 10
    """The most bins of a column, missing values not counted."""
    least: Count = 20
    """Rows that a bin has at least."""
    tell: Literal["keep", "iv", "woe"] = "iv"
    """What feature parties learn of their own columns: which are kept, their IV, or the WOE of each
    bin, which with `transform` they need."""
    least_iv: Penalty = 0.0
    """Columns of less are left out of what follows."""
    transform: bool = False
    """Models learn from the WOE of each value's bin in place of the value."""

    @model_validator(mode="after")
    def _can_transform(self) -> Self:
        if self.transform and self.tell != "woe":
            raise ValueError("transform needs `tell: woe`: a party must know the WOE of its bins")
        return self


class CorrelationSpec(Part):
    """The joint correlation matrix of numeric columns, and each column's VIF."""

    share: bool = True
    """Feature parties see it too."""
    digits: Annotated[int, Field(ge=1, le=9)] = 9
    """Decimals that are right. Five, or four of a million rows, take half the bytes and a third of
    the work; the VIF of nearly collinear columns needs nine."""


class PcaSpec(Part):
    """Principal components of all parties' numeric columns; scores stay split."""

    components: Count = 2
    """How many."""
    covariance: bool = False
    """Of centred columns, which are not scaled."""


ARBITERS = (
    "arbiter", "l1", "batch_size", "epochs", "learning_rate", "decay", "stop", "loss_change"
)  # fmt: skip
"""Fields of `linear` that go with `protocol: arbiter` alone."""


class LinearSpec(Part):
    """A generalised linear model, by encrypted sums, in place of a network."""

    family: Literal["logistic", "linear", "poisson", "gamma", "tweedie"] = "logistic"
    """What the label is taken to follow."""
    protocol: Literal["vectors", "moments", "arbiter"] = "vectors"
    """`vectors`: exact, and shows the label party combinations of columns. `moments`: shows
    covariances alone, for linear, and logistic by its Taylor series. `arbiter`: for the same, by
    gradient steps under the key of a third party, which sees masked sums."""
    arbiter: Annotated[Name | None, Field(json_schema_extra=SECTION)] = None
    """Who decrypts with `protocol: arbiter`: a name that is not among `parties`, as it brings no
    table. It takes part in the training alone and calls the label party at its address."""
    power: Annotated[float, Field(gt=1.0, lt=2.0)] = 1.5
    """Of the variance, of the family tweedie."""
    l2: Penalty = 0.0
    """Half of it times the squared coefficients is added to the mean loss."""
    l1: Annotated[Penalty, Field(json_schema_extra=SECTION)] = 0.0
    """Times the coefficients' sizes it is added to the mean loss, which makes some of them 0; with
    an arbiter."""
    tolerance: Above = 0.01
    """Stop this far from the optimum, in standard errors."""
    rounds: Count | None = None
    """The most vectors that a feature party shows."""
    standard_errors: bool = False
    """Also standard errors and p-values."""
    offset: str | None = None
    """A column of the label party that is added to the linear predictor."""
    exposure: str | None = None
    """A column of the label party whose logarithm is the offset: years insured, impressions."""
    least_columns: Count = 2
    """A feature party with fewer independent columns refuses: with `vectors` it shows as many
    combinations of them, and one of a single column is the column."""
    rows_per_column: Count = 20
    """The label party refuses a partner with fewer training samples for each of its independent
    columns: their sums would tell it labels."""
    batch_size: Annotated[Count | None, Field(json_schema_extra=SECTION)] = None
    """With an arbiter, about so many samples make a step; all of them where left out. The batches
    are the same in every epoch."""
    epochs: Annotated[int, Field(ge=1, le=100_000, json_schema_extra=SECTION)] = 100
    """With an arbiter, the most passes over the training samples."""
    learning_rate: Annotated[float, Field(gt=0.0, lt=2.0, json_schema_extra=SECTION)] = 1.0
    """With an arbiter, in times of the longest step that surely lowers the loss."""
    decay: Annotated[Penalty, Field(json_schema_extra=SECTION)] = 0.0
    """With an arbiter, steps are divided by the root of 1 + decay times epochs made."""
    stop: Annotated[Literal["steps", "loss"], Field(json_schema_extra=SECTION)] = "steps"
    """With an arbiter: `steps`, when the coefficients have come to rest within `tolerance`, or
    `loss`, which the label party then learns after every epoch; with one feature party."""
    loss_change: Annotated[float, Field(ge=1e-6, le=1.0, json_schema_extra=SECTION)] = 1e-5
    """With `stop: loss`: the change of the mean loss that ends the training."""

    @model_validator(mode="after")
    def _arbiters_own(self) -> Self:
        """What only an arbiter makes sense of is not quietly without effect."""
        if self.protocol == "arbiter":
            if self.arbiter is None:
                said = "is missing: `protocol: arbiter` takes a party without data, by its name"
                raise misplaced(("linear", "arbiter"), said)
            if self.stop != "loss" and self.loss_change != 1e-5:
                raise misplaced(("linear", "loss_change"), "belongs to `stop: loss`")
            return self
        for name in ARBITERS:
            if getattr(self, name) != type(self).model_fields[name].default:
                said = f"belongs to `protocol: arbiter`, and this is {self.protocol}"
                raise misplaced(("linear", name), said)
        return self

    @model_validator(mode="after")
    def _one_offset(self) -> Self:
        if self.offset is not None and self.exposure is not None:
            raise ValueError("exposure is an offset: give one of the two")
        if self.exposure is not None and self.family in ("logistic", "linear"):
            raise ValueError(f"exposure goes with a logarithm, which {self.family} has none of")
        return self


class TreesSpec(Part):
    """Boosted trees over all parties' columns, in place of a network."""

    family: Literal["poisson"] | None = None
    """`poisson`: a real label is a count, learnt with a logarithm; else by its squared errors."""
    trees: Annotated[int, Field(ge=1, le=10_000)] = 50
    """How many; of several classes each round has one for each."""
    learning_rate: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1
    """What each tree's leaves are multiplied by."""
    depth: Annotated[int, Field(ge=1, le=16)] = 5
    """The most splits above a leaf."""
    leaves: Annotated[int, Field(ge=2, le=4096)] | None = None
    """The most leaves of a tree, best split first; as many as `depth` allows where left out."""
    bins: Annotated[int, Field(ge=2, le=256)] = 32
    """The most bins of a column."""
    l2: Penalty = 1.0
    """Penalty on the leaves' values."""
    min_rows: Count = 20
    """Rows that a leaf has at least."""
    min_hessian: Penalty = 1e-3
    """Sum of second derivatives that a leaf has at least."""
    min_gain: Penalty = 0.0
    """Gain that a split has at least."""
    subsample: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Share of rows that a tree is grown on."""
    columns: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Share of columns that a tree may use."""
    goss: tuple[Below, Below] | None = None
    """Shares of rows: those of the greatest gradients, and a sample of the others."""
    patience: Count | None = None
    """Stop after so many trees without gain on the validation samples; None: never."""
    own_trees: Annotated[int, Field(ge=0)] = 0
    """So many first trees are of the label party's columns alone, which shows partners less."""
    cell: Annotated[int, Field(ge=1, le=1_000_000, json_schema_extra=SECTION)] = 1
    """Rows of a sum that a feature party shows at least: neighbouring bins of fewer are shown as
    one. Not with `goss`. 1: each bin is shown, and the model is that of the pooled columns."""
    bits: Annotated[int, Field(ge=4, le=40, json_schema_extra=SECTION)] = 40
    """Binary places of derivatives, at most. With 8 many rows have the same, which makes it harder
    to find the rows behind a sum."""
    noise: Annotated[float, Field(ge=0.0, le=1000.0)] = 0.0
    """Standard deviation of what feature parties add to each sum that they show, in times the
    largest derivative. 0: sums are exact."""
    paths: bool = False
    """Predict along the trees' paths: the label party learns no other side of a row, and feature
    parties which rows come to their cuts."""


class ScorecardSpec(Part):
    """Points for each bin, of a logistic regression on WOE."""

    points: Number = 600.0
    """Score at the odds `odds`."""
    odds: Above = 50.0
    """Negatives for each positive at which the score is `points`."""
    double: Above = 20.0
    """Points that double the odds."""
    reasons: Annotated[int, Field(ge=0, le=20)] = 3
    """Columns that are named for each predicted row, which cost it the most points."""


class Analysis(Part):
    """What of a job file is about tables: base of the job's model."""

    profile: Annotated[ProfileSpec | None, Field(json_schema_extra=SECTION)] = None
    """Look at the columns of each party."""
    bin: Annotated[BinSpec | None, Field(json_schema_extra=SECTION)] = None
    """Bin all columns, with weight of evidence and information value."""
    correlation: Annotated[CorrelationSpec | None, Field(json_schema_extra=SECTION)] = None
    """The joint correlation matrix."""
    pca: Annotated[PcaSpec | None, Field(json_schema_extra=SECTION)] = None
    """Principal components."""
    linear: Annotated[LinearSpec | None, Field(json_schema_extra=SECTION)] = None
    """A generalised linear model in place of a network."""
    trees: Annotated[TreesSpec | None, Field(json_schema_extra=SECTION)] = None
    """Boosted trees in place of a network."""
    scorecard: Annotated[ScorecardSpec | None, Field(json_schema_extra=SECTION)] = None
    """Points for each bin, of a logistic regression on WOE."""

    @model_validator(mode="before")
    @classmethod
    def _none_is_empty(cls, given: Any) -> Any:
        """A section's name with nothing behind it is no wish to leave the section out."""
        if isinstance(given, dict):
            for name in Analysis.model_fields:
                if given.get(name, "") is None:
                    said = "is empty: write {} for its defaults, or leave the name out as well"
                    raise misplaced((name,), said)
        return given

    @property
    def is_tabular(self) -> bool:
        """Whether anything of the job needs columns as numbers and categories."""
        return any(getattr(self, name) is not None for name in Analysis.model_fields)

    @property
    def learns(self) -> Literal["network", "linear", "trees", "nothing"]:
        """What is trained. A job that only looks at tables, and does not say `train`, learns
        nothing.
        """
        if self.linear is not None:
            return "linear"
        if self.trees is not None:
            return "trees"
        return "nothing" if self.is_tabular and "train" not in self.model_fields_set else "network"

    def check_analysis(self, kind: str, *, several: bool) -> None:
        """See that the sections go together, and with the label.

        Args:
            kind: of the first target.
            several: whether there are further ones.

        Raises:
            PydanticCustomError: at the place in the job file.
        """
        if self.linear is not None and self.trees is not None:
            raise misplaced(("trees",), "a job trains one model: linear or trees")
        if self.learns in ("linear", "trees"):
            if "train" in self.model_fields_set:
                said = f"belongs to networks, and the job has {self.learns} in place of one"
                raise misplaced(("train",), said)
            if several:
                raise misplaced(("label", "also"), f"{self.learns} learns one target")
        if self.bin is not None and kind != "binary":
            raise misplaced(("bin",), f"WOE is of a binary label, which a {kind} one is not")
        self._check_linear(kind)
        if self.trees is not None and self.trees.family is not None and kind != "real":
            raise misplaced(("trees", "family"), f"a count is a real label, not a {kind} one")
        if self.scorecard is not None:
            fits = self.linear is not None and self.linear.family == "logistic"
            if not (fits and self.bin is not None and self.bin.transform):
                said = "needs `linear` of the family logistic, and `bin` with `transform: true`"
                raise misplaced(("scorecard",), said)

    def check_arbiter(self, parties: tuple[str, ...], label: LabelSpec) -> None:
        """See that the arbiter of a linear model is a party of its own, and can do what is asked.

        Args:
            parties: that bring tables.
            label: what is learnt.

        Raises:
            PydanticCustomError: at the place in the job file.
        """
        about = self.linear
        if about is None or about.protocol != "arbiter":
            return
        if about.arbiter in parties:
            said = f"{about.arbiter!r} brings a table, and an arbiter must not have any data"
            raise misplaced(("linear", "arbiter"), said)
        if about.family not in ("linear", "logistic"):
            said = f"arbiter is for the families linear and logistic, not {about.family}"
            raise misplaced(("linear", "protocol"), said)
        if label.weight is not None:
            raise misplaced(("label", "weight"), "an arbiter's sums know no weights")
        if about.stop == "loss" and len(parties) > 2:
            said = "loss is for one feature party: the loss of several takes products of theirs"
            raise misplaced(("linear", "stop"), said)

    def _check_linear(self, kind: str) -> None:
        if self.linear is None:
            return
        wanted = "binary" if self.linear.family == "logistic" else "real"
        if kind != wanted:
            said = f"{self.linear.family} learns a {wanted} label, and label.kind is {kind}"
            raise misplaced(("linear", "family"), said)
