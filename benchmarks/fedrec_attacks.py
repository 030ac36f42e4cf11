"""Promotion attacks on federated recommenders: exposure of the target, cost, and defences.

    python -m benchmarks.fedrec_attacks --data filmtrust --rounds 100 --seeds 3

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import Bar, Result, machine_facts, publish, versions
from isthmus.fedrec import Interactions, interactions, recipe
from isthmus.fedrec.attacks.promoting import KINDS, Kind, Plan, run
from isthmus.fedrec.privacy import NormBound
from isthmus.files import write_json

BOUND = 0.4
"""About the largest change of a row in honest training on FilmTrust."""
TRIM = "0.1"
SHARE = 0.05
SHARES = (0.01, 0.1, 0.2)
"""Further shares of hostile clients, for `WITH_SHARES` and FedRecAttack."""
CRAFTED: tuple[Kind, ...] = ("explicit", "pipattack", "fedrecattack")


@dataclass(frozen=True)
class Server:
    """What the server does with uploads."""

    algorithm: str
    sets: dict[str, str]
    bound: float = 0.0
    """Of each row's change, by 2-norm; 0: none."""


SERVERS = {
    "FedAvg": Server("fedavg", {}),
    "FedAvg, norm bound": Server("fedavg", {}, BOUND),
    "trimmed mean": Server("trimmed-mean", {"trim": TRIM, "over": "all"}),
    "row-wise mean": Server("row-wise", {}),
    "trimmed row-wise mean": Server("trimmed-mean", {"trim": TRIM, "over": "touched"}),
}
OPEN, DEFENCES = "FedAvg", ("FedAvg, norm bound", "trimmed mean")
"""Without a defence; and those that guard FedAvg, which alone are judged by the bars."""
WITH_SHARES = (OPEN, *DEFENCES)
Key = tuple[str, Kind, float]
Found = dict[Key, list[dict[str, Any]]]


def cases() -> list[Key]:
    """The trainings of a seed."""
    usual: list[Key] = [(server, kind, SHARE) for server in SERVERS for kind in KINDS]
    return usual + [(server, "fedrecattack", one) for server in WITH_SHARES for one in SHARES]


def measured(data: Interactions, key: Key, given: argparse.Namespace, seed: int) -> dict[str, Any]:
    """One training's figures."""
    server, kind, share = SERVERS[key[0]], key[1], key[2]
    made = recipe(server.algorithm, None, server.sets)
    guards = (NormBound(row=server.bound),) if server.bound else ()
    found = run(
        data, made, Plan(kind, share, boost=given.boost), rounds=given.rounds, every=10,
        seed=seed, server=guards,
    )  # fmt: skip
    last = found.last
    return {
        **last.er,
        "hr@10": last.metrics["full-ranking"]["hr@10"],
        "ndcg@10": last.metrics["full-ranking"]["ndcg@10"],
        "sampled hr@10": last.metrics["honest-sampled"]["hr@10"],
        "targets": found.target_clients,
        "er@10 by round": {str(one.number): one.er["er@10"] for one in found.rounds},
    }


def mean(values: Sequence[float]) -> str:
    """Mean and standard deviation as text."""
    if len(values) < 2:
        return f"{statistics.mean(values):.3f}"
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


def table(found: Found) -> list[list[str]]:
    """A row a server, attack and share."""
    names = ("er@5", "er@10", "hr@10", "ndcg@10", "sampled hr@10")
    return [
        [
            server, kind, "" if kind == "none" else f"{share:.0%}", str(len(runs)),
            *(mean([one[name] for one in runs]) for name in names),
        ]
        for (server, kind, share), runs in found.items()
    ]  # fmt: skip


def bars(found: Found) -> list[Bar]:
    """Attacks succeed without a defence; the best defence takes most away and costs little."""

    def of(server: str, kind: Kind, name: str = "er@10") -> float:
        return statistics.mean([float(one[name]) for one in found[server, kind, SHARE]])

    each = {kind: of(OPEN, kind) for kind in CRAFTED}
    strongest = max(each.values())
    left = {one: max(of(one, kind) for kind in CRAFTED) for one in DEFENCES}
    best = min(DEFENCES, key=lambda one: (left[one], -of(one, "none", "hr@10")))
    return [
        Bar("strongest attack without a defence, ER@10", round(strongest, 3), 0.5),
        Bar("weakest of the three crafted ones, ER@10", round(min(each.values()), 3), 0.3),
        Bar(f"best defence ({best}): share of the strongest ER@10 taken away",
            round(1 - left[best] / strongest, 3), 0.5),
        Bar("its HR@10 without an attack, in that without a defence",
            round(of(best, "none", "hr@10") / of(OPEN, "none", "hr@10"), 3), 0.95),
    ]  # fmt: skip


def main() -> int:
    """Train what is not there, sum up, publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="filmtrust")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--boost", type=float, default=10.0)
    parser.add_argument("--only-sum", action="store_true", help="run nothing, publish")
    given = parser.parse_args()
    work = Path(os.environ.get("ISTHMUS_BENCH_WORK", "runs")) / "fedrec_attacks"
    work = work / f"{given.data}-{given.rounds}-{given.boost:g}"
    data, machine = interactions(given.data), machine_facts()
    found: Found = {}
    for key in cases():
        for seed in range(given.seeds):
            path = work / f"{key[0]}-{key[1]}-{key[2]:g}-{seed}.json".replace(" ", "-")
            if not path.exists() and not given.only_sum:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_json(path, measured(data, key, given, seed))
                print(path.stem, flush=True)
            if path.exists():
                found.setdefault(key, []).append(json.loads(path.read_text()))
    if all((server, kind, SHARE) in found for server in SERVERS for kind in KINDS):
        publish(result(found, given, machine))
    return 0


def result(found: Found, given: argparse.Namespace, machine: dict[str, Any]) -> Result:
    """What is published."""
    return Result(
        name="fedrec_attacks",
        title="Promotion attacks on a federated recommender, with and without defences",
        summary=(
            f"Matrix factorisation (`fcf`) on {given.data}, {given.rounds} rounds, one target "
            "drawn from the 45% least popular items by the seed; hostile clients as a share of the "
            f"honest ones; a hostile row moves up to {given.boost:g} times as far as an honest "
            "one. ER@K: honest clients without the target whose K best items hold it. HR and NDCG "
            "of honest clients' test items by full ranking, and HR@10 among 99, after the last "
            f"round; mean and standard deviation over seeds. The norm bound is {BOUND:g} on each "
            f"row's change; trimmed means leave out {float(TRIM):.0%} of the clients at either "
            "end: of all clients of the round, or (row-wise) of those that touched the row. The "
            "row-wise means stand there to show what division by few clients does; bars are about "
            "FedAvg and the two defences of it."
        ),
        bars=bars(found),
        columns=["server", "attack", "hostile", "seeds", "ER@5", "ER@10", "HR@10", "NDCG@10",
                 "HR@10 (99)"],
        rows=table(found),
        raw={
            "runs": {f"{server}/{kind}/{share:g}": runs
                     for (server, kind, share), runs in found.items()},
            **vars(given),
        },
        machine=machine,
        versions=versions("numpy", "numba"),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
