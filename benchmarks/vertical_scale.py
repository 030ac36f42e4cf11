"""What each step of a job on tables costs at two parties with up to a million common rows.

make bench NAME=vertical_scale

Jobs that were run are kept under the work folder and not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.environments import WORK
from benchmarks.harness import Bar, Result, machine_facts, publish, versions
from isthmus.jobs.events import Event
from isthmus.jobs.job import load_job
from isthmus.jobs.launcher import Launch, launch

NAME = "vertical_scale"
BANK, SHOP = "bank", "shop"
PARTIES = (BANK, SHOP)
LIMIT_GB = 4.0
FLOATS, WHOLE, TOWNS = 10, 6, 4
"""Columns of each kind at each party."""
MANY = 200_000
"""Rows above which there are fewer trees: what they take is shown by tree."""
_TICKS = os.sysconf("SC_CLK_TCK")
TITLE = "A million common rows through every step of a job on tables"
SUMMARY = """\
Two parties with made-up tables of 20 columns each: ten of decimal numbers, six of small whole
numbers, four of categories, gaps in a fifth of them; a label of one in eight at the bank; a
twentieth of the rows of each table is in no other. Each job runs as `isthmus run` runs it: a
process a party, mutually authenticated TLS on loopback. `scorecard`: alignment by kkrt, profile,
bins and WOE, correlation and three principal components of the WOE, logistic regression by vectors
with its scorecard, evaluation and predictions of all rows with three reasons each. `moments`:
logistic regression by moments on the sixteen columns of numbers themselves. `trees`: of depth 5, 20
of them at 100,000 rows and, for the benchmark's sake, 5 at a million. Seven rows in ten are learnt
from. Seconds are wall clock; processor seconds and peaks are those of bank and shop, from /proc. A
peak is the most resident memory during the step, what earlier steps left and the libraries
themselves (about 0.3 GB) counted. MB are those of all messages both ways. The bar is 4 GB for the
larger party."""


@dataclass
class Step:
    """What a step cost one party."""

    name: str
    seconds: float = 0.0
    cpu: float = 0.0
    peak_gb: float = 0.0
    megabytes: float = 0.0
    began: tuple[float, float] = field(default=(0.0, 0.0), repr=False)


class Watch:
    """Follows the parties of a launch by their events."""

    def __init__(self) -> None:
        self.steps: dict[str, list[Step]] = {party: [] for party in PARTIES}
        self.said: list[str] = []
        self._open: dict[tuple[str, int], Step] = {}
        self._names: dict[str, set[int]] = {party: set() for party in PARTIES}
        self._pids: dict[str, int] = {}

    def __call__(self, party: str, event: Event) -> None:
        """Take an event."""
        if party not in self._pids:
            self._pids[party] = _pid_of(party)
        kind, pid = event["event"], self._pids[party]
        if kind == "task" and not any(who == party for who, _ in self._open):
            step = Step(event["name"], began=(time.monotonic(), _cpu(pid)))
            self._open[party, event["id"]] = step
            with suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text("5")
        elif kind == "end" and (party, event["id"]) in self._open:
            step = self._open.pop((party, event["id"]))
            step.seconds = time.monotonic() - step.began[0]
            step.cpu, step.peak_gb = _cpu(pid) - step.began[1], _peak(pid) / 1e9
            self.steps[party].append(step)
            print(f"  {party:5s} {step}", flush=True)
        elif kind in ("error", "say"):
            print(f"  {party:5s} {event}", flush=True)


def main() -> None:
    """Run the jobs at each size and publish what they cost."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--rows", type=_sizes, default=[100_000, 1_000_000])
    parser.add_argument("--jobs", nargs="+", choices=list(JOBS), default=list(JOBS))
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--unpublished", action="store_true", help="run, and leave the page")
    args = parser.parse_args()
    machine, runs = machine_facts(), []
    for rows in args.rows:
        folder: Path = args.work / NAME / str(rows)
        make_tables(folder, rows)
        for job in args.jobs:
            kept = folder / f"{job}.json"
            if not kept.exists():
                kept.write_text(json.dumps(run_job(folder, job, rows)))
            runs += json.loads(kept.read_text())
            print(f"{job}, {rows:,} rows, done", flush=True)
    result = _result(runs, machine)
    print("\n".join(" | ".join(row) for row in result.rows))
    if not args.unpublished:
        publish(result)


def _sizes(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def make_tables(folder: Path, rows: int) -> None:
    """Two tables with `rows` common ids, each in an order of its own."""
    if (folder / f"{SHOP}.parquet").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    more = rows // 20
    ids = rng.choice(2**40, rows + 2 * more, replace=False)
    hidden = rng.normal(size=(rows + 2 * more, 4))
    odds = hidden @ [1.0, -0.7, 0.5, 0.3] - 2.6
    bad = (rng.random(len(ids)) < 1 / (1 + np.exp(-odds))).astype(np.int8)
    for party, left in ((BANK, slice(0, rows + more)), (SHOP, slice(more, None))):
        table = _columns(hidden[left], rng)
        table.insert_column(0, pl.Series("id", ids[left]).cast(pl.String).str.zfill(13))
        if party == BANK:
            table.insert_column(1, pl.Series("bad", bad[left]))
        table[rng.permutation(table.height)].write_parquet(folder / f"{party}.parquet")


def _columns(
    hidden: np.ndarray[Any, np.dtype[np.float64]], rng: np.random.Generator
) -> pl.DataFrame:
    rows, out = len(hidden), {}
    for number in range(FLOATS + WHOLE + TOWNS):
        mixed = hidden @ rng.normal(size=4) * 0.4 + rng.normal(size=rows)
        gaps = rng.random(rows) < 0.03 if number % 5 == 0 else np.zeros(rows, np.bool_)
        if number < FLOATS:
            series = pl.Series(f"amount{number}", np.exp(mixed) * 100)
        elif number < FLOATS + WHOLE:
            series = pl.Series(
                f"count{number}", np.floor(np.clip(mixed * 2 + 4, 0, 12)).astype(int)
            )
        else:
            places = np.floor(np.clip(mixed * 2 + 6, 0, 11)).astype(np.int64)
            series = pl.Series(f"town{number}", np.array([f"town {n}" for n in range(12)])[places])
        out[series.name] = pl.select(pl.when(~pl.Series(gaps)).then(series)).to_series()
    return pl.DataFrame(out)


def _job(rows: int, job: str) -> dict[str, Any]:
    names = [f"amount{n}" for n in range(FLOATS)]
    names += [f"count{n}" for n in range(FLOATS, FLOATS + WHOLE)]
    towns = [f"town{n}" for n in range(FLOATS + WHOLE, FLOATS + WHOLE + TOWNS)]
    own: dict[str, Any] = {"features": dict.fromkeys(names, "numeric")}
    if job == "moments":
        own["clean"] = {name: {"missing": "median"} for name in names}
    else:
        own["features"] |= dict.fromkeys(towns, "categorical")
    return {
        "isthmus": 1,
        "name": f"{job}-{rows}",
        "seed": 1,
        "parties": {
            party: {"table": f"{party}.parquet", "address": f"{party}.example:7900", **own}
            for party in PARTIES
        },
        "label": {"party": BANK, "expression": "bad == 1"},
        "align": {"key": "id", "protocol": "kkrt"},
        "split": {"train": 0.7, "valid": 0.0, "test": 0.3},
        "evaluate": {"alone": False},
        **JOBS[job],
    } | ({"trees": {"trees": trees_of(rows), "depth": 5}} if job == "trees" else {})


def trees_of(rows: int) -> int:
    """How many trees are made of so many rows."""
    return 20 if rows <= MANY else 5


JOBS: Mapping[str, dict[str, Any]] = {
    "scorecard": {
        "profile": {},
        "bin": {"method": "quantile", "bins": 10, "tell": "woe", "transform": True},
        "correlation": {},
        "pca": {"components": 3},
        "linear": {"family": "logistic"},
        "scorecard": {},
        "predict": {"rows": "all"},
    },
    "moments": {
        "linear": {"family": "logistic", "protocol": "moments"},
        "predict": {"rows": "all"},
    },
    "trees": {"predict": {"rows": "all"}},
}


def run_job(folder: Path, job: str, rows: int) -> list[dict[str, Any]]:
    """Run one job; a record of each step at both parties."""
    path, watch = folder / f"{job}.yaml", Watch()
    path.write_text(json.dumps(_job(rows, job), indent=2))
    shutil.rmtree(folder / "runs", ignore_errors=True)
    job_of = load_job(path)
    outcomes = launch(Launch(job=job_of, out=folder / "runs"), watch)
    if any(outcome.failed for outcome in outcomes.values()):
        noise = "\n".join("\n".join(outcome.noise) for outcome in outcomes.values())
        raise RuntimeError(f"{job} of {rows} rows failed:\n{noise}")
    done = folder / "runs" / job_of.folder_name
    found = []
    for bank, shop in zip(watch.steps[BANK], watch.steps[SHOP], strict=True):
        found.append(
            {
                "job": job,
                "rows": rows,
                "step": bank.name,
                "trees": trees_of(rows) if (job, bank.name) == ("trees", "train") else None,
                "seconds": max(bank.seconds, shop.seconds),
                "cpu": [bank.cpu, shop.cpu],
                "peak_gb": [bank.peak_gb, shop.peak_gb],
                "megabytes": _megabytes(done / BANK / bank.name / "traffic.json"),
            }
        )
    shutil.rmtree(folder / "runs")
    return found


def _megabytes(path: Path) -> float:
    if not path.exists():
        return 0.0
    topics = [one for partner in json.loads(path.read_text()).values() for one in partner.values()]
    return sum(float(one["sent_bytes"]) + float(one["received_bytes"]) for one in topics) / 1e6


def _pid_of(party: str) -> int:
    """The process of a party that this one has started."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, IndexError, ValueError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                parent = (entry / "stat").read_text().rsplit(")", 1)[1].split()[1]
                if int(parent) == os.getpid() and words[words.index(b"--as") + 1] == party.encode():
                    return int(entry.name)
    raise RuntimeError(f"the process of {party} has gone")


def _cpu(pid: int) -> float:
    """Processor seconds of a process and of its children that have ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return float("nan")
    return sum(int(ticks) for ticks in fields[11:15]) / _TICKS


def _peak(pid: int) -> int:
    """Bytes resident at most since the peak was last set back."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def _result(runs: Sequence[Mapping[str, Any]], machine: dict[str, Any]) -> Result:
    most = max(max(run["peak_gb"]) for run in runs)
    return Result(
        name=NAME,
        title=TITLE,
        summary=SUMMARY,
        bars=[Bar("4 GB over the peak of the larger party", LIMIT_GB / most, 1.0)],
        columns=["rows, job, step", "seconds", "CPU s, bank + shop", "MB", "peak GB, bank, shop"],
        rows=[
            [
                f"{run['rows']:,}, {run['job']}, {run['step']}"
                + (f", {run['trees']} trees" if run["trees"] else ""),
                f"{run['seconds']:.1f}",
                " + ".join(f"{seconds:.1f}" for seconds in run["cpu"]),
                f"{run['megabytes']:.1f}",
                ", ".join(f"{peak:.2f}" for peak in run["peak_gb"]),
            ]
            for run in runs
        ],
        raw={"runs": list(runs)},
        machine=machine,
        versions=versions("numpy", "polars", "tenseal"),
    )


if __name__ == "__main__":
    main()
