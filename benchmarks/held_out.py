"""Every network of the zoo, as job files, on public data sets other than MovieLens.

    make bench NAME=held_out
    make bench NAME=held_out ARGS='--sets vfl_breast --seeds 1 --unpublished'

What was run is kept under the work folder and not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml

from benchmarks.environments import WORK
from benchmarks.harness import Bar, Result, machine_facts, publish, versions
from benchmarks.held_out_sets import GUEST, HOST, KEY, SETS, HeldOut, read
from benchmarks.movielens_split import share_of
from isthmus.errors import IsthmusError
from isthmus.jobs.artefacts import PartyFolder
from isthmus.jobs.job import load_job
from isthmus.jobs.local import run_here
from isthmus.jobs.outcome import write_party_report
from isthmus.jobs.pooled import add_pooled
from isthmus.jobs.precheck import check_own_side

NAME = "held_out"
SEEDS = (1, 2, 3)
NETWORKS = ("deepfm", "wide_deep", "dcn", "autoint", "mmoe", "din", "bst")
HOST_ALONE, PLAIN = "host alone", "plain"
PREDICTIONS = f"runs/*/{GUEST}/predict/predictions.parquet"
READERS = ("din", "bst")
"""They need a history."""
MODEL = {"dim": 8, "bottom": [32, 16], "top": [32, 16]}
TITLE = "Data sets other than MovieLens, and every network that fits them"
SUMMARY = """\
Each line is a data set, cut for two parties (guest: the label), and a network, as a job file:
alignment by id, encoding, training, the pooled twin, the guest alone; means over the seeds, each of
which draws another cut and other initial values. The host alone is DeepFM in a job whose guest
brings only the label. Plain: the better of logistic (or ridge) regression and, but for columns of
ids, boosted trees (scikit-learn) on all columns of the same rows, histories left out. The same
options for all networks, none tuned; the three longest tables are cut to 10,000 rows, FilmTrust to
400 users, MicroLens to 350 users and, to each video watched, one drawn at random that was not. AUC,
more is better; of student grades the RMSE, less is better. MMoE learns a second target where the
data has one, which the table does not show. DIN and BST are there where there is a history: of
ratings at the guest, of videos at the host, of monthly states of payment at the host."""


def main() -> None:
    """Run what is missing and publish what is there."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--data", type=Path, default=os.environ.get("ISTHMUS_DATA"))
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--stored", action="store_true", help="run nothing")
    parser.add_argument("--unpublished", action="store_true", help="run, and leave the page")
    args = parser.parse_args()
    machine, runs = machine_facts(), Runs(args.work / NAME, args.data, stored=args.stored)
    for seed in args.seeds:
        for name in args.sets:
            for what in whats(runs.set(name), args.networks):
                runs.get(name, what, seed)
    if not args.unpublished:
        publish(_result(runs, args.sets, args.networks, args.seeds, machine))


def whats(data: HeldOut, networks: Sequence[str]) -> list[str]:
    """What is run on a data set."""
    fitting = [name for name in networks if data.histories or name not in READERS]
    # The plain models are scored on the rows that a job's predictions say, so they come last.
    return [*fitting, HOST_ALONE, PLAIN]


class Runs:
    """What was run, as JSON lines in a file; runs what is missing, unless `stored`."""

    def __init__(self, folder: Path, data: Path, *, stored: bool) -> None:
        self.folder, self.data, self.stored = folder, data, stored
        self.file = folder / "runs.jsonl"
        self._sets: dict[str, HeldOut] = {}

    def set(self, name: str) -> HeldOut:
        """The data set, read once."""
        if name not in self._sets:
            self._sets[name] = read(self.data, name)
        return self._sets[name]

    def get(self, name: str, what: str, seed: int) -> dict[str, Any] | None:
        """The figures, made now if they are not there."""
        key = {"set": name, "what": what, "seed": seed}
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        for record in map(json.loads, lines):
            if record["key"] == key:
                found: dict[str, Any] = record
                return found
        return None if self.stored else self._run(key)

    def _run(self, key: Mapping[str, Any]) -> dict[str, Any]:
        data, what, seed = self.set(key["set"]), key["what"], key["seed"]
        folder, cpu = self.folder / f"{key['set']}-{seed}", time.process_time()
        if what == PLAIN:
            rows_at = folder / HOST_ALONE.replace(" ", "_")
            if not any(rows_at.glob(PREDICTIONS)):  # its figures are kept, its files are not
                run(data, HOST_ALONE, seed, rows_at)
            figures = plain(data, rows_at)
        else:
            figures = run(data, what, seed, folder / what.replace(" ", "_"))
        record = {"key": dict(key), **figures, "cpu_seconds": time.process_time() - cpu}
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.file.open("a") as out:
            out.write(json.dumps(record) + "\n")
        print(f"{time.strftime('%H:%M:%S')} {json.dumps(record)}", flush=True)
        return record


def run(data: HeldOut, what: str, seed: int, folder: Path) -> dict[str, Any]:
    """Write tables and job file, run the job as `isthmus run` does, but in this process."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for number, (name, table) in enumerate(data.tables.items()):
        shuffled = table.sample(fraction=1.0, shuffle=True, seed=number)
        shuffled.write_parquet(folder / f"{name}.parquet")
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job_of(data, what, seed), sort_keys=False))
    try:
        job = load_job(path)
        for party in job.spec.order:
            check_own_side(job, party)
        run_here(job, folder / "runs")
        if job.spec.evaluate.pooled:
            add_pooled(job, folder / "runs" / job.folder_name)
        label_folder = folder / "runs" / job.folder_name / GUEST
        write_party_report(job, GUEST, PartyFolder(label_folder))
    except IsthmusError as error:
        return {"failed": f"[{error.code}] {error}"}
    report = json.loads((label_folder / "report.json").read_text())
    return figures_of(report, real=data.real)


def job_of(data: HeldOut, what: str, seed: int) -> dict[str, Any]:
    """The job as what stands in its file."""
    host_alone = what == HOST_ALONE
    name = "deepfm" if host_alone else what
    features = {
        party: {**data.features[party], **data.histories.get(party, {})} for party in (HOST, GUEST)
    }
    label = {"party": GUEST, **data.label}
    if name == "mmoe" and data.also:
        label["also"] = dict(data.also)
    train = {"batch_size": data.batch, "epochs": data.epochs, "learning_rate": 0.002}
    attention = {"attention": dict(data.attention)} if name in READERS else {}
    return {
        "isthmus": 1,
        "name": NAME,
        "seed": seed,
        "parties": {
            HOST: {"table": f"{HOST}.parquet", "features": features[HOST]},
            GUEST: {"table": f"{GUEST}.parquet", "features": {} if host_alone else features[GUEST]},
        },
        "label": label,
        "align": {"key": KEY},
        "split": {"train": 0.7, "valid": 0.1, "test": 0.2, **data.split},
        "train": {
            "model": {"name": name, **MODEL, **{k: v for k, v in attention.items() if v}},
            **train,
            "metric": "loss" if data.real else "auc",
            "device": "cpu",
        },
        "evaluate": {"alone": not host_alone, "pooled": not host_alone, "resamples": 20},
        "predict": {"rows": "all"},
    }


def figures_of(report: Mapping[str, Any], *, real: bool) -> dict[str, Any]:
    """AUC (or RMSE) and loss of the first target, by model."""
    names = {"federation": "split", "pooled": "pooled", "label_party_alone": GUEST}
    if real:
        row = next(one for one in report["targets"] if one["metric"] == "RMSE")
        return {
            short: {"rmse": row[name]} for name, short in names.items() if row[name] is not None
        }
    first, kept = report["metrics"], ("auc", "log_loss")
    return {
        short: {metric: first[name][metric] for metric in kept}
        for name, short in names.items()
        if first.get(name)
    }


def plain(data: HeldOut, folder: Path) -> dict[str, Any]:
    """scikit-learn on the pooled columns of the rows that the job in `folder` was trained on."""
    from sklearn.metrics import mean_squared_error, roc_auc_score  # type: ignore[import-untyped]

    (found,) = folder.glob(PREDICTIONS)
    made = pl.read_parquet(found).select(pl.col(KEY).cast(pl.Int64), "split", "label")
    rows = made.join(data.tables[GUEST].drop("label", strict=False), on=KEY, how="left")
    # Both parties may call columns alike.
    host = data.tables[HOST].rename(lambda name: name if name == KEY else f"{HOST}.{name}")
    rows = rows.join(host, on=KEY, how="left")
    train, test = (rows.filter(pl.col("split") == part) for part in ("train", "test"))
    figures = {}
    for kind, model in models(data).items():
        model.fit(inputs(data, train), train["label"].to_numpy())
        truth = test["label"].to_numpy()
        if data.real:
            error = mean_squared_error(truth, model.predict(inputs(data, test)))
            figures[kind] = {"rmse": float(np.sqrt(error))}
        else:
            scores = model.predict_proba(inputs(data, test))[:, 1]
            figures[kind] = {"auc": float(roc_auc_score(truth, scores))}
    return figures


def kinds_of(data: HeldOut) -> dict[str, str]:
    """Both parties' columns and their kinds; histories are not for plain models."""
    both = {**data.features[GUEST], **{f"{HOST}.{c}": of for c, of in data.features[HOST].items()}}
    return {c: of if isinstance(of, str) else of["kind"] for c, of in both.items()}


def inputs(data: HeldOut, rows: pl.DataFrame) -> Any:
    """The columns side by side for scikit-learn, categories as text."""
    parts = []
    for column, kind in kinds_of(data).items():
        if kind == "vector":
            parts.append(np.array(rows[column].to_list(), dtype=object))
        elif kind == "numeric":
            parts.append(rows[column].to_numpy().astype(object).reshape(-1, 1))
        else:
            parts.append(rows[column].cast(pl.String).to_numpy().astype(object).reshape(-1, 1))
    return np.concatenate(parts, axis=1)


def models(data: HeldOut) -> dict[str, Any]:
    """The rivals that fit the data."""
    from sklearn.compose import ColumnTransformer  # type: ignore[import-untyped]
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor  # type: ignore[import-untyped]
    from sklearn.linear_model import LogisticRegression, Ridge  # type: ignore[import-untyped]
    from sklearn.pipeline import make_pipeline  # type: ignore[import-untyped]
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler  # type: ignore[import-untyped]

    numbers: list[int] = []
    categories: list[int] = []
    at = 0
    for column, kind in kinds_of(data).items():
        of = data.features[HOST].get(column.removeprefix(f"{HOST}."))
        width = of["width"] if kind == "vector" and isinstance(of, Mapping) else 1
        (categories if kind == "categorical" else numbers).extend(range(at, at + width))
        at += width

    def prepared(encoder: Any) -> Any:
        return ColumnTransformer(
            [("numbers", StandardScaler(), numbers), ("categories", encoder, categories)]
        )

    one_hot = prepared(OneHotEncoder(handle_unknown="ignore"))
    linear = Ridge() if data.real else LogisticRegression(max_iter=500)
    found = {"linear": make_pipeline(one_hot, linear)}
    if data.trees:
        codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
        make = HistGradientBoostingRegressor if data.real else HistGradientBoostingClassifier
        trees = make(max_iter=80, learning_rate=0.06, random_state=0)
        found["trees"] = make_pipeline(prepared(codes), trees)
    return found


def _result(
    runs: Runs,
    sets: Sequence[str],
    networks: Sequence[str],
    seeds: Sequence[int],
    machine: Mapping[str, Any],
) -> Result:
    rows, raw, missing, farthest, worst, failed = [], [], 0, 0.0, 1.0, 0
    for name in sets:
        data = runs.set(name)
        metric = "rmse" if data.real else "auc"
        found = {what: _there(runs, name, what, seeds) for what in whats(data, networks)}
        raw += [record for records in found.values() for record in records]
        missing += sum(not found[what] for what in whats(data, networks)[:-2])
        if not found[PLAIN]:
            continue
        rivals = _rivals(found, metric, least=data.real)
        for what in (what for what in whats(data, networks)[:-2] if found[what]):
            records = found[what]
            if any("failed" in one for one in records):
                failed += 1
                rows.append([data.title, what, "failed", *[""] * 6])
                continue
            apart = max(abs(one["split"][metric] - one["pooled"][metric]) for one in records)
            farthest = max(farthest, apart)
            ours = _mean(records, "split", metric)
            plain_one = rivals["plain"]
            worst = min(worst, plain_one / ours if data.real else ours / plain_one)
            rows.append(
                [
                    data.title,
                    what,
                    f"{ours:.4f}",
                    _spread([one["split"][metric] for one in records]),
                    f"{apart:.1e}",
                    f"{_mean(records, GUEST, metric):.4f}",
                    *(f"{value:.4f}" for value in rivals.values()),
                ]
            )
    heads = ["data", "network", "split", "of seeds", "from pooled", "guest alone", "host alone"]
    return Result(
        name=NAME,
        title=TITLE,
        summary=f"{SUMMARY} {_unmeasured(missing)}".strip(),
        bars=[
            Bar("0.001 over the farthest from pooled", share_of(0.001, farthest), 1),
            Bar("networks that ran, of those of the table", 1 - failed / len(rows), 1),
            Bar("against the better plain model, at worst", worst, 0.95),
        ],
        columns=[*heads, "plain"],
        rows=rows,
        raw={"farthest_from_pooled": farthest, "seeds": list(seeds), "runs": raw},
        machine=machine,
        versions=versions("torch", "numpy", "polars", "scikit-learn"),
    )


def _unmeasured(missing: int) -> str:
    """What a reader must know of a table that is not whole."""
    return f"Not whole: {missing} networks on these sets are still to be run." if missing else ""


def _rivals(
    found: Mapping[str, Sequence[Mapping[str, Any]]], metric: str, *, least: bool
) -> dict[str, float]:
    """The host alone, and the better of the plain models."""
    kinds = found[PLAIN][0].keys() & {"linear", "trees"}
    best = (min if least else max)(_mean(found[PLAIN], kind, metric) for kind in kinds)
    return {"host": _mean(found[HOST_ALONE], "split", metric), "plain": best}


def _spread(values: Sequence[float]) -> str:
    return f"{min(values):.4f} to {max(values):.4f}" if len(values) > 1 else "one seed"


def _there(runs: Runs, name: str, what: str, seeds: Sequence[int]) -> list[dict[str, Any]]:
    return [one for seed in seeds if (one := runs.get(name, what, seed)) is not None]


def _mean(records: Sequence[Mapping[str, Any]], what: str, metric: str) -> float:
    return statistics.mean(float(one[what][metric]) for one in records)


if __name__ == "__main__":
    main()
