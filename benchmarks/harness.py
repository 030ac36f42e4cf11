"""What every benchmark shares: the result's contract, facts about the machine, the table."""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from isthmus.files import write_json

RESULTS = Path(__file__).parent / "results"
"""Where committed results live."""


@dataclass(frozen=True)
class Bar:
    """One thing to reach: met when `value` is at least `bar`."""

    name: str
    value: float
    bar: float

    @property
    def met(self) -> bool:
        """Whether the bar is reached."""
        return self.value >= self.bar


@dataclass(frozen=True, kw_only=True)
class Result:
    """The outcome of one benchmark; what `results/<name>.json` holds."""

    name: str
    """The script's name."""
    title: str
    """One line for the page."""
    summary: str
    """What was measured and how, a paragraph."""
    bars: Sequence[Bar]
    """The first is the benchmark's `ratio` and `bar`."""
    columns: Sequence[str]
    """Heads of the table."""
    rows: Sequence[Sequence[str]]
    """The table, as printed."""
    raw: Mapping[str, Any]
    """Every figure, JSON values only."""
    machine: Mapping[str, Any]
    """`machine_facts()` and whatever tells a disturbed run from a clean one."""
    versions: Mapping[str, str]
    """Of what ran, ours and the peer's."""
    date: str = field(
        default_factory=lambda: datetime.datetime.now(datetime.UTC).date().isoformat()
    )
    """ISO date, UTC."""

    def as_json(self) -> dict[str, Any]:
        """The contract's fields first, then the rest."""
        first = self.bars[0]
        return {
            "name": self.name,
            "ratio": first.value,
            "bar": first.bar,
            "met": all(bar.met for bar in self.bars),
            "bars": [{**asdict(bar), "met": bar.met} for bar in self.bars],
            "title": self.title,
            "summary": self.summary,
            "columns": list(self.columns),
            "rows": [list(row) for row in self.rows],
            "raw": dict(self.raw),
            "machine": dict(self.machine),
            "versions": dict(self.versions),
            "date": self.date,
        }


def publish(result: Result, folder: Path = RESULTS, console: Console | None = None) -> Path:
    """Print the table and write `<folder>/<name>.json`."""
    console = console or Console()
    table = Table(title=result.title)
    for index, column in enumerate(result.columns):
        table.add_column(column, justify="left" if index == 0 else "right")
    for row in result.rows:
        table.add_row(*row)
    console.print(table)
    for bar in result.bars:
        verdict = "met" if bar.met else "NOT MET"
        console.print(f"{bar.name}: {bar.value:.4g} (bar {bar.bar:.4g}) {verdict}")
    path = folder / f"{result.name}.json"
    write_json(path, result.as_json())
    console.print(f"written: {os.path.relpath(path)}")
    return path


def load_results(folder: Path = RESULTS) -> list[dict[str, Any]]:
    """All committed results, by name."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def machine_facts() -> dict[str, Any]:
    """Processor, cores this process may use, memory in GiB, load before the run, system."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(_memory_bytes() / 2**30, 1),
        "load_before": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()}",
    }


def versions(*packages: str) -> dict[str, str]:
    """The installed versions of Python, isthmus and `packages`."""
    names = ("isthmus", *packages)
    return {"python": platform.python_version(), **{name: _version(name) for name in names}}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
