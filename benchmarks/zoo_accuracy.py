"""Every network of the zoo on MovieLens-1M, a random cut: split, pooled, and each party alone.

make bench NAME=zoo_accuracy
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.environments import WORK
from benchmarks.harness import Bar, Result, machine_facts, publish, versions
from benchmarks.movielens_split import (
    CHOSEN,
    FEATURE_PARTY,
    FILM_FEATURES,
    LABEL_PARTY,
    USER_FEATURES,
    code_version,
    share_of,
)
from benchmarks.zoo_inputs import FRACTIONS, Inputs, inputs_of
from isthmus.data.sources import get
from isthmus.jobs.job import parse_job
from isthmus.jobs.label_data import labels_of
from isthmus.jobs.spec import JobSpec
from isthmus.jobs.training import bottom_of, data_of, options_of, top_of
from isthmus.metrics import auc, log_loss
from isthmus.session import Session, run_parties
from isthmus.split import FeatureData, TrainResult, predict, train, train_pooled
from isthmus.split.scoring import label_scores
from isthmus.split.sides import LabelSide, Part
from isthmus.split.targets import Targets

SEEDS = (1, 2, 3)
WAYS = ("federation", "pooled", LABEL_PARTY, FEATURE_PARTY)
"""What is trained for each network and seed: two ways to train all of it, and each party alone."""
TITLE = "The model zoo on MovieLens-1M: split, pooled, each party alone"
SUMMARY = """\
All 1,000,209 ratings, label: Rating > 3, a random cut of 80/10/10, three seeds, each of which draws
another cut and other initial values. alice has the people's columns, bob the films', the ratings
and, where the table says so, histories: the films that the rater rated earlier, among training rows
alone. All have the options that DeepFM was given in earlier benchmarks, but for what was changed
after a look at the validation rows of seed 1, and at nothing else. Federation: two parties over
links in memory, whose messages are encoded as on a network. Pooled: the same modules, trained in
one place. Alone: the network of one party. alice alone is a thought, since she has no
label; a dash: not run. All epochs are run, and the best one on validation rows is scored on the
test rows."""


@dataclass(frozen=True)
class Entry:
    """A row of the table: a network, what it reads, and how it is trained."""

    title: str
    model: Mapping[str, Any]
    """`train.model` of a job, but for what `MODEL` has."""
    histories: Mapping[str, str] = field(default_factory=dict)
    """Sequences at the label party: their names, and which earlier ratings are in them."""
    length: int = 50
    shared: bool = False
    """Whether a film in a history has the vector of the film that is judged."""
    train: Mapping[str, Any] = field(default_factory=dict)
    """Other fields of `train` than `CHOSEN` has."""
    also: Mapping[str, Any] = field(default_factory=dict)
    """`label.also`: targets beside the one whose AUC is compared."""


MODEL = {"dim": 16, "bottom": [128, 32], "top": [64, 32], "embedding_std": 0.003}
BY_STARS = {
    "Five": "Rating > 4",
    "Four": "Rating == 4",
    "Three": "Rating == 3",
    "Low": "Rating < 3",
}
BY_TASTE = {"Liked": "Rating > 3", "Disliked": "Rating <= 3"}
STARS = {"stars": {"expression": "Rating", "kind": "real", "weight": 1.0}}
ENTRIES = {
    "deepfm": Entry(
        "DeepFM",
        {"name": "deepfm"},
        train={"embedding_learning_rate": 1e-2, "embedding_decay": 2e-5},
    ),
    "wide_deep": Entry("Wide & Deep", {"name": "wide_deep"}),
    "dcn": Entry("DCN-V2", {"name": "dcn", "embedding_std": 0.03}),
    "autoint": Entry("AutoInt", {"name": "autoint", "embedding_std": 0.03}),
    "deepfm_histories": Entry(
        "DeepFM, pooled histories", {"name": "deepfm", "dropout": 0.2}, BY_STARS
    ),
    "dcn_histories": Entry(
        "DCN-V2, pooled histories",
        {"name": "dcn", "dropout": 0.2},
        BY_STARS,
    ),
    "mmoe": Entry("MMoE, stars as a second target", {"name": "mmoe"}, also=STARS),
    "mmoe_histories": Entry(
        "MMoE, stars as a second target, pooled histories",
        {"name": "mmoe", "dropout": 0.3},
        BY_STARS,
        train={"embedding_decay": 4e-5, "batch_size": 2048},
        also=STARS,
    ),
    "din": Entry("DIN", {"name": "din", "dropout": 0.2}, BY_TASTE, shared=True),
    "bst": Entry("BST", {"name": "bst", "dropout": 0.2}, BY_TASTE, shared=True),
}
DEEPFM = "deepfm"


def main() -> None:
    """Run what is missing and publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=ENTRIES, default=list(ENTRIES))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--data", choices=("ml-1m", "ml-100k"), default="ml-1m")
    parser.add_argument("--reuse", action="store_true", help="take results of other commits too")
    parser.add_argument("--stored", action="store_true", help="run nothing")
    parser.add_argument("--unpublished", action="store_true", help="train, and leave the page")
    args = parser.parse_args()
    runs = Runs(args.work, args.data, reuse=args.reuse, stored=args.stored)
    for seed in args.seeds:
        for model in args.models:
            for way in args.ways:
                runs.get(model, seed, way)
    if args.data == "ml-1m" and not args.unpublished:
        publish(_result(runs, args.models, args.seeds))


class Runs:
    """What was trained, as JSON lines in a file; trains what is missing.

    Args:
        work: the folder for data and results.
        data: name of the data set.
        reuse: also take what other commits of `isthmus.split` have measured.
        stored: train nothing.
    """

    def __init__(self, work: Path, data: str, *, reuse: bool, stored: bool) -> None:
        self.file = work / "zoo_accuracy" / f"{data}.jsonl"
        self.source = get(data, work / "data")
        self.code, self.reuse, self.stored = code_version(), reuse, stored

    def get(self, model: str, seed: int, way: str) -> dict[str, Any] | None:
        """The newest result, measured now if there is none; None if `stored`."""
        key = _key(model, seed, way)
        for record in reversed(self._records()):
            if record["key"] == key and (self.reuse or record["code"] == self.code):
                return record
        return None if self.stored else self._run(model, seed, way, key)

    def _records(self) -> list[dict[str, Any]]:
        if not self.file.exists():
            return []
        return [json.loads(line) for line in self.file.read_text().splitlines()]

    def _run(self, model: str, seed: int, way: str, key: dict[str, Any]) -> dict[str, Any]:
        began, cpu = time.perf_counter(), time.process_time()
        inputs = inputs_of(self.source, _history_key(ENTRIES[model]), seed)
        record = {"key": key, "code": self.code, **run(spec_of(ENTRIES[model], seed), inputs, way)}
        record["seconds"] = time.perf_counter() - began
        record["cpu_seconds"] = time.process_time() - cpu
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a") as lines:
            lines.write(json.dumps(record) + "\n")
        print(
            f"{time.strftime('%H:%M:%S')} {model} seed {seed} {way}: AUC {record['auc']:.5f} "
            f"at epoch {record['best_epoch']}, {record['seconds']:.0f} s",
            flush=True,
        )
        return record


def spec_of(entry: Entry, seed: int) -> JobSpec:
    """The job that trains `entry`; its tables are never opened."""
    films = FILM_FEATURES | {
        name: {"kind": "sequence", "of": "MovieID", "by": "UserID", "time": "Time", "where": where}
        | {"length": entry.length, **({"share": "MovieID"} if entry.shared else {})}
        for name, where in entry.histories.items()
    }
    options = CHOSEN | {"device": "cpu"} | dict(entry.train)
    text = yaml.safe_dump(
        {
            "isthmus": 1,
            "name": "zoo",
            "seed": seed,
            "parties": {
                FEATURE_PARTY: {"table": "alice.parquet", "features": USER_FEATURES},
                LABEL_PARTY: {"table": "bob.parquet", "features": films},
            },
            "label": {"party": LABEL_PARTY, "expression": "Rating > 3", "also": dict(entry.also)},
            "split": FRACTIONS,
            "train": {"model": MODEL | dict(entry.model), **options},
        }
    )
    return parse_job(text).spec


@dataclass(frozen=True, eq=False)
class Learnt:
    """The targets and their labels."""

    targets: Targets
    labels: np.ndarray


def run(spec: JobSpec, inputs: Inputs, way: str) -> dict[str, Any]:
    """Train one way and score the test rows."""
    rows, test = np.arange(len(inputs.ratings)), inputs.split.test
    targets, labels = labels_of(spec.label, inputs.ratings, rows, inputs.split.train)
    about = Learnt(targets, labels)
    if way == "federation":
        result, found = _federation(spec, inputs, about)
    elif way == "pooled":
        result, found = _in_one_place(spec, inputs, about, LABEL_PARTY, spec.order)
    else:
        result, found = _in_one_place(spec, inputs, about, way, (way,))
    truth, scores = targets.column(labels, 0)[test], targets.scores_of(found)[0]
    return {
        "auc": auc(truth, scores),
        "log_loss": log_loss(truth, scores),
        "valid_auc": [epoch.valid_auc for epoch in result.epochs],
        "train_loss": [epoch.train_loss for epoch in result.epochs],
        "best_epoch": result.best_epoch,
        "samples_per_second": result.samples_per_second,
    }


def _federation(spec: JobSpec, inputs: Inputs, about: Learnt) -> tuple[TrainResult, np.ndarray]:
    options = replace(options_of(spec), threads=1)
    split = inputs.split

    def party(session: Session) -> Any:
        data = data_of(spec, inputs.features[session.me])
        own: dict[str, Any] = {
            "bottom": bottom_of(spec, session, data.features.layout),
            "data": data,
            "options": options,
            "targets": about.targets,
        }
        labels: dict[str, Any] = {}
        if session.is_label_party:
            own["top"] = top_of(spec, session, about.targets.tasks)
            labels = {"labels": about.labels}
        result = train(session, split=split, **own, **labels)
        return result, predict(session, samples=split.test, **own)

    programs = {FEATURE_PARTY: party, LABEL_PARTY: party}
    found: tuple[TrainResult, np.ndarray] = run_parties(
        programs, label_party=LABEL_PARTY, seed=spec.seed
    )[LABEL_PARTY]
    return found


def _in_one_place(
    spec: JobSpec, inputs: Inputs, about: Learnt, me: str, parties: tuple[str, ...]
) -> tuple[TrainResult, np.ndarray]:
    """The network of `parties`, trained by `me` as if the labels were there."""
    options = replace(options_of(spec), threads=1)

    def session_of(party: str) -> Session:
        return Session(me=party, parties=parties, label_party=me, seed=spec.seed)

    data: dict[str, FeatureData] = {p: data_of(spec, inputs.features[p]) for p in parties}
    bottoms = {
        p: bottom
        for p in parties
        if (bottom := bottom_of(spec, session_of(p), data[p].features.layout)) is not None
    }
    top = top_of(spec, session_of(me), about.targets.tasks)
    assert top is not None
    result = train_pooled(
        session_of(me),
        split=inputs.split,
        bottoms=bottoms,
        data=data,
        top=top,
        labels=about.labels,
        options=options,
        targets=about.targets,
    )
    device = options.torch_device()
    parts = {party: Part(bottom, device, data[party]) for party, bottom in bottoms.items()}
    side = LabelSide(Part(top, device), parts, {}, np.empty(0, np.float32), about.targets.loss)
    scores = label_scores(side, inputs.split.test, "test", about.targets, options.score_batch)
    return result, scores


def _history_key(entry: Entry) -> tuple[tuple[str, str, int, bool], ...]:
    return tuple((n, where, entry.length, entry.shared) for n, where in entry.histories.items())


def _key(model: str, seed: int, way: str) -> dict[str, Any]:
    entry = ENTRIES[model]
    about = {"model": MODEL | dict(entry.model), "train": CHOSEN | dict(entry.train)}
    key = {"seed": seed, "way": way, **about, "histories": [list(h) for h in _history_key(entry)]}
    if entry.also:
        key["also"] = dict(entry.also)
    found: dict[str, Any] = json.loads(json.dumps(key))
    return found


def _result(runs: Runs, models: Sequence[str], seeds: Sequence[int]) -> Result:
    found = {
        model: {way: [runs.get(model, seed, way) for seed in seeds] for way in WAYS}
        for model in models
    }
    whole = {
        model: ways
        for model, ways in found.items()
        if all(None not in ways[way] for way in ("federation", "pooled"))
    }
    means = {
        model: {way: _mean(ways[way]) for way in WAYS if None not in ways[way]}
        for model, ways in whole.items()
    }
    farthest = max(
        abs(one["auc"] - other["auc"])
        for ways in whole.values()
        for one, other in zip(_there(ways["federation"]), _there(ways["pooled"]), strict=True)
    )
    best = max(means, key=lambda model: means[model]["federation"])
    return Result(
        name="zoo_accuracy",
        title=TITLE,
        summary=SUMMARY,
        bars=[
            Bar("AUC of the best network", means[best]["federation"], 0.825),
            Bar("AUC of DeepFM", means.get(DEEPFM, means[best])["federation"], 0.818),
            Bar("0.001 over the farthest from pooled", share_of(0.001, farthest), 1),
        ],
        columns=["network", "federation", "of seeds", "pooled", "bob alone", "alice alone", "s"],
        rows=[
            [
                ENTRIES[model].title,
                f"{means[model]['federation']:.4f}",
                _spread(ways["federation"]),
                *(f"{means[model][way]:.4f}" if way in means[model] else "-" for way in WAYS[1:]),
                f"{statistics.mean(r['seconds'] for r in _there(ways['federation'])):.0f}",
            ]
            for model, ways in whole.items()
        ],
        raw={
            "seeds": list(seeds),
            "farthest_from_pooled": farthest,
            "best": best,
            "runs": [
                one for ways in whole.values() for row in ways.values() for one in _there(row)
            ],
        },
        machine=machine_facts(),
        versions=versions("torch", "numpy"),
    )


def _mean(records: Sequence[dict[str, Any] | None]) -> float:
    return statistics.mean(record["auc"] for record in _there(records))


def _there(records: Sequence[dict[str, Any] | None]) -> Iterator[dict[str, Any]]:
    return (record for record in records if record is not None)


def _spread(records: Sequence[dict[str, Any] | None]) -> str:
    values = [record["auc"] for record in _there(records)]
    return f"{min(values):.4f} to {max(values):.4f}"


if __name__ == "__main__":
    main()
