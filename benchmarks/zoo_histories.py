"""What histories are worth on splits by time: DeepFM without and with them pooled, DIN, BST.

MovieLens-1M, each user's last ratings held out (by `Position`: half of its timestamps are missing,
so there is no time common to all users), and MovieLens-100K, the last ratings of all held out (by
`Timestamp`). Two histories, what a user liked and what not, strictly before the rating. They lie at
the label party beside the candidate, where DIN and BST are exact, or at the other party, as `sent`
or as `interests`. All networks are trained in one process, which gives a split run's numbers.

Every run is kept, with its scores; what is there already is not run again.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.environments import WORK
from benchmarks.harness import Bar, Result, machine_facts, publish, versions
from benchmarks.movielens_split import FEATURE_PARTY, LABEL_PARTY
from benchmarks.zoo_inputs import CANDIDATE, encode, read_tables, with_histories
from isthmus.data import Features, Split
from isthmus.data.sources import get
from isthmus.data.time_split import parts_by_time, split_of_parts
from isthmus.metrics import auc, bootstrap_uplift, log_loss
from isthmus.models import DeepFMBottom, DeepFMTop
from isthmus.models.bst import Bst
from isthmus.models.din import Din
from isthmus.models.histories import History, HistoryBottom, HistoryTop, Side, Style
from isthmus.session import Session
from isthmus.split import FeatureData, TrainOptions, train_pooled

NAME = "zoo_histories"
USERS, FILMS = FEATURE_PARTY, LABEL_PARTY
HISTORIES = {"Liked": "Rating > 3", "Disliked": "Rating <= 3"}
DIM, BOTTOM, TOP = 16, (128, 32), (64, 32)
FRACTIONS = (0.8, 0.1, 0.1)
SEEDS = (1, 2, 3)
RESAMPLES = 300


@dataclass(frozen=True)
class Ground:
    """A data set and how it is cut."""

    name: str
    when: str
    per_user: bool
    title: str
    batch_size: int
    epochs: int


GROUNDS = {
    "ml-1m": Ground("ml-1m", "Position", True, "MovieLens-1M, each user's last", 1024, 4),
    "ml-100k": Ground("ml-100k", "Timestamp", False, "MovieLens-100K, the last of all", 256, 8),
}

NETWORKS: dict[str, tuple[str, Style | None]] = {
    "DeepFM, no histories": ("none", None),
    "DeepFM, pooled histories": ("label", None),
    "DIN": ("label", Din(DIM)),
    "BST": ("label", Bst(DIM, dropout=0.1)),
    "BST, linear encoder": ("label", Bst(DIM, dropout=0.1, encoder="linear")),
    "DIN, apart, interests": ("other", Din(DIM)),
    "DIN, apart, sent": ("other", Din(DIM, sent=True)),
    "BST, apart, interests": ("other", Bst(DIM, dropout=0.1)),
    "BST, apart, sent": ("other", Bst(DIM, dropout=0.1, sent=True)),
}
"""Where the histories are, and how they are read; None: as the mean of their items."""


@dataclass(frozen=True)
class Trial:
    """One run; equal trials are run once."""

    ground: str
    network: str
    seed: int
    length: int = 50
    epochs: int = 0
    """0: the ground's own."""
    learning_rate: float = 1e-3
    embedding_learning_rate: float = 4e-3
    dropout: float = 0.1
    embedding_decay: float = 1e-5

    @property
    def key(self) -> str:
        """Names its files."""
        style = NETWORKS[self.network][1]
        told = json.dumps([asdict(self), repr(style)], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()[:16]


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--ground", nargs="+", choices=GROUNDS, default=list(GROUNDS))
    parser.add_argument("--network", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--seed", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--length", type=int, default=50)
    parser.add_argument("--set", nargs="*", default=(), metavar="FIELD=VALUE", help="of a trial")
    parser.add_argument("--publish", action="store_true", help="write the result of what is there")
    given = parser.parse_args()
    torch.set_num_threads(1)
    changed = {k: json.loads(v) for k, v in (text.split("=", 1) for text in given.set)}
    machine, runs = machine_facts(), Runs(given.work)
    for ground in given.ground:
        for seed in given.seed:
            for network in given.network:
                runs.get(Trial(ground, network, seed, given.length, **changed))
    if given.publish:
        trial = functools.partial(Trial, length=given.length, **changed)
        publish(_result(runs, given.ground, given.network, given.seed, trial, machine))


class Runs:
    """The runs that were made: JSON lines, and a file of test scores each."""

    def __init__(self, work: Path) -> None:
        self.folder, self.data = work / NAME, work / "data"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.file = self.folder / "runs.jsonl"

    def get(self, trial: Trial) -> dict[str, Any]:
        """The record of `trial`, made now if there is none."""
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        for record in map(json.loads, lines):
            if record["key"] == trial.key and self.scores_file(trial).exists():
                found: dict[str, Any] = record
                return found
        scores, record = run(trial, self.data)
        record = {"key": trial.key, "trial": asdict(trial), **record}
        np.save(self.scores_file(trial), scores)
        with self.file.open("a") as out:
            out.write(json.dumps(record) + "\n")
        said = f"AUC {record['auc']:.5f}, valid {max(record['valid_auc']):.5f}"
        print(
            f"{time.strftime('%H:%M:%S')} {trial.ground} {trial.network} seed {trial.seed}: {said} "
            f"at epoch {record['best_epoch']}, {record['cpu_seconds']:.0f} s",
            flush=True,
        )
        return record

    def scores_file(self, trial: Trial) -> Path:
        """Probabilities of the test samples, float64."""
        return self.folder / f"{trial.key}.npy"


def run(trial: Trial, data: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Train once; score the test rows with the epoch that was best on the validation rows."""
    ground = GROUNDS[trial.ground]
    inputs = _inputs(trial.ground, data, trial.length)
    features = inputs.features(trial.network)
    began = time.process_time()
    bottoms, top = _network(trial, features)
    options = TrainOptions(
        batch_size=ground.batch_size,
        epochs=trial.epochs or ground.epochs,
        learning_rate=trial.learning_rate,
        embedding_learning_rate=trial.embedding_learning_rate,
        weight_decay=1e-5,
        embedding_decay=trial.embedding_decay,
        decay="linear",
        patience=0,
        device="cpu",
        threads=1,
        score_batch=1024,
    )
    feeds = {party: FeatureData(one) for party, one in features.items()}
    session = Session(me=FILMS, parties=(USERS, FILMS), label_party=FILMS, seed=trial.seed)
    result = train_pooled(
        session,
        split=inputs.split,
        bottoms=bottoms,
        data=feeds,
        top=top,
        labels=inputs.labels,
        options=options,
    )
    scores = _scores(bottoms, top, feeds, inputs.split.test)
    truth = inputs.labels[inputs.split.test]
    return scores, {
        "auc": auc(truth, scores),
        "log_loss": log_loss(truth, scores),
        "valid_auc": [epoch.valid_auc for epoch in result.epochs],
        "best_epoch": result.best_epoch,
        "samples_per_second": result.samples_per_second,
        "cpu_seconds": time.process_time() - began,
    }


def _network(
    trial: Trial, features: Mapping[str, Features]
) -> tuple[dict[str, nn.Module], nn.Module]:
    place, style = NETWORKS[trial.network]
    sides = _sides(place, trial.length)
    seeds = {
        party: Session(
            me=party, parties=(USERS, FILMS), label_party=FILMS, seed=trial.seed
        ).seed_for("bottom")
        for party in features
    }
    widths = dict.fromkeys(features, BOTTOM[-1])
    shared = {"dropout": trial.dropout}
    if style is None:
        bottoms: dict[str, nn.Module] = {
            party: DeepFMBottom(
                one.layout, dim=DIM, hidden=BOTTOM, embedding_std=0.003, seed=seeds[party], **shared
            )
            for party, one in features.items()
        }
        return bottoms, DeepFMTop(widths, dim=DIM, hidden=TOP, seed=trial.seed, **shared)
    bottoms = {
        party: HistoryBottom(
            one.layout,
            sides[party],
            style,
            hidden=BOTTOM,
            embedding_std=0.003,
            seed=seeds[party],
            **shared,
        )
        for party, one in features.items()
    }
    return bottoms, HistoryTop(widths, sides, style, hidden=TOP, seed=trial.seed, **shared)


def _sides(place: str, length: int) -> dict[str, Side]:
    near = tuple(History(name, length, CANDIDATE) for name in HISTORIES)
    far = tuple(History(name, length) for name in HISTORIES)
    if place == "label":
        return {USERS: Side(), FILMS: Side(near)}
    return {USERS: Side(far), FILMS: Side(offers=CANDIDATE)}


@torch.no_grad()
def _scores(
    bottoms: Mapping[str, nn.Module],
    top: nn.Module,
    feeds: Mapping[str, FeatureData],
    samples: np.ndarray,
) -> np.ndarray:
    for module in (*bottoms.values(), top):
        module.eval()
    parts = []
    for start in range(0, len(samples), 1024):
        rows = samples[start : start + 1024].astype(np.int64)
        cuts = {p: bottoms[p](feed.batch(rows, backward=False)) for p, feed in feeds.items()}
        parts.append(torch.sigmoid(top(cuts).double()).numpy())
    return np.concatenate(parts)


@dataclass(frozen=True, eq=False)
class _Inputs:
    """Both parties' encoded columns, without histories and with them at either party."""

    plain: Mapping[str, Features]
    near: Features
    """The label party's, with histories that share the candidate's rows."""
    far: Features
    """The other party's, with histories of a vocabulary of their own."""
    labels: np.ndarray
    split: Split

    def features(self, network: str) -> dict[str, Features]:
        place, style = NETWORKS[network]
        found = dict(self.plain)
        if place == "label":
            found[FILMS] = self.near
        if place == "other":
            found[USERS] = self.far
        if style is None:
            found = {p: one.with_layout(one.layout.pooled()) for p, one in found.items()}
        return found


@functools.lru_cache(maxsize=1)
def _inputs(name: str, data: Path, length: int) -> _Inputs:
    ground, tables = GROUNDS[name], read_tables(get(name, data))
    events = tables.events
    when = events[ground.when].to_numpy().astype(np.float64)
    parts = parts_by_time(when, FRACTIONS, tables.rows if ground.per_user else None)
    split = split_of_parts(parts)
    encoded = encode(tables, split)
    near, far = (
        with_histories(
            encoded[party],
            events,
            [(name, where, length, party == FILMS) for name, where in HISTORIES.items()],
            split,
            time=ground.when,
        )
        for party in (FILMS, USERS)
    )
    labels = (events["Rating"].to_numpy() > 3).astype(np.float32)
    return _Inputs({p: one.features for p, one in encoded.items()}, near, far, labels, split)


def _result(
    runs: Runs,
    grounds: Sequence[str],
    networks: Sequence[str],
    seeds: Sequence[int],
    trial: Any,
    machine: Mapping[str, Any],
) -> Result:
    rows, raw, bars = [], {}, []
    without, pooled, *_ = NETWORKS
    for ground in grounds:
        inputs = _inputs(ground, runs.data, trial(ground, without, seeds[0]).length)
        truth = inputs.labels[inputs.split.test]
        for network in networks:
            records = [runs.get(trial(ground, network, seed)) for seed in seeds]
            gains = {
                rival: [
                    bootstrap_uplift(
                        truth,
                        np.load(runs.scores_file(trial(ground, network, seed))),
                        np.load(runs.scores_file(trial(ground, rival, seed))),
                        seed=seed,
                        resamples=RESAMPLES,
                    )
                    for seed in seeds
                ]
                for rival in (without, pooled)
                if network != rival and rival in networks
            }
            aucs = [record["auc"] for record in records]
            rows.append(
                [
                    GROUNDS[ground].title,
                    network,
                    f"{np.mean(aucs):.4f}",
                    *(_range(gains.get(rival, ())) for rival in (without, pooled)),
                    f"{np.mean([record['samples_per_second'] for record in records]):,.0f}",
                ]
            )
            raw[f"{ground}: {network}"] = {
                "auc": aucs,
                "log_loss": [record["log_loss"] for record in records],
                "valid_auc": [record["valid_auc"] for record in records],
                "gains": {rival: [asdict(one) for one in found] for rival, found in gains.items()},
            }
            if network in ("DIN", "BST") and without in gains:
                low = min(one.low for one in gains[without])
                title = GROUNDS[ground].title
                bars.append(Bar(f"{network} above DeepFM without histories, {title}", low, 0.0))
    return Result(
        name=NAME,
        title="Histories on splits by time",
        summary=(
            f"Test AUC, mean of {len(seeds)} seeds of the initial values and batches; two "
            "histories (Rating > 3, Rating <= 3) of the last "
            f"{trial(grounds[0], without, 1).length} films before the rating. Gains: lowest and "
            "highest end of the seeds' paired 95 % bootstrap intervals. The same options for all."
        ),
        bars=bars,
        columns=[
            "held out",
            "network",
            "AUC",
            "gain over no histories",
            "gain over pooled ones",
            "samples/s",
        ],
        rows=rows,
        raw=raw,
        machine=machine,
        versions=versions("torch", "numpy", "polars"),
    )


def _range(gains: Sequence[Any]) -> str:
    if not gains:
        return ""
    return f"{min(g.low for g in gains):+.4f} to {max(g.high for g in gains):+.4f}"


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
