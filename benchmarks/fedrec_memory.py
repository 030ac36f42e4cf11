"""Peak memory of algorithms that hold a table for each client, with all clients of MovieLens-1M.

    python -m benchmarks.fedrec_memory --algorithms pfedgraph,fedem

Each runs in a process of its own, whose peak is read at its end; what was measured is kept in
$ISTHMUS_BENCH_WORK/fedrec_memory and published once all are there.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.environments import WORK
from benchmarks.harness import Bar, Result, machine_facts, publish, versions
from isthmus.fedrec import RunOptions, interactions, protocol, recipe, run
from isthmus.files import write_json

ALGORITHMS = ("pfedgraph", "gpfedrec", "fedrap", "pfedmoe", "cofedrec", "fedem")
LIMIT = 5.0
"""GB, of a process."""
COPY = 4
"""Bytes of a number of a table."""


def child(name: str, rounds: int) -> dict[str, Any]:
    """One algorithm in this process."""
    data, made = interactions("ml-1m"), recipe(name, None, {})
    rules = [protocol("honest-sampled"), protocol("full-ranking")]
    done = run(data, made, rules, RunOptions(rounds=rounds, every=rounds))
    dim = int(made.values()["dim"])
    return {
        "rounds": rounds,
        "dim": dim,
        "table_gb": round(data.users * data.items * dim * COPY / 1e9, 2),
        "cpu": round(time.process_time(), 1),
        "round_seconds": [round(one.seconds, 1) for one in done.rounds],
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2),
        "load": round(os.getloadavg()[0], 2),
        "test": {one: found.judgements[-1].test for one, found in done.outcomes.items()},
    }


def result(parts: dict[str, Any]) -> Result:
    """What is published."""
    largest = max(part["peak_gb"] for part in parts.values())
    return Result(
        name="fedrec_memory",
        title="Algorithms with a table for each client: peak memory with all of MovieLens-1M",
        summary=(
            "6,040 clients, 3,706 items, one thread, default numbers; the last round is judged "
            "under both honest protocols. A table for each client is clients x items x dim floats; "
            "the peak is that of the whole process, data and judging included, with chunks of "
            "clients of at most 1 GiB. A load above 1 says that other work ran: then processor "
            "seconds tell more than a round's."
        ),
        bars=[Bar(f"{LIMIT:g} GB over the largest peak", round(LIMIT / largest, 2), 1.0)],
        columns=["algorithm", "dim", "GB a table each", "peak GB", "copies", "rounds",
                 "seconds a round", "cpu seconds, all", "load"],
        rows=[
            [
                name, str(part["dim"]), f"{part['table_gb']:.2f}", f"{part['peak_gb']:.2f}",
                f"{part['peak_gb'] / part['table_gb']:.1f}", str(part["rounds"]),
                f"{max(part['round_seconds']):.0f}", f"{part['cpu']:.0f}", f"{part['load']:.1f}",
            ]
            for name, part in parts.items()
        ],
        raw=parts,
        machine=machine_facts(),
        versions=versions("numba", "numpy"),
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what was asked for, publish when all are there."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--algorithms", default="", help="measured anew; none: publish")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.child:
        print(json.dumps(child(chosen.child, chosen.rounds)))
        return
    kept = WORK / "fedrec_memory"
    kept.mkdir(parents=True, exist_ok=True)
    for name in filter(None, chosen.algorithms.split(",")):
        command = [sys.executable, "-m", "benchmarks.fedrec_memory", "--child", name]
        done = subprocess.run(
            [*command, "--rounds", str(chosen.rounds)], check=True, stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        part = json.loads(done.stdout.splitlines()[-1])
        write_json(kept / f"{name}.json", part)
        print(name, part, flush=True)
    parts = {one: kept / f"{one}.json" for one in ALGORITHMS if (kept / f"{one}.json").exists()}
    if len(parts) == len(ALGORITHMS):
        publish(result({one: json.loads(path.read_text()) for one, path in parts.items()}))


if __name__ == "__main__":
    main()
