"""The job file: what the parties agree to run, as validated pydantic models.

Fields marked local (paths, addresses, threads) differ between the parties' copies of the file and
are left out of the job's hash; everything else is agreed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from isthmus.data import FeatureSpec, parse_label
from isthmus.errors import SchemaError

LOCAL: JsonDict = {"local": True}
"""Marks a field as a party's own affair: not agreed, not hashed."""

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
"""A party's or job's name: it becomes a folder and part of a certificate."""

Fraction = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Widths = tuple[Count, ...]
Penalty = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0.0, le=10.0, allow_inf_nan=False)]


class Part(BaseModel):
    """A part of the job file: unknown fields are refused and values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


Guard = Annotated[str, StringConstraints(pattern=r"^[a-z0-9:.+-]{1,40}$")]


class GuardsSpec(Part):
    """What is done to what crosses the cut, so that fewer bytes cross. All but `none` and the casts
    cost accuracy; the page on guards says how much.
    """

    cut: Guard = "none"
    """On cut tensors: `none`, `fp16`, `int8`, `topk:0.25+int8`, ..."""
    gradient: Guard = "none"
    """On the gradients that go back."""


class PartyGuardsSpec(Part):
    """What is done to what crosses one feature party's cut, in place of `train.guards`."""

    cut: Guard | None = None
    """On its cut tensors; `train.guards.cut` where left out."""
    gradient: Guard | None = None
    """On the gradients that go back to it; `train.guards.gradient` where left out."""


class PartySpec(Part):
    """One party: the table it brings, its columns, and where to reach it."""

    table: Path | None = Field(default=None, json_schema_extra=LOCAL)
    """The party's table, relative to the job file (csv, tsv, parquet, jsonl, arrow). Local."""
    address: str | None = Field(default=None, json_schema_extra=LOCAL)
    """`host:port` at which partners reach this party. Local."""
    key: str | tuple[str, ...] | None = None
    """The id column or columns here, where they are not called as in `align.key`."""
    features: dict[str, FeatureSpec] | None = None
    """The columns to learn from; the owner's own guess from the table where left out. `{}`: none,
    for a label party that brings only the label."""
    guards: PartyGuardsSpec = PartyGuardsSpec()
    """What is done to what crosses this feature party's cut, in place of `train.guards`."""

    @property
    def has_features(self) -> bool:
        """Whether the party brings columns to learn from."""
        given = self.features
        return given is None or any(feature.kind != "ignore" for feature in given.values())


class LabelSpec(Part):
    """What is learnt, and who holds it."""

    party: Name
    """The label party."""
    expression: str
    """A column of 0 and 1, or a condition on one: `Rating > 3`, `Genre in ['a', 'b']`."""

    @model_validator(mode="after")
    def _readable(self) -> Self:
        try:
            parse_label(self.expression)
        except SchemaError as error:
            raise _misplaced(("label", "expression"), str(error)) from error
        return self


class AlignSpec(Part):
    """How the parties find the rows they have in common."""

    key: str | tuple[str, ...] = "ID"
    """The id column, or columns of a composite id."""
    protocol: Literal["ecdh"] = "ecdh"
    """Private set intersection by Diffie-Hellman on Curve25519."""
    keys: Literal["row", "entity"] = "row"
    """`row`: one row per id on both sides. `entity`: many rows per id at the label party."""
    duplicates: Literal["refuse", "drop"] = "refuse"
    """What to do with an id that stands twice."""
    nulls: Literal["refuse", "drop"] = "refuse"
    """What to do with rows that have no id."""


class SplitSpec(Part):
    """How the aligned samples are divided; every party cuts alike by a hash of the job's seed."""

    train: Fraction = 0.72
    """Share of samples that are learnt from."""
    valid: Fraction = 0.08
    """Share that decides when to stop."""
    test: Fraction = 0.2
    """Share held out for the evaluation."""

    @model_validator(mode="after")
    def _sums_to_one(self) -> Self:
        total = self.train + self.valid + self.test
        if abs(total - 1.0) > 1e-9:
            raise ValueError(f"train, valid and test add up to {total:g}, not 1")
        if self.train == 0.0 or self.test == 0.0:
            raise ValueError("train and test must be above 0")
        return self

    @property
    def fractions(self) -> tuple[float, float, float]:
        """Train, valid, test."""
        return self.train, self.valid, self.test


class EvaluateSpec(Part):
    """What the trained federation is measured against."""

    alone: bool = True
    """Train the same network on the label party's columns alone, to see the uplift."""
    pooled: bool = False
    """Train the same network on all columns in one place: only `isthmus run` can."""
    share_metrics: bool = True
    """Tell the feature parties the losses and metrics, of validation and of the test samples. Which
    epoch is the best and when training stops they see in any case."""
    resamples: Annotated[int, Field(ge=20, le=100_000)] = 1000
    """Bootstrap resamples of the uplift's confidence interval."""


class PredictSpec(Part):
    """Which samples the label party gets predictions for."""

    rows: Literal["none", "test", "all"] = "test"
    """`test`: the held-out samples. `all`: every aligned sample. `none`: no predictions."""


class ModelSpec(Part):
    """The network: DeepFM, with one lower tower a party and an upper tower over them."""

    name: Literal["deepfm"] = "deepfm"
    """DeepFM (Guo et al. 2017), split exactly."""
    dim: Count = 16
    """Length of each embedding, the same at all parties."""
    bottom: Annotated[Widths, Field(min_length=1)] = (64, 32)
    """Layer widths of each party's lower tower; the last one crosses the cut."""
    top: Widths = (64, 32)
    """Layer widths of the upper tower at the label party."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Share of activations dropped after each layer in training."""
    embedding_std: Annotated[float, Field(gt=0.0, le=1.0)] = 0.01
    """Standard deviation of the initial embeddings."""


def _bits_of_ring(given: Any) -> Any:
    if given is True:
        return 32
    if given is False or (type(given) is int and given in (32, 64)):
        return given
    raise ValueError(f"{given!r} is not one of true, false, 32, 64")


SecureSum = Annotated[
    Literal[False, 32, 64],
    BeforeValidator(_bits_of_ring),
    WithJsonSchema({"enum": [True, False, 32, 64]}),
]
Aggregation = Literal["concat", "sum", "mean", "max", "attention"]


def _natural_aggregation(given: dict[str, Any]) -> Aggregation:
    return "sum" if given.get("secure_sum") else "concat"


class TrainSpec(Part):
    """How the network is trained."""

    model: ModelSpec = ModelSpec()
    """The network."""
    schedule: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_:.,+-]{0,39}$")] = "exact"
    """When batches are sent, waited for and applied. `exact`: one batch in flight.
    `microbatch:4`: a batch goes in four messages and makes one update, the same to rounding.
    `pipeline:3`: three batches in flight, with gradients of slightly older weights. `local:4`: four
    updates an exchange. `adaptive:4`: the same while the loss stands still, else `exact`. `auto`:
    tries exact, microbatch and pipeline and takes what is fastest."""
    guards: GuardsSpec = GuardsSpec()
    """Compression of what crosses the cut, for all feature parties that say nothing else."""
    secure_sum: SecureSum = False
    """Hide the feature parties' cut tensors from the label party, which gets their sum alone; needs
    two of them. `true` is 32: the bits of the ring in which masked numbers are added. 64 sends
    twice the bytes and rounds 16384 times finer."""
    aggregation: Aggregation = Field(default_factory=_natural_aggregation)
    """What the upper tower gets of the feature parties' lower towers. `concat`: one behind the
    other, as in plain DeepFM. `sum`, `mean`, `max`, `attention`: one tensor. Where left out `sum`
    under a secure sum, which takes no other, and else `concat`."""
    batch_size: Count = 1024
    """Samples an update."""
    epochs: Count = 20
    """Passes over the training samples, at most."""
    learning_rate: Rate = 1e-3
    """Step size of Adam for dense parameters."""
    embedding_learning_rate: Rate | None = None
    """Step size of Adam for embedding rows; `learning_rate` where left out."""
    weight_decay: Penalty = 0.0
    """L2 penalty on dense parameters."""
    embedding_decay: Penalty = 0.0
    """L2 penalty on the embedding rows that a batch touches."""
    decay: Literal["constant", "linear", "cosine"] = "constant"
    """How the learning rate goes down over all epochs."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Updates over which the learning rate first rises from zero."""
    metric: Literal["auc", "log_loss"] = "auc"
    """The validation metric that picks the best epoch and stops early."""
    patience: Annotated[int, Field(ge=0)] = 3
    """Epochs without a better validation metric before training stops; 0 never stops early."""
    checkpoint_steps: Annotated[int, Field(ge=0)] = 10_000
    """Updates between two checkpoints within an epoch; 0: at the ends of epochs alone."""
    device: str = Field(default="auto", json_schema_extra=LOCAL)
    """`cpu`, `cuda`, `cuda:1`; `auto` takes CUDA where there is one. Local."""
    tensorboard: bool = Field(default=False, json_schema_extra=LOCAL)
    """Also write TensorBoard event files. Local."""

    @model_validator(mode="after")
    def _sums_add(self) -> Self:
        if self.secure_sum and self.aggregation != "sum":
            raise _misplaced(
                ("train", "aggregation"),
                f"{self.aggregation!r} cannot be had with a secure sum: write sum, or leave it out",
            )
        return self


class JobSpec(Part):
    """A whole job."""

    isthmus: Literal[1]
    """Version of the job file's format."""
    name: Name
    """Names the folder of the results."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Makes a run repeatable, together with the parties' identities."""
    parties: dict[Name, PartySpec]
    """The parties; their order is agreed."""
    label: LabelSpec
    """What is learnt, and who holds it."""
    align: AlignSpec = AlignSpec()
    """How the parties find the rows they have in common."""
    split: SplitSpec = SplitSpec()
    """How the aligned samples are divided."""
    train: TrainSpec = TrainSpec()
    """The network and its training."""
    evaluate: EvaluateSpec = EvaluateSpec()
    """What the trained federation is measured against."""
    predict: PredictSpec = PredictSpec()
    """Which samples get predictions."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if len(self.parties) < 2:
            raise _misplaced(("parties",), "a federation needs at least two parties")
        if self.label.party not in self.parties:
            known = ", ".join(self.parties)
            raise _misplaced(("label", "party"), f"'{self.label.party}' is not one of {known}")
        for name in self.feature_parties:
            if not self.parties[name].has_features:
                place = ("parties", name, "features")
                raise _misplaced(place, "only the label party may do without features")
        self._label_is_no_feature()
        self._guards_have_a_cut()
        self._sum_hides()
        return self

    def _label_is_no_feature(self) -> None:
        features = self.parties[self.label.party].features or {}
        for column in parse_label(self.label.expression).columns:
            if column in features and features[column].kind != "ignore":
                place = ("parties", self.label.party, "features", column)
                raise _misplaced(place, "the label's column cannot be a feature as well")

    def _guards_have_a_cut(self) -> None:
        if self.parties[self.label.party].guards != PartyGuardsSpec():
            place = ("parties", self.label.party, "guards")
            raise _misplaced(place, "the label party's tensors do not cross: nothing to guard")

    def _sum_hides(self) -> None:
        if not self.train.secure_sum:
            return
        if len(self.feature_parties) < 2:
            (alone,) = self.feature_parties
            raise _misplaced(
                ("train", "secure_sum"),
                f"a secure sum needs two feature parties: of {alone} alone, the sum would be "
                f"{alone}'s own tensors",
            )
        for name in self.feature_parties:
            if (guard := self.guard_of("cut", name)) != "none":
                own = self.parties[name].guards.cut is not None
                above = ("parties", name) if own else ("train",)
                raise _misplaced(
                    (*above, "guards", "cut"),
                    f"{guard!r} cannot be had with a secure sum, which adds masked numbers as they "
                    "are: guard the gradients alone",
                )

    def guard_of(self, direction: Literal["cut", "gradient"], party: str) -> str:
        """The guard on the cut tensors of the feature party `party`, or on their gradients."""
        own, common = self.parties[party].guards, self.train.guards
        if direction == "cut":
            return common.cut if own.cut is None else own.cut
        return common.gradient if own.gradient is None else own.gradient

    @property
    def order(self) -> tuple[str, ...]:
        """The parties' names in the agreed order."""
        return tuple(self.parties)

    @property
    def bottom_parties(self) -> tuple[str, ...]:
        """The parties that have a bottom model, in the agreed order."""
        return tuple(name for name, party in self.parties.items() if party.has_features)

    @property
    def feature_parties(self) -> tuple[str, ...]:
        """All parties but the label party."""
        return tuple(party for party in self.parties if party != self.label.party)

    def key_of(self, party: str) -> tuple[str, ...]:
        """The id columns in `party`'s table."""
        key = self.parties[party].key or self.align.key
        return (key,) if isinstance(key, str) else key


def _misplaced(place: tuple[str, ...], message: str) -> PydanticCustomError:
    return PydanticCustomError("job", "{message}", {"message": message, "place": place})
