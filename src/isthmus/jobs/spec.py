"""The job file: what the parties agree to run, as validated pydantic models.

Fields marked local (paths, addresses, threads) differ between the parties' copies of the file and
are left out of the job's hash; everything else is agreed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from isthmus.data import FeatureSpec
from isthmus.data.schema import LOCAL
from isthmus.jobs.spec_align import AlignSpec, check_alignment
from isthmus.jobs.spec_analysis import (
    SECTION,
    Analysis,
    BinSpec,
    CleanSpec,
    CorrelationSpec,
    LinearSpec,
    PcaSpec,
    ProfileSpec,
    ScorecardSpec,
    TreesSpec,
)
from isthmus.jobs.spec_bins import OwnBinSpec
from isthmus.jobs.spec_label import LabelSpec, TargetKind, TargetSpec
from isthmus.jobs.spec_parts import Fraction, Name, Part, misplaced
from isthmus.jobs.spec_predict import PredictSpec, check_prediction
from isthmus.jobs.spec_train import (
    AttentionSpec,
    CrossSpec,
    ExpertsSpec,
    ModelSpec,
    PartyGuardsSpec,
    RetrievalSpec,
    TrainSpec,
)

__all__ = [
    "AlignSpec",
    "AttentionSpec",
    "BinSpec",
    "CleanSpec",
    "CorrelationSpec",
    "CrossSpec",
    "EvaluateSpec",
    "ExpertsSpec",
    "JobSpec",
    "LabelSpec",
    "LinearSpec",
    "ModelSpec",
    "PartySpec",
    "PcaSpec",
    "PredictSpec",
    "ProfileSpec",
    "RetrievalSpec",
    "ScorecardSpec",
    "SplitSpec",
    "TargetKind",
    "TargetSpec",
    "TrainSpec",
    "TreesSpec",
]

Length = Annotated[int, Field(ge=1, le=10_000)]


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
    clean: dict[str, CleanSpec] = Field(default_factory=dict, json_schema_extra=SECTION)
    """What is done to columns before anything looks at them, in jobs without a network."""
    bins: dict[str, OwnBinSpec] = Field(default_factory=dict, json_schema_extra=LOCAL)
    """How `bin` cuts some of its columns. Local: partners need not know it."""
    guards: PartyGuardsSpec = PartyGuardsSpec()
    """What is done to what crosses this feature party's cut, in place of `train.guards`."""

    @property
    def has_features(self) -> bool:
        """Whether the party brings columns to learn from."""
        given = self.features
        return given is None or any(feature.kind != "ignore" for feature in given.values())


class SplitSpec(Part):
    """How the aligned samples are divided, at every party alike."""

    by: Literal["random", "time"] = "random"
    """`random`: by a hash of the job's seed. `time`: by `label.time`, the latest samples are the
    test samples, those before them the validation samples."""
    per: str | None = None
    """A column of the label party: `by: time` divides the samples of each of its values."""
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
        if self.per is not None and self.by != "time":
            raise misplaced(("split", "per"), "belongs to a split by time")
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
    per: str | None = None
    """A column of the label party, such as the user: the test samples of each of its values are
    ranked as well (GAUC, MRR, NDCG, recall, hit rate, MAP)."""
    at: Annotated[tuple[Length, ...], Field(min_length=1, max_length=8)] = (5, 10)
    """Of how many samples from the top NDCG, recall, hit rate and MAP are taken."""

    @model_validator(mode="after")
    def _lengths_serve(self) -> Self:
        if len(set(self.at)) < len(self.at):
            raise misplaced(("evaluate", "at"), "a length stands twice")
        if self.per is None and self.at != (5, 10):
            raise misplaced(("evaluate", "at"), "belongs to evaluate.per")
        return self


class JobSpec(Analysis):
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
            raise misplaced(("parties",), "a federation needs at least two parties")
        if self.label.party not in self.parties:
            known = ", ".join(self.parties)
            raise misplaced(("label", "party"), f"'{self.label.party}' is not one of {known}")
        self._holders_are_known()
        self.check_analysis(self.label.kind, several=bool(self.label.also))
        for name in self.feature_parties:
            if not self.parties[name].has_features and name not in self.tower_parties:
                place = ("parties", name, "features")
                raise misplaced(place, "only a party with labels may do without features")
        self._label_is_no_feature()
        self._label_serves()
        self._items_are_shared()
        self._labels_are_known()
        self._items_are_described()
        self._guards_have_a_cut()
        self._sum_hides()
        self._cleaning_has_an_effect()
        self.check_arbiter(self.order, self.label)
        check_prediction(self)
        check_alignment(self)
        return self

    def _holders_are_known(self) -> None:
        for name, target in self.label.also.items():
            if target.party is not None and target.party not in self.parties:
                said = f"'{target.party}' is not one of {', '.join(self.parties)}"
                raise misplaced(("label", "also", name, "party"), said)

    def _label_is_no_feature(self) -> None:
        for party, about in self.parties.items():
            features = about.features or {}
            for column in self.label.columns_of(party):
                # The name of a history or of collaborative signals is no column.
                given = features.get(column)
                if given is None or given.kind == "ignore" or given.made:
                    continue
                place = ("parties", party, "features", column)
                if column in self.label.target_columns_of(party):
                    raise misplaced(place, "the label's column cannot be a feature as well")
                said = "the weights' column cannot be a feature as well, since weights often follow"
                raise misplaced(place, f"{said} from the label: if not, bring a copy of it")

    def _label_serves(self) -> None:
        """What the split and the metric need of the label is there."""
        if self.split.by == "time" and self.label.time is None:
            raise misplaced(("split", "by"), "a split by time needs label.time")
        network = self.learns == "network"
        if network and self.label.kind != "binary" and self.train.metric != "loss":
            said = f"{self.train.metric!r} needs a binary first target: write loss"
            raise misplaced(("train", "metric"), said)
        if self.evaluate.per is not None and self.train.model.retrieval is not None:
            place = ("evaluate", "per")
            raise misplaced(place, f"{self.train.model.name} ranks all items for each user already")
        if self.label.kind != "binary" and self.evaluate.per is not None:
            said = "the samples of a value are ranked by a binary first target, which this is not"
            raise misplaced(("evaluate", "per"), said)

    def _items_are_shared(self) -> None:
        for party, about in self.parties.items():
            given = about.features or {}
            for name, feature in given.items():
                other = given.get(feature.share or "")
                if feature.share and (other is None or other.kind != "categorical"):
                    place = ("parties", party, "features", name, "share")
                    said = f"{feature.share!r} is not a categorical feature of {party}"
                    raise misplaced(place, said)

    def _items_are_described(self) -> None:
        """The item tower's fields are features of the label party, and no other tells the item."""
        about, label = self.train.model.retrieval, self.parties[self.label.party].features
        if about is None:
            return
        place = ("train", "model", "retrieval", "item_fields" if about.item_fields else "item")
        if label is None:
            said = "is missing: a two-tower network must know which features are the item's"
            raise misplaced(("parties", self.label.party, "features"), said)
        for name in about.fields:
            if name not in label or label[name].kind == "ignore":
                raise misplaced(place, f"{name!r} is not a feature of {self.label.party}")
            if label[name].of is not None:
                raise misplaced(place, f"{name!r} is a history of the user, not of the item")
        for name, feature in label.items():
            if feature.kind == "collaborative":
                said = "tells of a user and an item together: in a tower of the user it would name "
                place = ("parties", self.label.party, "features", name)
                raise misplaced(place, f"{said}the item that is to be found")

    def _labels_are_known(self) -> None:
        """Collaborative features stand where there are labels, which are numbers or yes and no."""
        for party, about in self.parties.items():
            for name, feature in (about.features or {}).items():
                if feature.kind != "collaborative":
                    continue
                place = ("parties", party, "features", name)
                if party != self.label.party:
                    raise misplaced(place, "only the label party has labels to compare")
                if self.label.kind == "multiclass":
                    raise misplaced(place, "a label of several classes is no number to compare")
                if {feature.user, feature.item} & set(self.label.target_columns):
                    raise misplaced(place, "the label's column is neither a user nor an item")

    def _guards_have_a_cut(self) -> None:
        if self.parties[self.label.party].guards != PartyGuardsSpec():
            place = ("parties", self.label.party, "guards")
            raise misplaced(place, "the label party's tensors do not cross: nothing to guard")

    def _cleaning_has_an_effect(self) -> None:
        for name, about in self.parties.items():
            if about.clean and self.learns == "network":
                said = "has no effect on a network, whose encoder scales and fills by itself"
                raise misplaced(("parties", name, "clean"), said)
            if about.bins and self.bin is None:
                said = "has no effect: the job does not bin, as it would with the section bin"
                raise misplaced(("parties", name, "bins"), said)

    def _sum_hides(self) -> None:
        if not self.train.secure_sum:
            return
        if len(self.feature_parties) < 2:
            (alone,) = self.feature_parties
            raise misplaced(
                ("train", "secure_sum"),
                f"a secure sum needs two feature parties: of {alone} alone, the sum would be "
                f"{alone}'s own tensors",
            )
        for name in self.feature_parties:
            if not self.parties[name].has_features:
                said = f"cannot be had with {name}, which brings no columns"
                raise misplaced(("train", "secure_sum"), said)
            if (guard := self.guard_of("cut", name)) != "none":
                own = self.parties[name].guards.cut is not None
                above = ("parties", name) if own else ("train",)
                raise misplaced(
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
    def applies(self) -> bool:
        """Whether the job applies an earlier one's model, and trains none."""
        return self.predict.model is not None

    @property
    def wants_pooled(self) -> bool:
        """Whether the job trains something and asks for the same on all columns in one place."""
        return self.evaluate.pooled and not self.applies and self.learns != "nothing"

    @property
    def trains_network(self) -> bool:
        """Whether a network is trained here."""
        return self.learns == "network" and not self.applies

    @property
    def order(self) -> tuple[str, ...]:
        """The names of the parties that bring tables, in the agreed order."""
        return tuple(self.parties)

    @property
    def arbiter(self) -> str | None:
        """The party without data that takes part in the training, where there is one."""
        return None if self.linear is None or self.applies else self.linear.arbiter

    @property
    def everyone(self) -> tuple[str, ...]:
        """`order`, and behind it the arbiter where there is one."""
        return self.order if self.arbiter is None else (*self.order, self.arbiter)

    @property
    def bottom_parties(self) -> tuple[str, ...]:
        """The parties that have a bottom model, in the agreed order."""
        return tuple(name for name, party in self.parties.items() if party.has_features)

    @property
    def feature_parties(self) -> tuple[str, ...]:
        """All parties but the label party."""
        return tuple(party for party in self.parties if party != self.label.party)

    @property
    def tower_parties(self) -> tuple[str, ...]:
        """The parties beside the label party that hold labels, in the agreed order."""
        return tuple(party for party in self.feature_parties if self.label.targets_of(party))

    def key_of(self, party: str) -> tuple[str, ...]:
        """The id columns in `party`'s table."""
        key = self.parties[party].key or self.align.key
        return (key,) if isinstance(key, str) else key
