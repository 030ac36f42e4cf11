"""What the federation is worth on MovieLens-100K, against pooled and label party alone.

make bench NAME=first_light_accuracy
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.environments import WORK
from benchmarks.federation import FEATURE_PARTY, LABEL_PARTY, ratings, run_job, write_parties
from benchmarks.harness import Bar, Result, machine_facts, publish, versions
from isthmus.jobs.examples import example

MODELS = {
    "label_party_alone": "label party alone",
    "federation": "federation",
    "pooled": "pooled",
}
TITLE = "Accuracy on MovieLens-100K: federation, pooled model, label party alone"
SUMMARY = """\
All 100,000 ratings, a random 80/20 cut, the demo's job (label: Rating > 3) with three seeds, each
of which draws another cut and other initial weights. Federation: two party processes over mutually
authenticated TLS. Pooled: the same network on all columns in one place. Alone: the same network on
the label party's columns. The interval is the 95 % paired bootstrap of the uplift over the label
party alone on the held-out rows of one seed; the lowest of the three lower ends counts."""


def main() -> None:
    """Run the job once a seed and publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--job", type=Path, help="another job file than the demo's")
    parser.add_argument("--work", type=Path, default=WORK)
    args = parser.parse_args()
    machine = machine_facts()
    work: Path = args.work / "first_light_accuracy"
    paths = write_parties(ratings(args.work / "data"), work / "tables")
    base: dict[str, Any] = yaml.safe_load(
        args.job.read_text() if args.job else example("movielens")
    )
    for party, path in paths.items():
        base["parties"][party]["table"] = str(path.resolve())
    base["evaluate"] = {**base.get("evaluate", {}), "alone": True, "pooled": True}
    reports = {}
    for seed in args.seeds:
        run = run_job({**base, "seed": seed}, work / f"seed-{seed}")
        reports[seed] = {**run.report(LABEL_PARTY), "usage": run.usage.as_json()}
    publish(_result(reports, machine))


def _result(reports: dict[int, dict[str, Any]], machine: dict[str, Any]) -> Result:
    auc = {
        model: [report["metrics"][model]["auc"] for report in reports.values()] for model in MODELS
    }
    loss = {
        model: [report["metrics"][model]["log_loss"] for report in reports.values()]
        for model in MODELS
    }
    uplift = [report["uplift"]["over_label_party_alone"] for report in reports.values()]
    distance = abs(statistics.mean(auc["federation"]) - statistics.mean(auc["pooled"]))
    return Result(
        name="first_light_accuracy",
        title=TITLE,
        summary=SUMMARY,
        bars=[
            Bar("0.002 over the distance to pooled", _ratio(0.002, distance), 1),
            Bar("lower end of the uplift's interval", min(u["low"] for u in uplift), 1e-6),
            Bar("AUC of the federation", statistics.mean(auc["federation"]), 0.785),
        ],
        columns=["model", "AUC", "spread of AUC", "log loss"],
        rows=[
            [name, f"{_mean(auc[model])}", f"{_spread(auc[model])}", f"{_mean(loss[model])}"]
            for model, name in MODELS.items()
        ],
        raw={
            "seeds": list(reports),
            "auc": auc,
            "log_loss": loss,
            "uplift": uplift,
            "distance_to_pooled": distance,
            "training": [report["training"] for report in reports.values()],
            "usage": [report["usage"] for report in reports.values()],
            "feature_party": FEATURE_PARTY,
        },
        machine=machine,
        versions=versions("torch", "numpy"),
    )


def _ratio(limit: float, value: float) -> float:
    """`limit / value`, kept finite where the value is (next to) nothing."""
    return limit / max(value, limit / 1000)


def _mean(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.4f}"


def _spread(values: Sequence[float]) -> str:
    return f"{min(values):.4f} to {max(values):.4f}"


if __name__ == "__main__":
    main()
