"""MovieLens as two parties' tables, and a job on them run as two processes over TLS."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from benchmarks.process_tree import TreeUsage, measure
from isthmus.data.sources import get

FEATURE_PARTY, LABEL_PARTY = "alice", "bob"
USER_COLUMNS = ("UserID", "Gender", "Age", "Occupation")
FILM_COLUMNS = ("MovieID", "Genres")


def ratings(folder: Path, name: str = "ml-100k") -> pl.DataFrame:
    """All ratings with their users' and films' columns and an `ID`; kept in `folder`."""
    source = get(name, folder)
    users, films = (pl.read_parquet(source / f"{name}.parquet") for name in ("users", "movies"))
    table = pl.read_parquet(source / "ratings.parquet").join(users, on="UserID", how="left")
    return table.join(films, on="MovieID", how="left").with_row_index("ID")


def write_parties(table: pl.DataFrame, folder: Path) -> dict[str, Path]:
    """Each party's table as Parquet, the two in different row orders."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {party: folder / f"{party}.parquet" for party in (FEATURE_PARTY, LABEL_PARTY)}
    columns = {
        FEATURE_PARTY: [*USER_COLUMNS, "Zip-code"],
        LABEL_PARTY: [*FILM_COLUMNS, "Title", "Timestamp", "Rating"],
    }
    for seed, (party, path) in enumerate(paths.items()):
        rows = table.select("ID", *columns[party]).sample(fraction=1.0, shuffle=True, seed=seed)
        rows.write_parquet(path)
    return paths


@dataclass(frozen=True)
class FinishedRun:
    """The artefacts of one job, and what it took."""

    folder: Path
    usage: TreeUsage

    def report(self, party: str) -> dict[str, Any]:
        """The party's report.json."""
        found: dict[str, Any] = json.loads((self.folder / party / "report.json").read_text())
        return found

    def predictions(self) -> pl.DataFrame:
        """The label party's predictions."""
        return pl.read_parquet(self.folder / LABEL_PARTY / "predict" / "predictions.parquet")

    def epoch_seconds(self) -> list[float]:
        """Seconds of each epoch, the slower party's, validation left out."""
        curves = [self.report(party)["training"]["curve"] for party in (FEATURE_PARTY, LABEL_PARTY)]
        return [max(epoch["seconds"] for epoch in epochs) for epochs in zip(*curves, strict=True)]


def run_job(job: Mapping[str, Any], folder: Path, *options: str) -> FinishedRun:
    """Run `isthmus run` on a job in a fresh `folder`; both parties' processes are measured."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(dict(job), sort_keys=False))
    out = folder / "runs"
    command = [sys.executable, "-m", "isthmus", "run", str(path), "--out", str(out), *options]
    usage = measure([command], log=folder / "log", every=0.2)
    (run,) = (entry for entry in out.iterdir() if (entry / LABEL_PARTY).is_dir())
    return FinishedRun(run, usage)
