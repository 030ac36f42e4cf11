"""Promotion attacks on federated recommenders: exposure of the target, cost, and two defences.

    python -m benchmarks.fedrec_attacks --data filmtrust --rounds 30 --seeds 3

Every training is kept in $ISTHMUS_BENCH_WORK/fedrec_attacks: the same command goes on where it was
stopped. `--only-sum` publishes what is there; seeds that are not whole are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import Bar, Result, machine_facts, publish, versions
from isthmus.fedrec import Interactions, interactions, recipe
from isthmus.fedrec.attacks.promoting import KINDS, Kind, Plan, run
from isthmus.fedrec.privacy import NormBound
from isthmus.files import write_json

BOUND = 0.4
"""About the largest change of a row in honest training on FilmTrust."""
DEFENCES = ("none", "norm bound", "trimmed mean")


def measured(
    data: Interactions, kind: Kind, defence: str, given: argparse.Namespace, seed: int
) -> dict[str, Any]:
    """One training's figures."""
    made = recipe("fedavg")
    if defence == "trimmed mean":
        made = recipe("trimmed-mean", None, {"trim": "0.1"})
    plan = Plan(kind, given.malicious, boost=given.boost)
    server = (NormBound(row=BOUND),) if defence == "norm bound" else ()
    found = run(data, made, plan, rounds=given.rounds, every=given.rounds, seed=seed, server=server)
    last = found.last
    return {
        **last.er,
        "hr@10": last.metrics["full-ranking"]["hr@10"],
        "ndcg@10": last.metrics["full-ranking"]["ndcg@10"],
        "sampled hr@10": last.metrics["honest-sampled"]["hr@10"],
        "targets": found.target_clients,
    }


def mean(values: Sequence[float]) -> str:
    """Mean and standard deviation as text."""
    if len(values) < 2:
        return f"{statistics.mean(values):.3f}"
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


def table(found: dict[str, list[dict[str, Any]]]) -> list[list[str]]:
    """A row a defence and attack."""
    names = ("er@5", "er@10", "hr@10", "ndcg@10", "sampled hr@10")
    return [
        [*key.split("/"), str(len(runs)), *(mean([one[name] for one in runs]) for name in names)]
        for key, runs in found.items()
    ]


def bars(found: dict[str, list[dict[str, Any]]]) -> list[Bar]:
    """The strongest attack succeeds without a defence; each defence takes half of it away."""

    def er(defence: str) -> float:
        mine = [runs for key, runs in found.items() if key.startswith(defence + "/")]
        return max(statistics.mean([float(one["er@10"]) for one in runs]) for runs in mine)

    open_ = er("none")
    out = [Bar("strongest attack without a defence, ER@10", open_, 0.5)]
    for name in DEFENCES[1:]:
        out.append(Bar(f"{name}: share of that ER@10 taken away", 1 - er(name) / open_, 0.5))
    return out


def main() -> int:
    """Train what is not there, sum up, publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="filmtrust")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--malicious", type=float, default=0.05)
    parser.add_argument("--boost", type=float, default=10.0)
    parser.add_argument("--only-sum", action="store_true", help="run nothing, publish")
    given = parser.parse_args()
    work = Path(os.environ.get("ISTHMUS_BENCH_WORK", "runs")) / "fedrec_attacks"
    name = f"{given.data}-{given.rounds}-{given.malicious:g}-{given.boost:g}"
    data, machine = interactions(given.data), machine_facts()
    keys = [(defence, kind) for defence in DEFENCES for kind in KINDS]
    found: dict[str, list[dict[str, Any]]] = {f"{d}/{k}": [] for d, k in keys}
    for seed in range(given.seeds):
        paths = [work / name / f"{d}-{k}-{seed}.json".replace(" ", "-") for d, k in keys]
        for (defence, kind), path in zip(keys, paths, strict=True):
            if not path.exists() and not given.only_sum:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_json(path, measured(data, kind, defence, given, seed))
                print(f"seed {seed}, {defence}, {kind}", flush=True)
        if all(path.exists() for path in paths):
            for (defence, kind), path in zip(keys, paths, strict=True):
                found[f"{defence}/{kind}"].append(json.loads(path.read_text()))
    if all(found.values()):
        publish(result(found, given, machine))
    return 0


def result(
    found: dict[str, list[dict[str, Any]]], given: argparse.Namespace, machine: dict[str, Any]
) -> Result:
    """What is published."""
    return Result(
        name="fedrec_attacks",
        title="Promotion attacks on a federated recommender, with and without defences",
        summary=(
            f"FedAvg with matrix factorisation on {given.data}, {given.rounds} rounds, "
            f"{given.malicious:.0%} hostile clients for the honest ones, one target drawn from the "
            f"45% least popular items; a hostile row moves up to {given.boost:g} times as far as "
            f"an honest one. ER@K: honest clients without the target whose K best items hold it. "
            "HR and NDCG of honest clients' test items by full ranking, and HR@10 among 99, after "
            "the last round; mean and standard deviation over seeds. The norm bound is "
            f"{BOUND:g} on each row's change; the trimmed mean leaves out 10% at either end, item "
            "by item."
        ),
        bars=bars(found),
        columns=["defence", "attack", "seeds", "ER@5", "ER@10", "HR@10", "NDCG@10", "HR@10 (99)"],
        rows=table(found),
        raw={"runs": found, **vars(given)},
        machine=machine,
        versions=versions("numpy", "numba"),
    )


if __name__ == "__main__":
    sys.exit(main())
