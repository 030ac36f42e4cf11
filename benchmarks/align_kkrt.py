"""Alignment of a million ids a side by oblivious transfer, over TLS, beside ECDH in the same run.

make bench NAME=align_kkrt
"""

from __future__ import annotations

import argparse
import json
import resource
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.harness import Bar, Result, machine_facts, publish, versions
from isthmus.align import align
from isthmus.link import create_identity, open_links, trust
from isthmus.session import Session

HERE, THERE = "alice", "bob"
SECONDS = 6.0
TITLE = "Private set intersection over TLS: oblivious transfer beside Diffie-Hellman"
SUMMARY = """\
Two processes on one machine, one a party, joined by the TLS link, each with the same number of
ids, text of 18 characters, half of them in common. The time is that of `align` from beginning to
end at the slower party: reading the ids, the protocol, the agreed order. `kkrt` works in each
party's own process, on one core; `ecdh` has both cores' worth of child processes at each party.
The bytes are those of all messages both ways. The bar: a million ids a side by `kkrt`, the median
of the repeats, in under 6 s on two cores (the ratio is 6 s over the time). `ecdh` runs once a
size."""


def main() -> None:
    """Measure both protocols at each size, or be one of the parties."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ids", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--party", choices=[HERE, THERE], help=argparse.SUPPRESS)
    parser.add_argument("--protocol", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.party:
        print(json.dumps(_be(args.party, args.protocol, args.ids[0], args.folder, args.port)))
    else:
        publish(_measure(args.ids, args.repeats))


def _measure(sizes: list[int], repeats: int) -> Result:
    machine = machine_facts()
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_identities(folder)
        for count in sizes:
            for protocol, times in (("kkrt", repeats), ("ecdh", 1)):
                runs += [run_pair(protocol, count, folder) for _ in range(times)]
    return _result(runs, max(sizes), machine)


def make_identities(folder: Path) -> None:
    """Two parties that trust each other."""
    made = {name: create_identity(folder / name, name, days=2) for name in (HERE, THERE)}
    trust(folder / HERE, made[THERE].certificate_path)
    trust(folder / THERE, made[HERE].certificate_path)


def run_pair(protocol: str, count: int, folder: Path) -> dict[str, Any]:
    """Align once in two processes over TLS; what it took."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [sys.executable, "-m", "benchmarks.align_kkrt", "--protocol", protocol]
    command += ["--ids", str(count), "--folder", str(folder), "--port", port]
    parties = [
        subprocess.Popen([*command, "--party", party], stdout=subprocess.PIPE, text=True)
        for party in (THERE, HERE)
    ]
    label, feature = (json.loads(party.communicate()[0]) for party in parties)
    if not label["common"] == feature["common"] == count - count // 2:
        raise AssertionError("the alignment is wrong")
    return {
        "protocol": protocol,
        "ids": count,
        "seconds": max(label["seconds"], feature["seconds"]),
        "cpu_seconds": [label["cpu_seconds"], feature["cpu_seconds"]],
        "peak_mib": [label["peak_mib"], feature["peak_mib"]],
        "bytes": label["sent"] + feature["sent"],
    }


def _be(party: str, protocol: str, count: int, folder: Path, port: int) -> dict[str, Any]:
    """Be one party; what it took."""
    numbers = np.random.default_rng(0).choice(2**40, size=count + count // 2, replace=False)
    own = (
        numbers[:count] if party == HERE else np.random.default_rng(1).permutation(numbers[-count:])
    )
    ids = pl.Series("id", own).cast(pl.String).str.zfill(18)
    partner, dial = (THERE, f"127.0.0.1:{port}") if party == HERE else (HERE, None)
    listen = None if dial else f"127.0.0.1:{port}"
    links = open_links(folder / party, party, {partner: dial}, listen=listen, context="bench")
    session = Session(me=party, parties=(HERE, THERE), label_party=THERE, links=links)
    with links[partner] as link:
        link.send("ready")
        link.recv("ready")
        begin, cpu = time.perf_counter(), _cpu_seconds()
        found = align(session, ids, protocol=protocol)
        seconds, cpu = time.perf_counter() - begin, _cpu_seconds() - cpu
        return {
            "seconds": seconds,
            "cpu_seconds": cpu,
            "common": found.entities,
            "sent": link.meter.total().sent_bytes,
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }


def _cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in spent)


def _result(runs: list[dict[str, Any]], largest: int, machine: dict[str, Any]) -> Result:
    groups: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for run in runs:
        groups.setdefault((run["ids"], run["protocol"]), []).append(run)
    medians = {
        key: sorted(group, key=lambda run: float(run["seconds"]))[len(group) // 2]
        for key, group in groups.items()
    }
    return Result(
        name="align_kkrt",
        title=TITLE,
        summary=SUMMARY,
        bars=[
            Bar(
                f"{SECONDS:.0f} s over the time of kkrt at {largest:,} ids a side",
                SECONDS / medians[largest, "kkrt"]["seconds"],
                1.0,
            )
        ],
        columns=[
            "ids a side",
            "protocol",
            "seconds",
            "CPU s, label + feature party",
            "MB",
            "peak MiB",
        ],
        rows=[_row(run) for run in medians.values()],
        raw={"runs": runs},
        machine=machine,
        versions=versions("cryptography", "gmpy2", "numpy", "pynacl"),
    )


def _row(run: dict[str, Any]) -> list[str]:
    return [
        f"{run['ids']:,}",
        run["protocol"],
        f"{run['seconds']:.2f}",
        " + ".join(f"{seconds:.1f}" for seconds in run["cpu_seconds"]),
        f"{run['bytes'] / 1e6:.1f}",
        ", ".join(f"{peak:.0f}" for peak in run["peak_mib"]),
    ]


if __name__ == "__main__":
    main()
