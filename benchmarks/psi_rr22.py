"""Alignment by RR22 over TLS beside `spu`, which it runs, called bare, in the same run.

make bench NAME=psi_rr22
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.align_kkrt import make_identities, run_pair
from benchmarks.environments import WORK, environment, pip
from benchmarks.harness import Bar, Result, machine_facts, publish, versions
from isthmus.align.rr22_spu import VARIABLE

OVER_BARE = 1.5
PEER = Path(__file__).parent / "peers" / "spu_rr22.py"
REQUIREMENTS = Path(__file__).parents[1] / "integrations" / "spu" / "requirements.txt"
TITLE = "Private set intersection by RR22 over TLS beside spu called bare"
SUMMARY = """\
Two processes on one machine, one a party, each with the same number of ids, text of 18 characters,
half of them in common. Bare: `spu` 0.9.5 in both, joined by its own link on loopback without TLS;
the clock runs over its call alone, from the end of importing and connecting, with the ids in CSV
files that are there already, in memory where the machine has such a folder; unique keys, one side
gets the result, and it is not sorted. Ours: the whole of `align` with `protocol="rr22"` at the
slower party, over our TLS link: reading and naming the ids, starting `spu` in a process of its own,
writing its file, the same protocol by it, telling the partner, the agreed order; both parties have
the result. They take turns; the time is the median. The bar: ours takes at most 1.5 times as long,
so that bare over ours is at least 0.667. The bytes are those of all messages both ways."""


def main() -> None:
    """Measure both in turns and publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ids", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--python", default="python3.11", help="interpreter for spu")
    args = parser.parse_args()
    python = environment(WORK / "spu", args.python, lambda made: pip(made, "-r", str(REQUIREMENTS)))
    os.environ[VARIABLE] = str(python)
    machine = machine_facts()
    bare, ours = [], []
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as temporary:
        folder = Path(temporary)
        make_identities(folder)
        for _ in range(args.repeats):
            bare.append(_run_bare(python, args.ids, folder))
            ours.append(run_pair("rr22", args.ids, folder))
    publish(_result(args.ids, bare, ours, machine))


def _run_bare(python: Path, count: int, folder: Path) -> dict[str, Any]:
    """`spu` once in two processes; what it took."""
    ports = [str(port) for port in _free_ports()]
    parties = []
    for rank in (0, 1):
        ids = folder / f"ids{rank}.csv"
        # A file that it has not seen: it keeps what it found about one beside it.
        ids.with_name(f"{ids.name}.meta").unlink(missing_ok=True)
        _ids(rank, count).to_frame().write_csv(ids)
        command = [python, PEER, str(rank), *(ports if rank == 0 else ports[::-1]), ids]
        parties.append(
            subprocess.Popen(
                [*command, folder / f"found{rank}.csv"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "TMPDIR": str(folder)},
                text=True,
            )
        )
    for party in parties:
        assert party.stdout is not None
        if party.stdout.readline() != "ready\n":
            raise RuntimeError("spu does not run")
    for party in parties:
        assert party.stdin is not None
        party.stdin.write("go\n")
        party.stdin.flush()
    receiver, sender = (json.loads(party.communicate()[0]) for party in parties)
    if receiver["common"] != count - count // 2:
        raise AssertionError("the intersection is wrong")
    return {
        "seconds": max(receiver["seconds"], sender["seconds"]),
        "cpu_seconds": [receiver["cpu_seconds"], sender["cpu_seconds"]],
    }


def _ids(rank: int, count: int) -> pl.Series:
    """The same as those of `align_kkrt`."""
    numbers = np.random.default_rng(0).choice(2**40, size=count + count // 2, replace=False)
    own = np.random.default_rng(1).permutation(numbers[-count:]) if rank == 0 else numbers[:count]
    return pl.Series("id", own).cast(pl.String).str.zfill(18)


def _free_ports() -> list[int]:
    with socket.socket() as one, socket.socket() as two:
        for probe in (one, two):
            probe.bind(("127.0.0.1", 0))
        return [one.getsockname()[1], two.getsockname()[1]]


def _median(runs: list[dict[str, Any]]) -> dict[str, Any]:
    return sorted(runs, key=lambda run: float(run["seconds"]))[len(runs) // 2]


def _result(
    count: int, bare: list[dict[str, Any]], ours: list[dict[str, Any]], machine: dict[str, Any]
) -> Result:
    plain, own = _median(bare), _median(ours)
    return Result(
        name="psi_rr22",
        title=TITLE,
        summary=SUMMARY,
        bars=[Bar("bare over ours", plain["seconds"] / own["seconds"], round(1 / OVER_BARE, 4))],
        columns=["", "ids a side", "seconds", "CPU s, label + feature party", "MB"],
        rows=[_row("spu, bare", count, plain), _row("align, rr22", count, own)],
        raw={"ids": count, "bare": bare, "ours": ours},
        machine=machine,
        versions={**versions("cryptography", "numpy", "polars"), "spu": "0.9.5"},
    )


def _row(name: str, count: int, run: dict[str, Any]) -> list[str]:
    return [
        name,
        f"{count:,}",
        f"{run['seconds']:.2f}",
        " + ".join(f"{seconds:.1f}" for seconds in run["cpu_seconds"]),
        f"{run['bytes'] / 1e6:.1f}" if "bytes" in run else "",
    ]


if __name__ == "__main__":
    main()
