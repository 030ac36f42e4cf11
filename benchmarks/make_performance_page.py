"""Make docs/performance.md from the committed results; --check tells whether it is up to date."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import load_results
from isthmus.files import write_text

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
NOTES = Path(__file__).parent / "where_the_time_goes.md"
"""Written by hand; ends the page."""

HEAD = """# Performance

<!-- Made by `python -m benchmarks.make_performance_page` from benchmarks/results and
benchmarks/where_the_time_goes.md: edit these. -->

Every figure here was measured by a script in `benchmarks/` that can be run again:
`make bench NAME=<name>`. A ratio is ours against the peer or against a limit, above 1 being better.
The contract is in CONTRIBUTING.md.
"""


def page(results: Sequence[Mapping[str, Any]]) -> str:
    """The whole page."""
    if not results:
        return f"{HEAD}\nNo results yet.\n"
    notes = NOTES.read_text()
    parts = [HEAD, _overview(results), *(_section(result) for result in results), notes]
    return "\n".join(parts)


def _overview(results: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [f"[{r['name']}](#{r['name']})", bar["name"], *_bar_cells(bar)]
        for r in results
        for bar in r["bars"]
    ]
    return _table(["benchmark", "what", "value", "bar", "met"], rows)


def _bar_cells(bar: Mapping[str, Any]) -> list[str]:
    return [f"{bar['value']:.4g}", f"{bar['bar']:.4g}", "yes" if bar["met"] else "**no**"]


def _section(result: Mapping[str, Any]) -> str:
    machine = result["machine"]
    used = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    facts = (
        f"{result['date']}; {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['memory_gib']} GiB. {used}."
    )
    return "\n".join(
        [
            f"## {result['name']}\n",
            f"**{result['title']}.** {result['summary']}\n",
            _table(result["columns"], result["rows"]),
            f"{facts} Raw figures: `benchmarks/results/{result['name']}.json`.\n",
        ]
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [" | ".join(columns), " | ".join(["---"] * len(columns))]
    lines += [" | ".join(row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines) + "\n"


def main() -> int:
    """Write the page, or compare it."""
    wanted = page(load_results())
    if "--check" not in sys.argv:
        write_text(PAGE, wanted)
        return 0
    return int(not PAGE.exists() or PAGE.read_text() != wanted)


if __name__ == "__main__":
    sys.exit(main())
