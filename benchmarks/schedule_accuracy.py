"""What each schedule costs in accuracy and saves in bytes, on MovieLens-1M over five seeds.

make bench NAME=schedule_accuracy
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.harness import Bar, Result, machine_facts, publish, versions
from benchmarks.movielens_split import CHOSEN, Runs, Trial, arguments, brief, share_of

SEEDS = (1, 2, 3, 4, 5)
ROWS = (
    "microbatch:4",
    "pipeline:2",
    "pipeline:4",
    "pipeline:8",
    "pipeline:16",
    "pipeline:2+uncorrected",
    "pipeline:4+uncorrected",
    "pipeline:8+uncorrected",
    "pipeline:16+uncorrected",
    "auto",
    "exact@3*1.5",
    "local:2@3",
    "local:2+unweighted@3",
    "local:4@3*0.5",
    "exact@2*2",
    "local:2@2",
    "local:2",
    "local:4",
    "adaptive:2",
    "adaptive:4",
)
"""A schedule; with `@3`, trained for 3 epochs; with `*0.5`, at half the learning rates."""
_ROW = re.compile(r"([^@*]+)(?:@(\d+))?(?:\*([\d.]+))?")
ONE_SEED = ("microbatch:4",)
"""Rows that a seed is enough for: they must equal `exact`."""
BOUND = 0.002
"""AUC that the pipelines that `auto` may choose, and `auto`, may lose on average."""
SAME = 2e-4
"""AUC by which `microbatch` may differ: floating-point order, grown over thousands of steps."""
BOUNDED = ("pipeline:2", "pipeline:4", "pipeline:8", "pipeline:16", "auto")
_T = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
"""Quantiles of Student's t at 97.5 %, by degrees of freedom."""
TITLE = "What schedules cost in accuracy, MovieLens-1M"
SUMMARY = """\
The demo's DeepFM (embeddings of 16, lower towers 128-32, upper tower 64-32, no dropout), label
Rating > 3, 80 % of all ratings for training, 10 % for validation, 10 % for test, batch 1024, Adam
with rates that fall linearly to zero over 5 epochs, chosen once under `exact` on validation rows.
A seed draws the split, the initial values and the order of the batches. Test figures are those of
the epoch with the best validation AUC. Differences are paired: the same seed under `exact`; the
interval is Student's, 95 %. MB are the messages of training both ways up to the best epoch, and up
to the first epoch whose validation AUC is at most 0.002 below the best of `exact` on that seed.
Rows of fewer epochs or other rates show what the same bytes give otherwise. Two parties as threads
of one process: staleness is counted in batches, so all but `auto`, which finds no line to fill
here, do not depend on the machine's speed."""


@dataclass(frozen=True)
class Difference:
    """Paired differences over seeds."""

    mean: float
    low: float
    high: float
    """The 95 % interval of the mean; both ends are the mean where there is one seed."""
    spread: tuple[float, float]
    """Least and greatest."""

    @classmethod
    def of(cls, values: Sequence[float]) -> Difference:
        """From one difference a seed."""
        mean, half = statistics.mean(values), 0.0
        if len(values) > 1:
            half = _T[len(values) - 1] * statistics.stdev(values) / len(values) ** 0.5
        return cls(mean, mean - half, mean + half, (min(values), max(values)))


def main() -> None:
    """Run what is missing and publish."""
    parser = arguments(__doc__)
    parser.add_argument("--rows", nargs="+", default=list(ROWS))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--quiet", action="store_true", help="run and keep, publish nothing")
    args = parser.parse_args()
    machine = machine_facts()
    runs = Runs(args.work, reuse=args.reuse, stored=args.stored)
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for row in ["exact", *args.rows]:
        for seed in args.seeds[: 1 if row in ONE_SEED else None]:
            record = runs.get(trial(row, seed))
            if record is not None:
                found.setdefault(row, {})[seed] = record
    if not args.quiet:
        publish(_result(found, machine))


def trial(row: str, seed: int) -> Trial:
    """The trial that a row's name stands for."""
    schedule, epochs, factor = _ROW.fullmatch(row).groups()
    changed: dict[str, Any] = {"epochs": int(epochs)} if epochs else {}
    if factor:
        rates = ("learning_rate", "embedding_learning_rate")
        changed |= {rate: CHOSEN[rate] * float(factor) for rate in rates}
    return Trial(seed=seed, schedule=schedule, changed=changed)


def _result(found: Mapping[str, Mapping[int, dict[str, Any]]], machine: dict[str, Any]) -> Result:
    exact = found["exact"]
    lost = {
        row: Difference.of([exact[seed]["auc"] - record["auc"] for seed, record in runs.items()])
        for row, runs in found.items()
    }
    whole = max(len(runs) for runs in found.values())
    bars = [
        Bar(f"{BOUND} over the AUC lost, {row}", share_of(BOUND, max(0.0, lost[row].mean)), 1)
        for row in BOUNDED
        if row in found and len(found[row]) == whole
    ]
    bars += [
        Bar(f"{SAME} over the difference, {row}", share_of(SAME, abs(lost[row].mean)), 1)
        for row in ONE_SEED
        if row in found
    ]
    return Result(
        name="schedule_accuracy",
        title=TITLE,
        summary=SUMMARY,
        bars=sorted(bars, key=lambda bar: bar.value),
        columns=[
            "schedule",
            "seeds",
            "AUC",
            "AUC less that of exact",
            "95 % interval",
            "over seeds",
            "log loss less that of exact",
            "epochs to best",
            "MB to best",
            f"MB to within {BOUND}",
        ],
        rows=[_row(row, runs, exact) for row, runs in found.items()],
        raw={
            "chosen": CHOSEN,
            "runs": {
                row: {str(seed): brief(record) for seed, record in runs.items()}
                for row, runs in found.items()
            },
        },
        machine=machine,
        versions=versions("torch", "numpy"),
    )


def _row(
    row: str, runs: Mapping[int, dict[str, Any]], exact: Mapping[int, dict[str, Any]]
) -> list[str]:
    name, epochs, factor = _ROW.fullmatch(row).groups()
    name = f"`{name}`" + (f", {epochs} epochs" if epochs else "")
    name += f", {factor} times the rates" if factor else ""
    auc = Difference.of([record["auc"] - exact[seed]["auc"] for seed, record in runs.items()])
    loss = statistics.mean(
        record["log_loss"] - exact[seed]["log_loss"] for seed, record in runs.items()
    )
    best = [record["best_epoch"] for record in runs.values()]
    spent = [_bytes(record, record["best_epoch"]) for record in runs.values()]
    reached = [_bytes_to(record, exact[seed]) for seed, record in runs.items()]
    known = [size for size in reached if size is not None]
    within = f"{statistics.mean(known) / 1e6:,.0f}" if known else "never"
    if known and len(known) < len(reached):
        within += f" ({len(known)} of {len(reached)})"
    interval = f"{auc.low:+.4f} to {auc.high:+.4f}" if len(runs) > 1 else ""
    is_exact = row == "exact"
    return [
        name,
        str(len(runs)),
        f"{statistics.mean(record['auc'] for record in runs.values()):.4f}",
        "" if is_exact else f"{auc.mean:+.5f}",
        "" if is_exact else interval,
        "" if is_exact else f"{auc.spread[0]:+.4f} to {auc.spread[1]:+.4f}",
        "" if is_exact else f"{loss:+.4f}",
        f"{statistics.mean(best):.1f}",
        f"{statistics.mean(spent) / 1e6:,.0f}",
        within,
    ]


def _bytes(record: Mapping[str, Any], epoch: int) -> int:
    size: int = record["forward"][epoch - 1] + record["back"][epoch - 1]
    return size


def _bytes_to(record: Mapping[str, Any], exact: Mapping[str, Any]) -> int | None:
    """Bytes up to the first epoch that is good enough on the validation rows; None if none is."""
    wanted = max(exact["valid_auc"]) - BOUND
    for epoch, value in enumerate(record["valid_auc"], 1):
        if value >= wanted:
            return _bytes(record, epoch)
    return None


if __name__ == "__main__":
    main()
