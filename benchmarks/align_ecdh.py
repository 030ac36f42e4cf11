"""Alignment of 100,000 ids a side by ECDH, against what its scalar multiplications alone cost.

make bench NAME=align_ecdh
make bench NAME=align_ecdh ARGS='--ids 1000000'
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from typing import Any

import numpy as np

from benchmarks.harness import Bar, Result, machine_facts, publish, versions
from isthmus.align import Alignment, align
from isthmus.session import Session, run_parties

TITLE = "Private set intersection by ECDH against its scalar multiplications"
SUMMARY = """\
Two parties with the same number of ids, half of them in common, each with its share of the cores as
worker processes; the link is in memory. Each party multiplies its own points and its partner's by
its secret: with n ids a side, 4n multiplications that the protocol cannot do without. The floor is
the time that these take with nothing round them (the same library's X25519 in a loop, in as many
processes at once). Hashing the ids to the curve, sorting, messages and matching make up the rest.
The ratio is floor over time and cannot pass 1."""

LOOP = """
import sys, time
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
count = int(sys.argv[1])
secret = X25519PrivateKey.generate()
points = [X25519PrivateKey.generate().public_key().public_bytes_raw() for _ in range(1000)]
load, exchange = X25519PublicKey.from_public_bytes, secret.exchange
begin = time.perf_counter()
for i in range(count):
    exchange(load(points[i % 1000]))
print(time.perf_counter() - begin)
"""


def main() -> None:
    """Measure the floor, the alignment, the floor again; publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ids", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    machine = machine_facts()
    cores = len(os.sched_getaffinity(0))
    floors, times = [_multiplications_per_second(cores)], []
    for repeat in range(args.repeats):
        times.append(_align_seconds(args.ids, max(1, cores // 2), repeat))
        floors.append(_multiplications_per_second(cores))
    publish(_result(args.ids, floors, times, machine))


def _multiplications_per_second(processes: int, count: int = 40_000) -> float:
    command = [sys.executable, "-c", LOOP, str(count)]
    children = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)
    ]
    return sum(count / float(child.communicate()[0]) for child in children)


def _align_seconds(count: int, workers: int, seed: int) -> float:
    rng = np.random.default_rng(seed)
    ids = rng.choice(2**40, size=count + count // 2, replace=False)
    sides = {"alice": ids[:count], "bob": rng.permutation(ids[count // 2 :])}

    def program(session: Session) -> Alignment:
        return align(session, sides[session.me], workers=workers)

    begin = time.perf_counter()
    found = run_parties(dict.fromkeys(sides, program), label_party="bob", seed=seed)
    seconds = time.perf_counter() - begin
    if not all(alignment.entities == count - count // 2 for alignment in found.values()):
        raise AssertionError("the alignment is wrong")
    return seconds


def _result(count: int, floors: list[float], times: list[float], machine: dict[str, Any]) -> Result:
    rate, best = max(floors), min(times)
    floor = 4 * count / rate
    return Result(
        name="align_ecdh",
        title=TITLE,
        summary=SUMMARY,
        bars=[Bar("floor over time", floor / best, 0.6)],
        columns=["ids a side", "multiplications/s", "floor s", "ours s", "ids a second"],
        rows=[
            [f"{count:,}", f"{rate:,.0f}", f"{floor:.2f}", f"{best:.2f}", f"{count / best:,.0f}"]
        ],
        raw={"ids": count, "seconds": times, "multiplications_per_second": floors},
        machine=machine,
        versions=versions("cryptography", "numpy"),
    )


if __name__ == "__main__":
    main()
