"""MovieLens with histories as a job that parties can run: tables, and a job file over them.

`python -m benchmarks.zoo_data FOLDER --data ml-100k --model din` writes them; `isthmus run` on the
job file trains it. Alice has a row a user, bob a row a rating; alice can have a history of her own,
which is then a table of events of films that were watched, without how they were liked.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Literal

import polars as pl
import yaml

from benchmarks.zoo_inputs import time_of
from isthmus.data.sources import get

Cut = Literal["random", "time"]

HISTORY = {"kind": "sequence", "by": "UserID", "length": 50}


def write_job(
    folder: Path,
    source: Path,
    *,
    model: dict[str, Any],
    cut: Cut = "time",
    at_alice: bool = False,
    epochs: int = 3,
) -> Path:
    """Write both parties' tables and `job.yaml` into `folder`.

    Args:
        folder: where to.
        source: the canonical tables of a MovieLens data set.
        model: `train.model` of the job.
        cut: of the samples; by time it is each user's last ratings that are held out.
        at_alice: a history of what was watched at alice; else two at bob, liked and disliked.
            Alice's table of events holds all ratings' films, so that it goes with a cut by time.
        epochs: at most.

    Returns:
        The job file.
    """
    tables = {name: pl.read_parquet(source / f"{name}.parquet") for name in ("users", "movies")}
    ratings = pl.read_parquet(source / "ratings.parquet")
    time = time_of(ratings)
    films = tables["movies"].select("MovieID", "Genres")
    events = ratings.join(films, on="MovieID", how="left", maintain_order="left")
    for party in ("alice", "bob"):
        (folder / party).mkdir(parents=True, exist_ok=True)
    tables["users"].write_parquet(folder / "alice" / "users.parquet")
    events.write_parquet(folder / "bob" / "ratings.parquet")
    if at_alice:
        watched = ratings.select("UserID", "MovieID", time)
        watched.write_parquet(folder / "alice" / "watched.parquet")
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job_of(model, cut, time, at_alice, epochs), sort_keys=False))
    return path


def job_of(
    model: dict[str, Any], cut: Cut, time: str, at_alice: bool, epochs: int
) -> dict[str, Any]:
    """The job as what stands in its file."""
    people: dict[str, Any] = dict.fromkeys(("UserID", "Gender", "Occupation"), "categorical")
    people["Age"] = "numeric"
    films: dict[str, Any] = {
        "MovieID": "categorical",
        "Genres": {"kind": "multi_hot", "separator": "|"},
    }
    history = {**HISTORY, "of": "MovieID", "time": time}
    if at_alice:
        people["Watched"] = {**history, "events": "alice/watched.parquet"}
    else:
        for name, where in (("Liked", "Rating > 3"), ("Disliked", "Rating <= 3")):
            films[name] = {**history, "where": where, "share": "MovieID"}
    split: dict[str, Any] = {"train": 0.8, "valid": 0.1, "test": 0.1}
    if cut == "time":
        split = {"by": "time", "per": "UserID", **split}
    label = {"party": "bob", "expression": "Rating > 3", "time": time, "share_time": at_alice}
    return {
        "isthmus": 1,
        "name": "movielens-histories",
        "seed": 1,
        "parties": {
            "alice": {"table": "alice/users.parquet", "features": people},
            "bob": {"table": "bob/ratings.parquet", "features": films},
        },
        "label": label,
        "align": {"key": "UserID", "keys": "entity"},
        "split": split,
        "train": {"model": model, "epochs": epochs, "learning_rate": 0.002},
        "evaluate": {"pooled": True, "resamples": 100},
    }


def main() -> None:
    """Write a job."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", default="ml-100k")
    parser.add_argument("--model", default="deepfm")
    parser.add_argument("--cut", choices=("random", "time"), default="time")
    parser.add_argument("--at-alice", action="store_true")
    parser.add_argument("--epochs", type=int, default=3)
    given = parser.parse_args()
    model: dict[str, Any] = {"name": given.model}
    if given.model in ("din", "bst"):
        model["attention"] = {"candidate": "MovieID"}
    path = write_job(
        given.folder,
        get(given.data),
        model=model,
        cut=given.cut,
        at_alice=given.at_alice,
        epochs=given.epochs,
    )
    print(path)


if __name__ == "__main__":
    main()
