"""Ordered pairs beside EASE, PFedRec, FedAvg and the floors under the two honest protocols.

    python -m benchmarks.fedrec_own_method --data filmtrust,ml-100k --seeds 3

Every cell is kept in $ISTHMUS_BENCH_WORK/fedrec_own_method, so that the same command goes on where
it was stopped; `--only-sum` publishes what is there. Test items are looked at once a cell, by a
method whose numbers and whose round were chosen on validation.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Bar, Result, machine_facts, publish, versions
from isthmus.fedrec import interactions, make_task, protocol, recipe
from isthmus.fedrec.algorithms.ordered_pairs import OrderedPairs, Settings, epsilon_of
from isthmus.fedrec.evaluate import metrics, ranks
from isthmus.fedrec.method import Method, Score
from isthmus.fedrec.population import Longs
from isthmus.fedrec.protocols import PARTS, Exam, Part, exams
from isthmus.fedrec.task import Task
from isthmus.files import write_json

DATA = ("filmtrust", "ml-100k", "ml-1m", "microlens-50k")
HONEST = ("honest-sampled", "full-ranking")
OWN = "ordered-pairs"
EASE = "ordered-pairs+blend=1+broad=0"
ROWS = {
    OWN: "Ordered pairs",
    EASE: "EASE, ridge chosen on validation",
    "ease": "EASE, ridge 300",
    "ease+ridge=100": "EASE, ridge 100",
    "ease+ridge=30": "EASE, ridge 30",
    "item-knn": "Item-kNN",
    "popularity": "Popularity",
    "gfcf": "GF-CF on secure sums",
    "fedcia-model-free": "FedCIA without a model",
    "fedcia": "FedCIA",
    "pfedrec": "PFedRec",
    "fedavg": "FedAvg",
    "fedavgm": "FedAvg with server momentum",
    "fedadam": "FedAdam",
    "fedprox": "FedProx",
    "row-wise": "Row-wise averaging",
    "fcf-als": "FCF, alternating least squares",
    "fedatt": "FedAtt",
    "fedfast": "FedFast",
    "perfedrec": "PerFedRec",
    "pfedgraph": "pFedGraph",
    "fedca": "FedCA",
    "gpfedrec": "GPFedRec",
    "fedrap": "FedRAP",
    "fedem": "FedEM",
    "cofedrec": "CoFedRec",
    "pfedmoe": "pFedMoE",
    "da-pfl": "DA-PFL",
    "ordered-pairs+broad=0": "without the low-pass filter",
    "ordered-pairs+blend=0": "without EASE",
    "ordered-pairs+decay=0": "the last item alone for a history",
    "ordered-pairs+ordered_ridge=300+both_ridge=300+blend=0.4": "nothing chosen on validation",
    "ordered-pairs+whole_items=1": "sketch and one Jacobi step",
    "ordered-pairs+clip=20": "each client clipped to 20",
    "ordered-pairs+clip=20+noise=0.1": "clipped to 20, noise 0.1",
    "ordered-pairs+clip=20+noise=1": "clipped to 20, noise 1",
}
PLAIN_EASE = ("ease", "ease+ridge=100", "ease+ridge=30")
SKETCHED = "microlens-50k"
RIVALS = tuple(row for row in ROWS if "ease" not in row and "ordered" not in row)
OWN_TABLES = ("pfedgraph", "fedca", "fedem", "da-pfl")
"""They keep a table a client, 61 GB on MicroLens."""
EVERY = 5
"""Rounds between two looks at validation, for methods of many rounds."""
JUDGED = 5000
"""Clients that are judged, drawn if there are more; all of them train."""


def cell(data: str, row: str, seed: int) -> dict[str, Any]:
    """Train one row, choose on validation, judge once on test."""
    name, *sets = row.split("+")
    values = {key: float(value) for key, value in (one.split("=") for one in sets)}
    whole = {"whole_items": int(values["whole_items"])} if "whole_items" in values else {}
    made = recipe(name, None, values | whole)
    task = make_task(interactions(data), protocol("full-ranking"), seed)
    begun = time.process_time()
    method = made.build(task)
    count = task.population.clients
    some = np.arange(count)
    if count > JUDGED:
        some = np.sort(np.random.default_rng(seed).choice(count, JUDGED, replace=False))
    rounds = made.algorithm.rounds
    best: dict[str, Any] = {}
    up = down = 0
    for number in range(1, rounds + 1):
        judged = _Judged(task, seed, some, look=number % EVERY == 0 or number == rounds)
        report = method.round(number, judged)
        up, down = up + report.up, down + report.down
        for rules, found in judged.rest(method).items():
            if rules not in best or found["valid"]["ndcg@10"] > best[rules]["valid"]["ndcg@10"]:
                best[rules] = found | {"round": number}
    return {
        "data": data, "row": row, "seed": seed, "clients": len(some), "found": best,
        "up": up / count, "down": down / count, "cpu": time.process_time() - begun,
        "chosen": method.chosen.tolist() if isinstance(method, OrderedPairs) else None,
    }  # fmt: skip


class _Judged:
    """Ranks of the judged clients in one round, whenever the method has them ready."""

    def __init__(self, task: Task, seed: int, some: Longs, *, look: bool) -> None:
        self.task, self.some, self.look = task, some, look
        self.left = np.ones(task.population.clients, bool)
        self.ranks: dict[tuple[str, Part], list[Longs]] = {}
        self.exams: dict[str, dict[Part, Exam]] = {}
        if look:
            self.exams = {one: exams(protocol(one), task.population, seed) for one in HONEST}

    def __call__(self, clients: Longs, score: Score) -> None:
        if not self.look:
            return
        wanted = np.intersect1d(clients[self.left[clients]], self.some)
        self.left[wanted] = False
        for name, parts in self.exams.items():
            for part in PARTS:
                found = ranks(self.task, protocol(name), parts[part], wanted, score)
                self.ranks.setdefault((name, part), []).append(found)

    def rest(self, method: Method) -> dict[str, dict[str, Any]]:
        """All metrics, those judged now that were not judged in the round."""
        if not self.look:
            return {}
        self(self.some, method.score)
        return {
            name: {part: metrics(np.concatenate(self.ranks[name, part])) for part in PARTS}
            for name in HONEST
        }


def path_of(work: Path, data: str, row: str, seed: int) -> Path:
    """Where a cell is kept."""
    return work / data / f"{row}-{seed}.json"


def kept(work: Path) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """All cells by data set and row, in the order of the tables."""
    out: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for data in DATA:
        for row in ROWS:
            paths = sorted(work.joinpath(data).glob(f"{row}-[0-9].json"))
            if paths:
                out.setdefault(data, {})[row] = [json.loads(one.read_text()) for one in paths]
    return out


def figure(cells: Sequence[Mapping[str, Any]], rules: str, metric: str) -> float:
    """The mean over seeds, on test."""
    return float(np.mean([one["found"][rules]["test"][metric] for one in cells]))


def text(cells: Sequence[Mapping[str, Any]], rules: str) -> str:
    """HR@10 / NDCG@10 on test, with the deviation over seeds where there are several."""
    parts = []
    for metric in ("hr@10", "ndcg@10"):
        values = [one["found"][rules]["test"][metric] for one in cells]
        spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
        parts.append(f"{np.mean(values):.3f}{spread}")
    return " / ".join(parts)


def lines(found: Mapping[str, Mapping[str, list[dict[str, Any]]]]) -> Iterator[list[str]]:
    """The table."""
    for data, rows in found.items():
        for row, cells in rows.items():
            moved = f"{cells[0]['up'] / 1e6:.1f} / {cells[0]['down'] / 1e6:.1f}"
            yield [data, ROWS[row], str(len(cells)), *(text(cells, r) for r in HONEST), moved]


def bars(found: Mapping[str, Mapping[str, list[dict[str, Any]]]]) -> list[Bar]:
    """Against EASE where it was run, and against the best other federated method or floor."""
    out = []
    for data, rows in found.items():
        if OWN not in rows:
            continue
        for rules in HONEST:
            ours = figure(rows[OWN], rules, "ndcg@10")
            exact = [one for one in (EASE, *PLAIN_EASE) if one in rows]
            if data == SKETCHED:  # blend=1 is one step towards EASE there, and not EASE
                exact = [one for one in exact if one != EASE]
            if exact:
                best = max(figure(rows[one], rules, "ndcg@10") for one in exact)
                out.append(Bar(f"{data}, {rules}: NDCG@10 in times EASE's", ours / best, 0.9))
            others = [figure(rows[one], rules, "ndcg@10") for one in RIVALS if one in rows]
            if others:
                name = f"{data}, {rules}: NDCG@10 in times the best other's"
                out.append(Bar(name, ours / max(others), 1.0))
    return out


def result(found: Mapping[str, Mapping[str, list[dict[str, Any]]]]) -> Result:
    """What is published."""
    missing = {
        data: "; ".join(ROWS[row] for row in ROWS if row not in found.get(data, {}))
        for data in DATA
    }
    left = " ".join(f"Not run on {data}: {rows}." for data, rows in missing.items() if rows)
    tenth = epsilon_of(Settings(clip=20, noise=0.1))
    one = epsilon_of(Settings(clip=20, noise=1.0))
    return Result(
        name="fedrec_own_method",
        title="Ordered pairs, one round of secure sums, beside other federated recommenders",
        summary=(
            "HR@10 / NDCG@10 on test, mean and standard deviation over seeds where there are "
            "several; numbers and rounds chosen on validation (a look every 5 rounds, or more "
            "often). MicroLens: "
            f"{JUDGED} clients drawn are judged, all train, and pairs go through the sketch, so "
            "that 'EASE' there is one Jacobi step towards it. Bytes are MB a client, up / down, "
            "all rounds together; what is downloaded to judge candidates is shared among all. "
            f"Noise 0.1 is epsilon {tenth:.0f}, noise 1 epsilon {one:.1f}, at delta 1e-5, for "
            f"whole clients. The methods of the FedCA paper are in the table of that name. {left}"
        ),
        bars=bars(found),
        columns=["data", "method", "seeds", *HONEST, "MB up / down"],
        rows=list(lines(found)),
        raw={"cells": [one for rows in found.values() for cells in rows.values() for one in cells]},
        machine=machine_facts(),
        versions=versions("numpy", "numba"),
    )


def main() -> int:
    """Run what is not there; publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=",".join(DATA))
    parser.add_argument("--rows", default=";".join(ROWS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only-sum", action="store_true", help="run nothing, publish")
    parser.add_argument("--only-run", action="store_true", help="publish nothing")
    given = parser.parse_args()
    work = Path(os.environ.get("ISTHMUS_BENCH_WORK", "runs")) / "fedrec_own_method"
    wanted = [] if given.only_sum else given.rows.split(";")
    for seed in range(given.seeds):
        for data in given.data.split(","):
            for row in wanted:
                path = path_of(work, data, row, seed)
                if not path.exists() and not (data == SKETCHED and row in OWN_TABLES):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    write_json(path, cell(data, row, seed))
                    print(data, row, seed, flush=True)
    if not given.only_run:
        publish(result(kept(work)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
