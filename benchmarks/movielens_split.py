"""One training of the demo's split DeepFM on MovieLens-1M, in one process, measured and kept.

For questions of accuracy and of bytes, which do not depend on how fast the machine is: two parties
as threads over in-memory links, whose messages are encoded and counted as on a network.
"""

from __future__ import annotations

import argparse
import functools
import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import isthmus
from benchmarks.environments import WORK
from isthmus.data import Features, Split, fit_encoder, split_samples
from isthmus.data.sources import get
from isthmus.link import Link
from isthmus.metrics import auc, log_loss
from isthmus.models import DeepFMBottom, DeepFMTop
from isthmus.session import Session, Task, run_parties
from isthmus.split import FeatureData, TrainOptions, predict, train

FEATURE_PARTY, LABEL_PARTY = "alice", "bob"
DIM, BOTTOM, TOP = 16, (128, 32), (64, 32)
CUT_WIDTH = BOTTOM[-1] + DIM + 1
"""Numbers a sample that cross the cut each way."""
FLOAT_BYTES = 4 * CUT_WIDTH
USER_FEATURES: dict[str, Any] = {
    "UserID": "categorical",
    "Gender": "categorical",
    "Age": "categorical",
    "Occupation": "categorical",
    "Zip-code": {"kind": "categorical", "min_count": 3},
}
FILM_FEATURES: dict[str, Any] = {
    "MovieID": "categorical",
    "Genres": {"kind": "multi_hot", "separator": "|"},
}
FRACTIONS = (0.8, 0.1, 0.1)
CHOSEN: dict[str, Any] = {
    "batch_size": 1024,
    "epochs": 5,
    "learning_rate": 2e-3,
    "embedding_learning_rate": 8e-3,
    "weight_decay": 1e-5,
    "embedding_decay": 1e-5,
    "decay": "linear",
    "patience": 0,
}
"""Chosen once under `exact` on validation rows, and kept for all schedules and guards."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What one run is asked to do; equal trials of equal code are run once."""

    seed: int
    """Of the split, the initial values and the order of the batches."""
    schedule: str = "exact"
    cut_guard: str = "none"
    gradient_guard: str = "none"
    changed: Mapping[str, Any] = field(default_factory=dict)
    """Options of `TrainOptions` other than those of `CHOSEN`, and `dropout`."""

    def options(self) -> TrainOptions:
        """What the parties are given."""
        values = {k: v for k, v in (CHOSEN | dict(self.changed)).items() if k != "dropout"}
        return TrainOptions(
            schedule=self.schedule,
            cut_guard=self.cut_guard,
            gradient_guard=self.gradient_guard,
            device="cpu",
            threads=1,
            **values,
        )

    def key(self) -> dict[str, Any]:
        """What tells it from other trials, as JSON."""
        return {
            "schedule": self.schedule,
            "cut_guard": self.cut_guard,
            "gradient_guard": self.gradient_guard,
            "seed": self.seed,
            "options": CHOSEN | dict(self.changed),
        }


class Runs:
    """The trials that were run, as JSON lines in a file; runs those that are missing.

    Args:
        work: the folder for data and results.
        reuse: also take what other commits of `isthmus.split` have measured.
        stored: run nothing.
    """

    def __init__(self, work: Path, *, reuse: bool = False, stored: bool = False) -> None:
        self.file, self.data = work / "movielens_split" / "runs.jsonl", work / "data"
        self.code, self.reuse, self.stored = code_version(), reuse, stored

    def get(self, trial: Trial) -> dict[str, Any] | None:
        """The newest result of `trial`, measured now if there is none; None if `stored`."""
        return self.known(trial) or (None if self.stored else self._run(trial))

    def known(self, trial: Trial) -> dict[str, Any] | None:
        """The newest result of `trial`, if there is one."""
        key = _plain(trial.key())
        for record in reversed(self._records()):
            if record["trial"] == key and (self.reuse or record["code"] == self.code):
                return record
        return None

    def _records(self) -> list[dict[str, Any]]:
        if not self.file.exists():
            return []
        return [json.loads(line) for line in self.file.read_text().splitlines()]

    def _run(self, trial: Trial) -> dict[str, Any]:
        record = _plain({"trial": trial.key(), "code": self.code, **run(trial, self.data)})
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a") as lines:
            lines.write(json.dumps(record) + "\n")
        print(
            f"{time.strftime('%H:%M:%S')} {trial.schedule} {trial.cut_guard} "
            f"{trial.gradient_guard} seed {trial.seed} {dict(trial.changed) or ''}: AUC "
            f"{record['auc']:.5f} at epoch {record['best_epoch']}, {record['seconds']:.0f} s",
            flush=True,
        )
        return record


def arguments(description: str) -> argparse.ArgumentParser:
    """The options that both accuracy benchmarks have."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--reuse", action="store_true", help="take results of other commits too")
    parser.add_argument("--stored", action="store_true", help="publish what is there, run nothing")
    return parser


def brief(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a result keeps of a run."""
    kept = {key: value for key, value in record.items() if key not in ("trial", "train_loss")}
    return kept | {
        "changed": {k: v for k, v in record["trial"]["options"].items() if CHOSEN.get(k) != v}
    }


def share_of(limit: float, value: float) -> float:
    """`limit / value`, kept finite where the value is (next to) nothing."""
    return limit / max(value, limit / 1000)


def run(trial: Trial, data: Path) -> dict[str, Any]:
    """Train once and score the test rows with the epoch that was best on the validation rows."""
    inputs = _inputs(data, trial.seed)
    options, dropout = trial.options(), float(trial.changed.get("dropout", 0.0))
    began, cpu = time.perf_counter(), time.process_time()
    meter = _Epochs()

    def feature_party(session: Session) -> None:
        data = FeatureData(inputs.features[session.me])
        bottom = _bottom(session, data.features, dropout)
        train(session, split=inputs.split, bottom=bottom, data=data, options=options)
        predict(session, samples=inputs.split.test, bottom=bottom, data=data, options=options)

    def label_party(session: Session) -> dict[str, Any]:
        meter.link = session.link(FEATURE_PARTY)
        data = FeatureData(inputs.features[session.me])
        bottom = _bottom(session, data.features, dropout)
        widths = dict.fromkeys(session.parties, BOTTOM[-1])
        top = DeepFMTop(widths, dim=DIM, hidden=TOP, dropout=dropout, seed=session.seed_for("top"))
        result = train(
            replace(session, progress=meter),
            split=inputs.split,
            bottom=bottom,
            data=data,
            top=top,
            labels=inputs.labels,
            options=options,
        )
        test = inputs.split.test
        scores = predict(session, samples=test, bottom=bottom, data=data, top=top, options=options)
        assert scores is not None
        truth = inputs.labels[test]
        return {
            "auc": auc(truth, scores),
            "log_loss": log_loss(truth, scores),
            "valid_auc": [epoch.valid_auc for epoch in result.epochs],
            "train_loss": [epoch.train_loss for epoch in result.epochs],
            "best_epoch": result.best_epoch,
            "epochs": len(result.epochs),
            "steps": result.steps,
            "samples": sum(epoch.samples for epoch in result.epochs),
            "training_seconds": result.seconds,
            "samples_per_second": result.samples_per_second,
        }

    programs = {FEATURE_PARTY: feature_party, LABEL_PARTY: label_party}
    found: dict[str, Any] = run_parties(programs, label_party=LABEL_PARTY, seed=trial.seed)[
        LABEL_PARTY
    ]
    spent = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu}
    return found | {"forward": meter.received, "back": meter.sent, "said": meter.said} | spent


def code_version() -> str:
    """The last commit of `isthmus.split`, with a plus if its files were changed since."""
    folder = Path(isthmus.__file__).parent / "split"

    def git(*words: str) -> str:
        command = ["git", "-C", str(folder), *words, "--", "."]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    return git("log", "-1", "--format=%h") + ("+" if git("status", "--porcelain") else "")


class _Epochs:
    """A progress of the label party that reads the link's meter at the end of each epoch."""

    def __init__(self) -> None:
        self.link: Link | None = None
        self.received: list[int] = []
        """Bytes of cut tensors for training, up to the end of each epoch."""
        self.sent: list[int] = []
        """The same for gradients."""
        self.said: list[str] = []

    @contextmanager
    def task(self, name: str, total: int | None = None) -> Iterator[Task]:
        """See `Progress.task`."""
        del name, total
        yield self

    def advance(self, amount: int = 1) -> None:
        """See `Task.advance`."""

    def note(self, text: str) -> None:
        """See `Task.note`."""
        assert self.link is not None
        topics = self.link.meter.snapshot()
        self.received.append(topics["train.cut"].received_bytes)
        self.sent.append(topics["train.gradient"].sent_bytes)

    def say(self, text: str) -> None:
        """See `Progress.say`."""
        self.said.append(text)


@dataclass(frozen=True, eq=False)
class _Inputs:
    features: Mapping[str, Features]
    labels: np.ndarray
    split: Split


@functools.lru_cache(maxsize=1)
def _inputs(data: Path, seed: int) -> _Inputs:
    """Both parties' encoded columns; the encoders are fitted on the seed's training rows."""
    source = get("ml-1m", data)
    users, films, ratings = (
        pl.read_parquet(source / f"{name}.parquet") for name in ("users", "movies", "ratings")
    )
    events = ratings.join(films, on="MovieID", how="left", maintain_order="left")
    numbered = users.select("UserID").with_row_index("row")
    joined = events.join(numbered, on="UserID", how="left", maintain_order="left")
    rows = joined["row"].to_numpy().astype(np.int64)
    split = split_samples(len(events), seed, FRACTIONS)
    user_encoder = fit_encoder(users, USER_FEATURES, np.unique(rows[split.train]))
    film_encoder = fit_encoder(events, FILM_FEATURES, split.train)
    return _Inputs(
        {
            FEATURE_PARTY: user_encoder.encode(users).with_rows(rows),
            LABEL_PARTY: film_encoder.encode(events),
        },
        (events["Rating"].to_numpy() > 3).astype(np.float32),
        split,
    )


def _bottom(session: Session, features: Features, dropout: float) -> DeepFMBottom:
    return DeepFMBottom(
        features.layout,
        dim=DIM,
        hidden=BOTTOM,
        dropout=dropout,
        embedding_std=0.003,
        seed=session.seed_for("bottom"),
    )


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))
