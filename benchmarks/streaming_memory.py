"""What training on 10^8 encoded rows of 20 fields takes in memory.

make bench NAME=streaming_memory
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.environments import WORK
from benchmarks.harness import Bar, Result, machine_facts, publish, versions
from benchmarks.vocabulary_cost import (
    BATCH,
    FEATURE_PARTY,
    PARTIES,
    bottom_of,
    identities,
    layout_of,
    run_parties_apart,
    session_of,
    top_of,
)
from isthmus.data import split_samples
from isthmus.data.arrays import writing_array
from isthmus.data.encoder import load_features
from isthmus.files import write_json
from isthmus.session import Session, Task
from isthmus.split import FeatureData, TrainOptions, train

FIELDS, TABLE_ROWS = 20, 10**6
CHUNK = 1 << 20
LIMIT_GB = 4.0
TITLE = "Memory of training on 10^8 encoded rows of 20 fields, memory-mapped"
SUMMARY = """\
Two party processes over mutually authenticated TLS on loopback, batch 1024. The feature party's
encoded rows are generated: 20 int32 a row, 8 GB on disk, mapped as a job maps them; its table has
10^6 rows. The label party holds the labels in memory, as in a job. Both cut all rows 98/1/1 and
train for a bounded number of steps in the order of a full epoch. Peak: VmHWM, the most memory
resident since the process began, pages of mapped files counted; anonymous: the most without them,
looked at ten times a second. The pages of the mapped arrays are dropped from the system's cache
before training, so the reads come from the disk. The bar is 4 GB for the larger party."""


class _Stop(Exception):
    """Enough steps have been made."""


class _Bounded:
    """Progress that ends the run after a number of steps, and times them."""

    def __init__(self, steps: int) -> None:
        self.times: list[float] = []
        self._left = steps

    @contextmanager
    def task(self, name: str, total: int | None = None) -> Iterator[Task]:
        """See `Progress.task`."""
        yield self

    def advance(self, amount: int = 1) -> None:
        """See `Task.advance`."""
        self.times.append(time.perf_counter())
        self._left -= amount
        if self._left < 0:
            raise _Stop

    def note(self, text: str) -> None:
        """See `Task.note`."""

    def say(self, text: str) -> None:
        """See `Progress.say`."""


def main() -> None:
    """Generate the rows, train on them, remove them; or be one of the parties."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10**8)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--keep", action="store_true", help="leave the generated rows")
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--party", choices=PARTIES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.party:
        with session_of(args.party, args.folder, args.port) as session:
            facts = _train(session, args.folder, args.rows, args.steps)
        (args.folder / f"{args.party}.json").write_text(json.dumps(facts))
        return
    machine = machine_facts()
    folder: Path = args.work / "streaming_memory"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        began = time.perf_counter()
        _generate(folder / "features", args.rows)
        _forget(folder / "features" / "index.npy")
        print(f"rows generated in {time.perf_counter() - began:.0f} s", flush=True)
        for party in PARTIES:
            shutil.rmtree(folder / party, ignore_errors=True)
        identities(folder)
        options = ("--rows", str(args.rows), "--steps", str(args.steps))
        both = run_parties_apart("benchmarks.streaming_memory", folder, *options)
    finally:
        if not args.keep:
            shutil.rmtree(folder)
    publish(_result(both, args.rows, machine))


def _generate(folder: Path, rows: int) -> None:
    if (folder / "layout.json").exists():
        return
    folder.mkdir(exist_ok=True)
    layout = layout_of(FIELDS, TABLE_ROWS)
    rng = np.random.default_rng(5)
    each = layout.fields[0].rows
    first = np.array([field.first_row for field in layout.fields], dtype=np.int32)
    with (
        writing_array(folder / "index.npy", rows, FIELDS, np.int32) as add_index,
        writing_array(folder / "values.npy", rows, 0, np.float32) as add_values,
    ):
        for start in range(0, rows, CHUNK):
            size = min(CHUNK, rows - start)
            add_index(rng.integers(0, each, (size, FIELDS), dtype=np.int32) + first)
            add_values(np.empty((size, 0), np.float32))
    write_json(folder / "layout.json", asdict(layout))


def _forget(path: Path) -> None:
    """Drop a file's pages from the system's cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _train(session: Session, folder: Path, rows: int, steps: int) -> dict[str, Any]:
    memory = _Memory()
    progress = _Bounded(steps)
    session = Session(
        me=session.me,
        parties=session.parties,
        label_party=session.label_party,
        links=session.links,
        secret=session.secret,
        progress=progress,
    )
    split = split_samples(rows, 1, (0.98, 0.01, 0.01))
    options = TrainOptions(batch_size=BATCH, epochs=1, patience=0, device="cpu")
    try:
        if session.me == FEATURE_PARTY:
            features = load_features(folder / "features")
            bottom = bottom_of(features.layout)
            data = FeatureData(features)
            train(session, split=split, bottom=bottom, data=data, options=options)
        else:
            labels = np.empty(rows, np.float32)
            rng = np.random.default_rng(6)
            for start in range(0, rows, CHUNK):
                part = labels[start : start + CHUNK]
                part[:] = rng.random(len(part), dtype=np.float32) < 0.5
            train(session, split=split, top=top_of([FEATURE_PARTY]), labels=labels, options=options)
    except _Stop:
        pass
    seconds = np.diff(progress.times)
    tenth = len(seconds) // 10
    return {
        "peak_gb": memory.peak() / 1e9,
        "anonymous_gb": memory.stop() / 1e9,
        "steps": len(seconds),
        "samples_per_second": BATCH / float(np.mean(seconds[tenth:])),
        "slowest_step_s": float(seconds[tenth:].max()),
    }


class _Memory:
    """The most memory that this process has held."""

    def __init__(self) -> None:
        self._anonymous = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def peak(self) -> int:
        """Bytes resident at most, mapped files counted."""
        return _status("VmHWM")

    def stop(self) -> int:
        """Anonymous bytes resident at most."""
        self._done.set()
        self._thread.join()
        return self._anonymous

    def _run(self) -> None:
        while not self._done.wait(0.1):
            self._anonymous = max(self._anonymous, _status("RssAnon"))


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def _result(both: dict[str, dict[str, Any]], rows: int, machine: dict[str, Any]) -> Result:
    most = max(facts["peak_gb"] for facts in both.values())
    return Result(
        name="streaming_memory",
        title=TITLE,
        summary=SUMMARY,
        bars=[Bar("4 GB over the peak of the larger party", LIMIT_GB / most, 1.0)],
        columns=[
            "party",
            "rows",
            "peak GB",
            "anonymous GB",
            "steps",
            "samples/s",
            "slowest step s",
        ],
        rows=[
            [
                "features" if party == FEATURE_PARTY else "labels",
                f"{rows:,}",
                f"{facts['peak_gb']:.2f}",
                f"{facts['anonymous_gb']:.2f}",
                f"{facts['steps']:,}",
                f"{facts['samples_per_second']:,.0f}",
                f"{facts['slowest_step_s']:.2f}",
            ]
            for party, facts in both.items()
        ],
        raw=both,
        machine=machine,
        versions=versions("torch", "numpy"),
    )


if __name__ == "__main__":
    main()
