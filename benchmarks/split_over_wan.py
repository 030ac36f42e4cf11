"""Split training over a long, narrow line against the same on loopback, on MovieLens-1M.

make bench NAME=split_over_wan
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.environments import WORK
from benchmarks.federation import FEATURE_PARTY, LABEL_PARTY, FinishedRun
from benchmarks.harness import Bar, Result, machine_facts, publish, versions
from benchmarks.movielens_split import CHOSEN
from benchmarks.process_tree import measure
from benchmarks.shaped_line import Line, ShapedLine
from benchmarks.split_vs_pooled import movielens_job
from isthmus.data.sources import get
from isthmus.jobs.job import load_job
from isthmus.jobs.launcher import Launch, free_port, party_command, throw_away_identities

SCHEDULES = ("exact", "microbatch:4", "pipeline:8", "local:4", "auto")
"""The first, without guards, is the reference; the last must reach the bars."""
GUARDS = ("none", "int4")
"""On cuts and gradients alike; the bars are for the last."""
BAR = 0.9
"""The share of its samples/s on loopback that must be kept."""
AUC_BAR = 0.002
"""What it may lose against `exact` without guards."""
BATCH = 1024
RATES = {name: CHOSEN[name] for name in CHOSEN if "rate" in name or "decay" in name}
"""With them training is near its end after a few epochs, which is where AUC is to be compared."""
PROXY_ALONE = Line(rtt_ms=0.0, mbit=10_000.0)
"""The proxy with no line in it: loopback, but for the time that the proxy takes of the cores."""
COLUMNS = (
    "schedule",
    "guards",
    "loopback, samples/s",
    "proxy alone, samples/s",
    "line, samples/s",
    "ratio",
    "share of the line's cap",
    "test AUC",
    "less than exact",
)
TITLE = "Split DeepFM over a line of {line} against loopback, MovieLens-1M"
SUMMARY = """\
The job of split_vs_pooled at batch 1024, with the rates of schedule_accuracy: two party processes
over mutually authenticated TLS, a thread each, on loopback and through a proxy of its own process
that behaves as a line of {line}, the same in both directions (benchmarks/shaped_line.py:
back-pressure, no loss). The runs on loopback are without the proxy: what it takes of the two cores
is counted against the line. How much that is shows the row that the bars are for, which was also
run through the proxy without delay and with a rate that nothing reaches ("proxy alone"). No real
line has a proxy on the parties' cores: the share of that is what the line itself leaves. Samples a
second of training, the median over the epochs after the first. The cap is the line's rate over the
bytes that a sample takes in the busier direction. AUC on 200,042 test rows with the parameters of
the epoch that was best on the validation rows, {epochs} epochs; under `auto`, whose choice depends
on the line, from the run over the line. The last row, which the bars are for, and the first, which
AUC is compared with seed by seed, are means over seeds (here {seeds}), which draw split, initial
values and order; the others are one seed."""


@dataclass(frozen=True)
class Cell:
    """One training to run."""

    schedule: str
    guard: str
    seed: int
    epochs: int
    line: Line | None
    """None is loopback."""

    @property
    def name(self) -> str:
        """For folders and the screen."""
        words = (self.schedule, self.guard, self.line or "loopback", f"seed {self.seed}")
        return re.sub(r"[^a-z0-9]+", "-", " ".join(map(str, words)).lower())


@dataclass(frozen=True)
class Found:
    """What one training gave."""

    speeds: list[float]
    """Samples a second of each epoch."""
    auc: float
    bytes_per_sample: float
    """Of the busier direction, in training."""
    choice: str
    """The schedule that `auto` chose."""
    cpu_seconds: float
    """Of both parties, from start to end."""
    other_cores: float
    """Kept busy by the rest of the machine, the proxy among it."""
    proxy: dict[str, Any]

    @property
    def speed(self) -> float:
        """Samples a second, the median over the epochs after the first."""
        return statistics.median(self.speeds[1:] or self.speeds)


Runs = dict[Cell, Found]


def main() -> None:
    """Run every row on both lines and publish."""
    args = _arguments()
    machine = machine_facts()
    line = Line(args.rtt, args.rate)
    work: Path = args.work / "split_over_wan"
    base = movielens_job(work / "tables", get("ml-1m", args.work / "data"))
    runs: Runs = {}
    for cell in _cells(args, line):
        runs[cell] = _run(base, cell, work / cell.name)
        shown = {**asdict(runs[cell]), "speeds": [round(s) for s in runs[cell].speeds]}
        print(cell.name, json.dumps(shown), flush=True)
    publish(_result(runs, args, line, machine), args.results)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--schedules", nargs="+", default=list(SCHEDULES))
    parser.add_argument("--guards", nargs="+", default=list(GUARDS), help="on cut and gradient")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, default=4, help="of the runs that AUC is taken of")
    parser.add_argument("--line-epochs", type=int, default=1, help="of those taken for speed alone")
    parser.add_argument("--rtt", type=float, default=20.0, metavar="MS")
    parser.add_argument("--rate", type=float, default=100.0, metavar="MBIT/S")
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    return parser.parse_args()


def _cells(args: argparse.Namespace, line: Line) -> list[Cell]:
    """What to run, in an order that puts the two lines of a row next to each other."""
    cells: list[Cell] = []
    for guard in args.guards:
        for schedule in args.schedules:
            if schedule == args.schedules[0] and guard != args.guards[0]:
                continue  # long, and no more than the other rows tell
            seeds = args.seeds if _has_all_seeds(schedule, guard, args) else args.seeds[:1]
            for seed in seeds:
                cells.append(Cell(schedule, guard, seed, args.epochs, None))
                if not _is_reference(schedule, guard, args) or seed == seeds[0]:
                    epochs = args.epochs if _is_auto(schedule) else args.line_epochs
                    if _is_bar(schedule, guard, args):
                        cells.append(Cell(schedule, guard, seed, epochs, PROXY_ALONE))
                    cells.append(Cell(schedule, guard, seed, epochs, line))
    return cells


def _is_reference(schedule: str, guard: str, args: argparse.Namespace) -> bool:
    return (schedule, guard) == (args.schedules[0], args.guards[0])


def _has_all_seeds(schedule: str, guard: str, args: argparse.Namespace) -> bool:
    return _is_bar(schedule, guard, args) or _is_reference(schedule, guard, args)


def _is_bar(schedule: str, guard: str, args: argparse.Namespace) -> bool:
    return (schedule, guard) == (args.schedules[-1], args.guards[-1])


def _is_auto(schedule: str) -> bool:
    return schedule.partition(":")[0] == "auto"


def _run(base: Mapping[str, Any], cell: Cell, folder: Path) -> Found:
    """One training, the label party listening and the feature party dialling."""
    job = {
        **base,
        "name": "split-over-wan",
        "seed": cell.seed,
        "train": {
            **base["train"],
            **RATES,
            "batch_size": BATCH,
            "epochs": cell.epochs,
            "schedule": cell.schedule,
            "guards": {"cut": cell.guard, "gradient": cell.guard},
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job, sort_keys=False))
    with tempfile.TemporaryDirectory(dir=folder) as out, ExitStack() as stack:
        what = Launch(job=load_job(path), out=Path(out) / "runs")
        names = (FEATURE_PARTY, LABEL_PARTY)
        identities = throw_away_identities(Path(out) / "identities", names, seed=cell.seed)
        port = free_port()
        address, proxy = f"127.0.0.1:{port}", None
        if cell.line is not None:
            proxy = stack.enter_context(ShapedLine(address, cell.line))
            address = proxy.address
        ports = {LABEL_PARTY: port, FEATURE_PARTY: int(address.rpartition(":")[2])}
        commands = [party_command(what, name, identities[name], ports[name]) for name in names]
        env = {**os.environ, "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
        usage = measure(commands, log=folder / "log", env=env, every=0.5)
        run = FinishedRun(what.out / what.job.folder_name, usage)
        return _found(run, proxy)


def _found(run: FinishedRun, proxy: ShapedLine | None) -> Found:
    if proxy is not None:
        proxy.close()
    report = run.report(LABEL_PARTY)
    samples = report["data"]["training_samples"]
    seconds = run.epoch_seconds()
    topics = {topic["topic"]: topic for topic in report["traffic"]["topics"]}
    busier = max(topics["train.cut"]["received_bytes"], topics["train.gradient"]["sent_bytes"]) / (
        samples * len(seconds)
    )
    return Found(
        speeds=[samples / epoch for epoch in seconds],
        auc=report["metrics"]["federation"]["auc"],
        bytes_per_sample=busier,
        choice=report["training"]["chosen_schedule"] or "",
        cpu_seconds=run.usage.cpu_seconds,
        other_cores=run.usage.other_cores,
        proxy={} if proxy is None else proxy.usage,
    )


@dataclass(frozen=True)
class _Row:
    """A row of the table: means over the seeds that it was run with."""

    schedule: str
    chosen: str
    """What `auto` chose over the line."""
    guard: str
    loopback: float
    proxy_alone: float | None
    line: float
    ratio: float
    without_proxy: float | None
    """The line's samples/s over those through the proxy alone, where that was run."""
    cap: float
    auc: float
    loss: float
    """What its AUC is less than that of the reference, seed by seed."""

    def cells(self) -> list[str]:
        return [
            f"{self.schedule} ({self.chosen})" if self.chosen else self.schedule,
            self.guard,
            f"{self.loopback:,.0f}",
            "" if self.proxy_alone is None else f"{self.proxy_alone:,.0f}",
            f"{self.line:,.0f}",
            f"{self.ratio:.2f}",
            f"{self.line / self.cap:.2f}",
            f"{self.auc:.4f}",
            f"{self.loss:+.4f}",
        ]


def _row(runs: Runs, schedule: str, guard: str, reference: Mapping[int, float], line: Line) -> _Row:
    here: dict[int, Found] = {}
    between: dict[int, Found] = {}
    there: dict[int, Found] = {}
    for cell, found in runs.items():
        if (cell.schedule, cell.guard) == (schedule, guard):
            ways = {None: here, PROXY_ALONE: between}
            ways.get(cell.line, there)[cell.seed] = found
    judged = there if _is_auto(schedule) else here
    aucs = {seed: found.auc for seed, found in judged.items()}
    sample = next(iter(there.values())).bytes_per_sample
    return _Row(
        schedule=schedule,
        chosen=", ".join(sorted({found.choice for found in there.values()} - {""})),
        guard=guard,
        loopback=statistics.mean(found.speed for found in here.values()),
        proxy_alone=statistics.mean(found.speed for found in between.values()) if between else None,
        line=statistics.mean(found.speed for found in there.values()),
        ratio=_ratio(there, here),
        without_proxy=_ratio(there, between) if between else None,
        cap=line.bytes_per_second / sample,
        auc=statistics.mean(aucs.values()),
        loss=statistics.mean(reference[seed] - auc for seed, auc in aucs.items()),
    )


def _ratio(these: Mapping[int, Found], others: Mapping[int, Found]) -> float:
    """How many times the samples/s of the others, the median over seeds."""
    return statistics.median(these[seed].speed / others[seed].speed for seed in these)


def _result(runs: Runs, args: argparse.Namespace, line: Line, machine: dict[str, Any]) -> Result:
    reference = {
        cell.seed: found.auc
        for cell, found in runs.items()
        if _is_reference(cell.schedule, cell.guard, args) and cell.line is None
    }
    pairs: Sequence[tuple[str, str]] = list(dict.fromkeys((c.schedule, c.guard) for c in runs))
    rows = [_row(runs, schedule, guard, reference, line) for schedule, guard in pairs]
    best = rows[-1]
    what = f"{best.schedule} with {best.guard}"
    words = {"line": f"{line.rtt_ms:g} ms round trip and {line.mbit:g} Mbit/s"}
    return Result(
        name="split_over_wan",
        title=TITLE.format(**words),
        summary=SUMMARY.format(epochs=args.epochs, seeds=len(args.seeds), **words),
        bars=[
            Bar(f"{what}, share of its loopback samples/s", best.ratio, BAR),
            Bar(
                f"{what}, share of its samples/s through the proxy alone",
                best.without_proxy or 0.0,
                BAR,
            ),
            Bar(
                f"{AUC_BAR} over the AUC that it loses",
                AUC_BAR / max(best.loss, AUC_BAR / 1000),
                1.0,
            ),
        ],
        columns=COLUMNS,
        rows=[row.cells() for row in rows],
        raw={
            "line": asdict(line),
            "rows": [asdict(row) for row in rows],
            "runs": [{**asdict(cell), **asdict(found)} for cell, found in runs.items()],
        },
        machine=machine,
        versions=versions("torch", "numpy"),
    )


if __name__ == "__main__":
    main()
