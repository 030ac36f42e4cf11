"""MMoE on two targets of MovieLens against the same network on each, and split against pooled.

make bench NAME=zoo_tasks
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml
from safetensors.numpy import load_file, save_file

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
from isthmus.jobs.spec import JobSpec
from isthmus.jobs.training import bottom_of, data_of, options_of, top_of
from isthmus.metrics import Uplift, auc, bootstrap_uplift
from isthmus.session import Session, run_parties
from isthmus.split import Target, Targets, predict, train, train_pooled
from isthmus.split.scoring import label_scores
from isthmus.split.sides import LabelSide, Part

SEEDS = (1, 2, 3)
TARGETS = ("like", "top")
MODEL = {
    "name": "mmoe",
    "dim": 16,
    "bottom": [128, 32],
    "top": [64, 32],
    "embedding_std": 0.003,
    "experts": {"bottom": 2, "shared": 2, "width": 32},
}
BOTTOM_SHARED = {"bottom": 0, "shared": 1, "width": 32}
CGC = {"bottom": 2, "shared": 1, "own": 1, "width": 32}
PLE = CGC | {"levels": 2}
RUNS = {
    "both": (TARGETS, True, {}),
    "both_pooled": (TARGETS, False, {}),
    "like": (("like",), False, {}),
    "top": (("top",), False, {}),
    "shared_bottom": (TARGETS, False, BOTTOM_SHARED),
    "cgc": (TARGETS, False, CGC),
    "ple": (TARGETS, False, PLE),
}
"""Which targets, whether split, and other experts than those of `MODEL`."""
OTHERS = {"shared_bottom": "shared bottom", "cgc": "own experts", "ple": "own, two levels"}
"""Both targets with other experts, in one place, and the heads of their columns."""
TITLE = "Two targets in one MMoE against a network for each"
SUMMARY = """\
All ratings of MovieLens, a random cut of 80/10/10 for each seed. alice has the people's columns,
bob the films' and the ratings. Targets: Rating > 3 and Rating = 5, weighed alike. One target: the
same network, experts, gate and tower, with that target alone, trained in one place. Shared bottom:
one expert, at the label party, in place of all. Own experts: of the two experts there one is
shared, and each target has one of its own (CGC); two levels: the same twice (PLE). All epochs are
run, and the one with the best validation loss is scored on the test rows. Intervals: paired
bootstrap over test rows, 95%."""


def main() -> None:
    """Run what is missing and publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--data", choices=("ml-1m", "ml-100k"), default="ml-1m")
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--stored", action="store_true", help="run nothing")
    args = parser.parse_args()
    runs = Runs(args.work, args.data, stored=args.stored)
    found = {name: [runs.get(name, seed) for seed in args.seeds] for name in args.runs}
    if set(RUNS) == set(found) and all(None not in row for row in found.values()):
        whole = {name: [one for one in row if one is not None] for name, row in found.items()}
        publish(_result(runs, whole, args.data, args.seeds))


class Runs:
    """What was trained: JSON lines in a file, and the scores of the test rows beside it.

    Args:
        work: the folder for data and results.
        data: name of the data set.
        stored: train nothing.
    """

    def __init__(self, work: Path, data: str, *, stored: bool) -> None:
        self.folder, self.stored = work / "zoo_tasks" / data, stored
        self.source, self.code = get(data, work / "data"), code_version()

    def get(self, name: str, seed: int) -> dict[str, Any] | None:
        """The newest result, measured now if there is none; None if `stored`."""
        file, key = self.folder / "runs.jsonl", _key(name, seed)
        lines = file.read_text().splitlines() if file.exists() else []
        for record in reversed([json.loads(line) for line in lines]):
            if record["key"] == key:
                found: dict[str, Any] = record
                return found
        if self.stored:
            return None
        began = time.perf_counter()
        figures, scores = run(name, inputs_of(self.source, (), seed), self.labels(), seed)
        record = {"key": key, "code": self.code, **figures}
        record["seconds"] = time.perf_counter() - began
        self.folder.mkdir(parents=True, exist_ok=True)
        save_file(scores, self.scores_file(name, seed))
        with file.open("a") as out:
            out.write(json.dumps(record) + "\n")
        print(f"{time.strftime('%H:%M:%S')} {name} seed {seed}: {record['auc']}", flush=True)
        return record

    def scores(self, name: str, seed: int) -> dict[str, np.ndarray]:
        """The test rows' scores by target, and their labels."""
        return load_file(self.scores_file(name, seed))

    def scores_file(self, name: str, seed: int) -> Path:
        """Where they are."""
        return self.folder / f"{name}-{seed}.safetensors"

    def labels(self) -> dict[str, np.ndarray]:
        """Both targets of all rows, float32 [samples]."""
        rating = pl.read_parquet(self.source / "ratings.parquet")["Rating"].to_numpy()
        return {"like": (rating > 3).astype(np.float32), "top": (rating == 5).astype(np.float32)}


def run(
    name: str, inputs: Inputs, labels: Mapping[str, np.ndarray], seed: int
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Train once and score the test rows: AUC by target, and the scores with their labels."""
    wanted, split, experts = RUNS[name]
    targets = Targets(tuple(Target(one) for one in wanted))
    columns = [labels[one] for one in wanted]
    truth = columns[0] if targets.plain else np.stack(columns, axis=1)
    spec = _spec(seed, experts)
    train_one = _federation if split else _in_one_place
    scores = targets.scores_of(train_one(spec, inputs, truth, targets))
    test = inputs.split.test
    made = {one: np.ascontiguousarray(part) for one, part in zip(wanted, scores, strict=True)}
    figures = {one: auc(labels[one][test], made[one]) for one in wanted}
    return {"auc": figures}, made | {f"label_{one}": labels[one][test] for one in TARGETS}


def _spec(seed: int, experts: Mapping[str, int]) -> JobSpec:
    text = {
        "isthmus": 1,
        "name": "tasks",
        "seed": seed,
        "parties": {
            FEATURE_PARTY: {"table": "alice.parquet", "features": USER_FEATURES},
            LABEL_PARTY: {"table": "bob.parquet", "features": FILM_FEATURES},
        },
        "label": {"party": LABEL_PARTY, "expression": "Rating > 3"},
        "split": FRACTIONS,
        "train": {
            "model": MODEL | ({"experts": dict(experts)} if experts else {}),
            **(CHOSEN | {"device": "cpu", "metric": "loss"}),
        },
    }
    return parse_job(yaml.safe_dump(text)).spec


def _federation(spec: JobSpec, inputs: Inputs, labels: np.ndarray, targets: Targets) -> np.ndarray:
    options, split = replace(options_of(spec), threads=1), inputs.split

    def party(session: Session) -> Any:
        data = data_of(spec, inputs.features[session.me])
        own: dict[str, Any] = {
            "bottom": bottom_of(spec, session, data.features.layout),
            "data": data,
            "options": options,
        }
        label: dict[str, Any] = {}
        if session.is_label_party:
            own |= {"top": top_of(spec, session, targets.tasks), "targets": targets}
            label = {"labels": labels}
        train(session, split=split, **own, **label)
        return predict(session, samples=split.test, **own)

    programs = {FEATURE_PARTY: party, LABEL_PARTY: party}
    found: np.ndarray = run_parties(programs, label_party=LABEL_PARTY, seed=spec.seed)[LABEL_PARTY]
    return found


def _in_one_place(
    spec: JobSpec, inputs: Inputs, labels: np.ndarray, targets: Targets
) -> np.ndarray:
    options = replace(options_of(spec), threads=1)
    sessions = {
        party: Session(me=party, parties=spec.order, label_party=LABEL_PARTY, seed=spec.seed)
        for party in spec.order
    }
    data = {party: data_of(spec, inputs.features[party]) for party in spec.order}
    bottoms = {
        party: bottom
        for party in spec.order
        if (bottom := bottom_of(spec, sessions[party], data[party].features.layout)) is not None
    }
    top = top_of(spec, sessions[LABEL_PARTY], targets.tasks)
    assert top is not None
    train_pooled(
        sessions[LABEL_PARTY],
        split=inputs.split,
        bottoms=bottoms,
        data=data,
        top=top,
        labels=labels,
        targets=targets,
        options=options,
    )
    device = options.torch_device()
    parts = {party: Part(bottom, device, data[party]) for party, bottom in bottoms.items()}
    side = LabelSide(Part(top, device), parts, {}, np.empty(0, np.float32), targets.loss)
    return label_scores(side, inputs.split.test, "test", targets, options.score_batch)


def _key(name: str, seed: int) -> dict[str, Any]:
    wanted, split, experts = RUNS[name]
    model = MODEL | ({"experts": dict(experts)} if experts else {})
    key = {"seed": seed, "targets": wanted, "split": split, "model": model, "train": CHOSEN}
    found: dict[str, Any] = json.loads(json.dumps(key))
    return found


def _gain(runs: Runs, seed: int, target: str) -> Uplift:
    """What two targets in one network gain over one alone, on one target."""
    both, alone = runs.scores("both", seed), runs.scores(target, seed)
    label = both[f"label_{target}"]
    return bootstrap_uplift(label, both[target], alone[target], seed=seed, resamples=200)


def _result(
    runs: Runs, found: Mapping[str, Sequence[dict[str, Any]]], data: str, seeds: Sequence[int]
) -> Result:
    farthest = max(
        abs(one["auc"][target] - other["auc"][target])
        for one, other in zip(found["both"], found["both_pooled"], strict=True)
        for target in TARGETS
    )
    gains = {target: [_gain(runs, seed, target) for seed in seeds] for target in TARGETS}
    worst = {target: statistics.mean(gain.high for gain in gains[target]) for target in TARGETS}

    def mean(name: str, target: str) -> str:
        return f"{statistics.mean(one['auc'][target] for one in found[name]):.4f}"

    def interval(target: str) -> str:
        ends = ", ".join(f"{one.low:+.4f} to {one.high:+.4f}" for one in gains[target])
        return f"{statistics.mean(one.mean for one in gains[target]):+.4f} ({ends})"

    return Result(
        name="zoo_tasks",
        title=TITLE,
        summary=f"Data: {data}. {SUMMARY}",
        bars=[
            Bar("0.001 over the farthest from pooled", share_of(0.001, farthest), 1),
            *(
                Bar(f"{target}: upper end of the gain over one target", worst[target], 0)
                for target in TARGETS
            ),
        ],
        columns=["target", "both, split", "both, pooled", "one target", "gain", *OTHERS.values()],
        rows=[
            [
                target,
                *(mean(name, target) for name in ("both", "both_pooled", target)),
                interval(target),
                *(mean(name, target) for name in OTHERS),
            ]
            for target in TARGETS
        ],
        raw={"data": data, "farthest_from_pooled": farthest, "runs": dict(found)},
        machine=machine_facts(),
        versions=versions("torch", "numpy"),
    )


if __name__ == "__main__":
    main()
