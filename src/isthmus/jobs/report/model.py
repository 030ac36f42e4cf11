"""What a report says: the typed, published form of `report.json`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    model_validator,
)

from isthmus.jobs.report.looks import Looks
from isthmus.jobs.report.parts import (
    Curves,
    LorenzCurves,
    Metrics,
    Part,
    Ranking,
    RetrievalFacts,
    Scalar,
    SequenceFacts,
    Share,
    TargetFigures,
    Traffic,
    Uplift,
)
from isthmus.jobs.report.tabular import Fitted

Role = Literal["label", "feature", "arbiter"]
"""An arbiter decrypts in the training, and brings no table."""


def _in_utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)


def _relative(path: str) -> str:
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\\" in path:
        raise ValueError("an artefact's path must be relative to the report's folder")
    return path


class Versions(Part):
    """The software that ran the job."""

    isthmus: str
    python: str
    torch: str
    numpy: str


class Party(Part):
    """One of the job's parties."""

    name: str
    role: Role


class JobFacts(Part):
    """What was run, and by whom."""

    name: str
    hash: str
    """Canonical hash of the job file, which every party approved."""
    party: str
    """The party whose report this is."""
    parties: Annotated[tuple[Party, ...], Field(min_length=1)]
    """All parties in the agreed order."""
    created: Annotated[AwareDatetime, AfterValidator(_in_utc)]
    """When the job ended, in UTC."""
    seed: int
    label: str | None = None
    """The label expression of the job file, which all parties hold: a sample is positive where it
    is true."""
    versions: Versions
    applies: str | None = None
    """The earlier job whose model was applied, by its folder; None where the job had its own."""

    @model_validator(mode="after")
    def _has_one_label_party(self) -> Self:
        if sum(party.role == "label" for party in self.parties) != 1:
            raise ValueError("a job has exactly one label party")
        if all(party.name != self.party for party in self.parties):
            raise ValueError(f"{self.party!r} is not among the parties")
        return self

    @property
    def role(self) -> Role:
        """This party's role."""
        return next(party.role for party in self.parties if party.name == self.party)

    @property
    def label_party(self) -> str:
        """The name of the party that holds the label."""
        return next(party.name for party in self.parties if party.role == "label")

    @property
    def arbiter(self) -> str | None:
        """The name of the party that decrypted in the training, where there was one."""
        return next((party.name for party in self.parties if party.role == "arbiter"), None)

    @property
    def feature_parties(self) -> tuple[str, ...]:
        """The names of the others that bring tables."""
        return tuple(party.name for party in self.parties if party.role == "feature")


class FeatureFacts(Part):
    """One encoded column of this party."""

    name: str
    kind: str
    """categorical, numeric, multi_hot, sequence or vector."""
    table_rows: NonNegativeInt
    """Rows it takes in the embedding table: its vocabulary, unknown and missing included."""


class UnseenFacts(Part):
    """How a column of this party in the rows that are predicted differs from the training."""

    column: str
    rows: NonNegativeInt
    """Predicted rows that this party has."""
    unknown: NonNegativeInt = 0
    """Values that no training sample had."""
    unknown_as: str = ""
    """What the model takes them for."""
    gaps: NonNegativeInt = 0
    """Missing values, where no training sample lacked one."""
    gaps_as: str = ""
    """What the model takes them for."""
    beyond: NonNegativeInt = 0
    """Numbers below the least or above the greatest one of the training samples."""
    psi: NonNegativeFloat | None = None
    """Population stability index from the training samples to these rows."""


class DataFacts(Part):
    """This party's table and how the samples were cut."""

    rows_read: NonNegativeInt
    features: tuple[FeatureFacts, ...]
    training_samples: NonNegativeInt
    validation_samples: NonNegativeInt
    test_samples: NonNegativeInt
    positive_rate: Share | None = None
    """Share of positive labels among all samples; only the label party knows it."""
    sequences: tuple[SequenceFacts, ...] = ()
    """What samples have of each sequence among the features."""
    unseen: tuple[UnseenFacts, ...] = ()
    """Where an earlier model is applied: its columns then and now."""


class AlignmentFacts(Part):
    """What the alignment found and what each side learnt from it."""

    protocol: str
    keys: Literal["row", "entity"] = "row"
    """Whether a key stands for one row on both sides or for many rows at the label party."""
    own_rows: NonNegativeInt
    own_keys: NonNegativeInt
    """Distinct keys of this party that took part."""
    partner_keys: dict[str, NonNegativeInt]
    """Set size that each partner showed."""
    common_keys: NonNegativeInt
    samples: NonNegativeInt
    dropped_duplicates: NonNegativeInt = 0
    """Rows left out before the protocol because their key came twice."""
    dropped_nulls: NonNegativeInt = 0
    """Rows left out before the protocol because they had no key."""


class ModelPart(Part):
    """A part of the network that this party holds."""

    name: str
    """Such as bottom or top."""
    dense_parameters: NonNegativeInt
    sparse_parameters: NonNegativeInt = 0
    """Parameters in embedding tables, of which a step touches only the batch's rows."""


class SignalWeights(Part):
    """What a signal of a hybrid network counts, by how much is known."""

    signal: str
    neither: float
    """Its weight where neither user nor item has ever been seen."""
    user: float
    """Where the user is well known."""
    item: float
    """Where the item is."""
    both: float


class ModelFacts(Part):
    """The network."""

    name: str
    hyper_parameters: dict[str, Scalar | tuple[Scalar, ...]]
    parts: tuple[ModelPart, ...]
    blend: tuple[SignalWeights, ...] = ()
    """What a hybrid network has learnt of its signals, where the top is."""


class EpochFacts(Part):
    """One epoch of training. Losses and AUC are known to the label party, and where shared."""

    epoch: Annotated[int, Field(ge=1)]
    seconds: NonNegativeFloat
    learning_rate: NonNegativeFloat | None = None
    train_loss: float | None = None
    """Mean loss over the epoch's steps, in nats for log loss."""
    validation_auc: Share | None = None
    validation_log_loss: NonNegativeFloat | None = None
    validation_loss: float | None = None
    """Of what is trained, where that is not the log loss of one binary label."""
    tower_train_loss: float | None = None
    """Of the targets that this party holds beside the label party's; so are the next two."""
    tower_validation_loss: float | None = None
    tower_validation_auc: Share | None = None
    """Of the first of them."""


class GuardFacts(Part):
    """What the guard on one feature party's cut or gradients did in training and validation, as
    the party whose report this is saw it, since training was started or resumed.
    """

    party: str
    """The feature party."""
    direction: Literal["cut", "gradient"]
    """`cut`: from the feature party to the label party; `gradient`: back."""
    guard: str
    lossy: bool
    messages: NonNegativeInt
    bytes_before: NonNegativeInt
    """Of the tensors as float32, names and framing left out."""
    bytes_after: NonNegativeInt
    """Of what crossed for them."""
    ratio: NonNegativeFloat
    """How many times fewer bytes crossed."""
    relative_error: NonNegativeFloat | None = None
    """|received - meant| / |meant| over a sample of training messages; only the sender knows it."""
    saturated: NonNegativeInt | None = None
    """Values too large for the guard's format; only the sender knows it."""


class TrainingFacts(Part):
    """How training went."""

    schedule: str
    chosen_schedule: str | None = None
    """What the schedule `auto` chose; None under another one, and where it did not come to it."""
    optimizer: str
    batch_size: Annotated[int, Field(ge=1)]
    learning_rate: NonNegativeFloat
    """As in the job file, before decay and warm-up."""
    hyper_parameters: dict[str, Scalar] = Field(default={})
    """What else the job file says about the training, such as decays and patience."""
    epochs: NonNegativeInt
    """Epochs done."""
    steps: NonNegativeInt
    samples_per_second: NonNegativeFloat
    """Training samples over training time, validation left out."""
    best_epoch: Annotated[int, Field(ge=1)] | None = None
    """The epoch whose parameters were kept."""
    stop_reason: str
    curve: tuple[EpochFacts, ...]
    guards: tuple[GuardFacts, ...] = ()
    """On this party's lanes; empty where none stands."""

    @property
    def guarded_ratio(self) -> float | None:
        """How many times fewer bytes the guarded messages have together; None without guards."""
        after = sum(guard.bytes_after for guard in self.guards)
        return sum(guard.bytes_before for guard in self.guards) / after if after else None


class Phase(Part):
    """One phase of the job."""

    name: str
    seconds: NonNegativeFloat


class Artefact(Part):
    """A file the job left behind at this party."""

    path: Annotated[str, AfterValidator(_relative)]
    """Relative to the report's folder, with forward slashes."""
    description: str


class Report(Part):
    """One job as one party may see it."""

    report_version: Literal[1] = 1
    job: JobFacts
    data: DataFacts
    alignment: AlignmentFacts
    model: ModelFacts | None = None
    """Of a network."""
    training: TrainingFacts | None = None
    """Of a network."""
    fitted: Fitted | None = None
    """What was learnt in place of a network."""
    looks: Looks | None = None
    """What was found in the parties' tables, where the job looks at them."""
    metrics: Metrics = Metrics()
    """On the held-out test samples, of the first target where it is binary."""
    uplift: Uplift = Uplift()
    targets: tuple[TargetFigures, ...] = ()
    """All targets on the test samples, where there are others than one binary label."""
    ranking: Ranking | None = None
    """Of the first target, where the job names a column to rank within."""
    retrieval: RetrievalFacts | None = None
    """Where items are retrieved."""
    curves: Curves = Curves()
    lorenz: LorenzCurves = LorenzCurves()
    """Of a first target of counts or costs."""
    traffic: Traffic
    phases: tuple[Phase, ...]
    """In the order they ran; `pooled`, where there is one, comes after the job."""
    seconds: NonNegativeFloat
    """Wall time of the whole job at this party, without `pooled`."""
    artefacts: tuple[Artefact, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def network(self) -> TrainingFacts:
        """How the network's training went, where there is one."""
        assert self.training is not None
        return self.training

    @model_validator(mode="after")
    def _tells_a_feature_party_no_labels(self) -> Self:
        if self.job.role == "label":
            return self
        if self.data.positive_rate is not None:
            raise ValueError("a feature party's report must not hold the positive rate")
        if self.retrieval is not None:
            raise ValueError("a feature party's report must not tell of users and items")
        if self.curves != Curves() or self.lorenz != LorenzCurves():
            raise ValueError("a feature party's report must not hold ROC or calibration")
        if self.fitted is not None and self.fitted.tells_of_labels:
            raise ValueError("a feature party's report must not hold what is fitted to labels")
        if self.looks is not None and (untold := self.looks.untold(self.job.party)):
            raise ValueError(f"a feature party's report must not hold {untold}")
        shown = (self.metrics.label_party_alone, self.metrics.federation, self.metrics.pooled)
        if any(figures is not None and figures.positives is not None for figures in shown):
            raise ValueError("a feature party's report must not count positive labels")
        if any(target.rows is not None for target in self.targets):
            raise ValueError("a feature party's report must not count labels")
        if self.ranking is not None and (self.ranking.groups, self.ranking.left_out) != (None,) * 2:
            raise ValueError("a feature party's report must not count what is ranked")
        return self
