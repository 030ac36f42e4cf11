"""What defences of federated uploads cost, and what a server still learns.

    python -m benchmarks.fedrec_privacy --data filmtrust,ml-100k

FedAvg (`deviation=0.1`), ten rounds. Utility: NDCG@10 on test of the round chosen on validation.
Attacks: touched rows over six rounds and membership inference on the first upload, on 200
clients. Cells are kept in $ISTHMUS_BENCH_WORK/fedrec_privacy; `--only-sum` publishes them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.harness import Bar, Result, machine_facts, publish, versions
from isthmus.fedrec import RunOptions, interactions, protocol, recipe, run
from isthmus.fedrec.attacks import membership, touched_rows
from isthmus.fedrec.privacy import Defences
from isthmus.files import write_json

DATA = ("filmtrust", "ml-100k")
HONEST = ("honest-sampled", "full-ranking")
CLIP = 4.0
ROWS = {
    "none": ("nothing", Defences()),
    "fresh": ("pseudo-items, fresh each round", Defences(pseudo_items=4, pseudo_fresh=True)),
    "kept": ("pseudo-items, kept", Defences(pseudo_items=4)),
    "ldp-0.1": ("local noise 0.1", Defences(clip=CLIP, noise=0.1)),
    "ldp-1": ("local noise 1", Defences(clip=CLIP, noise=1.0)),
    "ldp-10": ("local noise 10", Defences(clip=CLIP, noise=10.0)),
    "sum": ("secure sum", Defences(secure_sum=True, masks_left_out=True)),
    "sum-1": (
        "secure sum, noise 1",
        Defences(secure_sum=True, masks_left_out=True, clip=CLIP, noise=1.0),
    ),
    "sum-4": (
        "secure sum, noise 4",
        Defences(secure_sum=True, masks_left_out=True, clip=CLIP, noise=4.0),
    ),
}
ROUNDS, SEEN = 10, 6
SETS = {"deviation": 0.1}


def cell(data: str, row: str, seed: int) -> dict[str, Any]:
    """Utility of one defence on one data set, and both attacks."""
    _, defences = ROWS[row]
    table, made = interactions(data), recipe("fedavg", None, SETS)
    begun = time.process_time()
    options = RunOptions(seed, ROUNDS, defences=defences)
    result = run(table, made, [protocol(name) for name in HONEST], options)
    cpu = time.process_time() - begun
    # What a sum tells does not change from round to round, and with noise it tells less.
    few = 1 if defences.secure_sum else 2 if defences.noise else SEEN
    attacked = row not in ("sum-1", "sum-4")
    attacks: dict[str, Any] = {}
    if attacked:
        rows = touched_rows.run(table, made, defences, rounds=few, seed=seed)
        members = membership.run(table, made, defences, seed=seed)
        attacks = {"touched_rows": rows.to_json(), "membership": members.to_json()}
    up = sum(one.up for one in result.rounds) / sum(one.clients for one in result.rounds)
    return {
        "data": data, "row": row, "seed": seed, "cpu": cpu, "up": up,
        "ndcg@10": {name: result.outcomes[name].best.test["ndcg@10"] for name in HONEST},
        "hr@10": {name: result.outcomes[name].best.test["hr@10"] for name in HONEST},
        "privacy": result.privacy, **attacks,
    }  # fmt: skip


def floor(data: str) -> dict[str, float]:
    """NDCG@10 of popularity."""
    rules = [protocol(name) for name in HONEST]
    found = run(interactions(data), recipe("popularity"), rules)
    return {name: found.outcomes[name].best.test["ndcg@10"] for name in HONEST}


def told_epsilon(one: Mapping[str, Any]) -> str:
    """Over the run, as printed."""
    if "epsilon" not in one["privacy"]:
        return "–"
    value = one["privacy"]["epsilon"]
    return "> 500" if value is None else f"{value:.3g}"


def line(one: Mapping[str, Any]) -> list[str]:
    """A row of the table."""
    guessed = ["", "", ""]
    if "touched_rows" in one:
        steps = one["touched_rows"]["steps"]
        # Under noise all rows change in all rounds, and under a secure sum none is seen.
        shown = [steps[0], steps[2], steps[-1]] if len(steps) == SEEN else steps[:1]
        guessed = [
            " / ".join(f"{step['rows']['f1']:.2f}" for step in shown),
            f"{steps[-1]['popular']['f1']:.2f}",
            f"{one['membership']['found']['f1']:.2f}",
        ]
    return [
        one["data"], ROWS[one["row"]][0], told_epsilon(one),
        *(f"{one['ndcg@10'][name]:.3f}" for name in HONEST),
        *guessed, f"{one['up'] / 1024:.0f}",
    ]  # fmt: skip


def bars(cells: Sequence[Mapping[str, Any]]) -> list[Bar]:
    """What a defence must keep, and what it must take from the attacks."""
    by = {(one["data"], one["row"]): one for one in cells}
    out = []
    for data in dict.fromkeys(one["data"] for one in cells):
        if not {(data, row) for row in ("none", "kept", "sum")} <= by.keys():
            continue
        plain, kept, summed = (by[data, row] for row in ("none", "kept", "sum"))
        ratio = min(summed["ndcg@10"][r] / plain["ndcg@10"][r] for r in HONEST)
        out.append(Bar(f"{data}: NDCG@10 under a secure sum, in times that without", ratio, 0.999))
        before, after = (x["touched_rows"]["steps"][-1]["rows"]["f1"] for x in (plain, kept))
        out.append(Bar(f"{data}: F1 of touched rows, times less with kept", before / after, 2.5))
        before, after = (x["membership"]["found"]["f1"] for x in (plain, kept))
        out.append(Bar(f"{data}: F1 of membership, times less with kept", before / after, 2.0))
        ratio = kept["ndcg@10"]["full-ranking"] / plain["ndcg@10"]["full-ranking"]
        out.append(Bar(f"{data}: full-ranking NDCG@10 kept with kept pseudo-items", ratio, 0.8))
    return out


def result(cells: Sequence[Mapping[str, Any]], floors: Mapping[str, Mapping[str, float]]) -> Result:
    """What is published."""
    popular = "; ".join(
        f"{data} {floors[data]['honest-sampled']:.3f} and {floors[data]['full-ranking']:.3f}"
        for data in floors
    )
    blind = {
        one["data"]: one["touched_rows"]["blind"]["f1"] for one in cells if "touched_rows" in one
    }
    guess = "; ".join(f"{data} {value:.2f}" for data, value in blind.items())
    there = {(one["data"], one["row"]) for one in cells}
    missing = [f"{d} {ROWS[row][0]}" for d in floors for row in ROWS if (d, row) not in there]
    return Result(
        name="fedrec_privacy",
        title="Defences of federated uploads: what they cost, what a server still learns",
        summary=(
            f"FedAvg with FCF, first embeddings N(0, 0.1^2), {ROUNDS} rounds, one seed; NDCG@10 on "
            f"test under the two honest protocols (popularity, which needs one sum: {popular}). "
            f"Clips of {CLIP:g}; 4 pseudo-items a training item; epsilon over all rounds at delta "
            "1e-5. Attacks on 200 clients, F1: the rows that changed in all of 1, of 3 and of "
            f"{SEEN} rounds; of the last as many as the client has items, the most popular "
            f"(without any upload: {guess}); membership inference on the first upload. Under a "
            "secure sum there is no upload: what is guessed is what most clients touched. The "
            "words of the secure sum are added up without masks, which cancel to the last bit. "
            + (f"Not run: {', '.join(missing)}." if missing else "")
        ),
        bars=bars(cells),
        columns=[
            "data", "defence", "epsilon", *(f"NDCG@10 {name}" for name in HONEST),
            f"touched rows, 1 / 3 / {SEEN} rounds", "most popular of these", "membership",
            "KiB up a round",
        ],
        rows=[line(one) for one in cells],
        raw={"cells": list(cells), "floors": dict(floors), "settings": asdict(Defences())},
        machine=machine_facts(),
        versions=versions("numpy", "numba", "cryptography"),
    )  # fmt: skip


def main() -> int:
    """Run what is not there; publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=",".join(DATA))
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--only-sum", action="store_true", help="run nothing, publish")
    given = parser.parse_args()
    work = Path(os.environ.get("ISTHMUS_BENCH_WORK", "runs")) / "fedrec_privacy"
    work.mkdir(parents=True, exist_ok=True)
    floors = {data: floor(data) for data in given.data.split(",")}
    for data in floors:
        for row in given.rows.split(","):
            path = work / f"{data}-{row}.json"
            if not path.exists() and not given.only_sum:
                write_json(path, cell(data, row, 0))
                print(*line(json.loads(path.read_text())), flush=True)
    cells = [json.loads(one.read_text()) for data in floors for row in ROWS
             if (one := work / f"{data}-{row}.json").exists()]  # fmt: skip
    publish(result(cells, floors))
    return 0


if __name__ == "__main__":
    sys.exit(main())
