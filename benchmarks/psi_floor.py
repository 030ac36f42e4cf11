"""Alignment by ECDH over TLS, against what its scalar multiplications alone cost on all cores.

make bench NAME=psi_floor
make bench NAME=psi_floor ARGS='--ids 100000 --repeats 3'
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.align_kkrt import make_identities, run_pair
from benchmarks.harness import Bar, Result, machine_facts, publish, versions

OVER_FLOOR = 1.3
TITLE = "Private set intersection by ECDH over TLS against its scalar multiplications"
SUMMARY = """\
Two processes on one machine, one a party, joined by the TLS link, each with the same number of ids,
text of 18 characters, half of them in common, and with as many child processes as there are cores.
Each party multiplies its own points and its partner's by its secret: with n ids a side, 4n
multiplications that the protocol cannot do without. The floor is the time that these take with
nothing round them: the same library's X25519 in a loop, in one process for each core at once,
measured before and after, the faster of the two taken. Hashing the ids to the curve, orders,
messages, TLS and matching make up the rest. The bar: the whole of `align` at the slower party in at
most 1.3 times the floor, so that floor over time is at least 0.769; it cannot pass 1."""

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
    parser.add_argument("--ids", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=1)
    args = parser.parse_args()
    machine = machine_facts()
    cores = len(os.sched_getaffinity(0))
    floors, runs = [_multiplications_per_second(cores)], []
    with tempfile.TemporaryDirectory() as temporary:
        make_identities(Path(temporary))
        for _ in range(args.repeats):
            runs.append(run_pair("ecdh", args.ids, Path(temporary)))
            floors.append(_multiplications_per_second(cores))
    publish(_result(args.ids, floors, runs, machine))


def _multiplications_per_second(processes: int, count: int = 150_000) -> float:
    command = [sys.executable, "-c", LOOP, str(count)]
    children = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)
    ]
    return sum(count / float(child.communicate()[0]) for child in children)


def _result(
    count: int, floors: list[float], runs: list[dict[str, Any]], machine: dict[str, Any]
) -> Result:
    rate, best = max(floors), min(runs, key=lambda run: float(run["seconds"]))
    floor, seconds = 4 * count / rate, best["seconds"]
    return Result(
        name="psi_floor",
        title=TITLE,
        summary=SUMMARY,
        bars=[Bar("floor over time", floor / seconds, round(1 / OVER_FLOOR, 4))],
        columns=["ids a side", "multiplications/s", "floor s", "ours s", "ours / floor", "MB"],
        rows=[
            [
                f"{count:,}",
                f"{rate:,.0f}",
                f"{floor:.1f}",
                f"{seconds:.1f}",
                f"{seconds / floor:.2f}",
                f"{best['bytes'] / 1e6:.0f}",
            ]
        ],
        raw={"ids": count, "runs": runs, "multiplications_per_second": floors},
        machine=machine,
        versions=versions("cryptography", "gmpy2", "numpy"),
    )


if __name__ == "__main__":
    main()
