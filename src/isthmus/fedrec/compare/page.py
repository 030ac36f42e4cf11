"""A comparison as one HTML page that fetches nothing and runs no script."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from isthmus.fedrec.compare.charts import BANDS, Line, Look, curves, look, picture_svg, swatch
from isthmus.fedrec.compare.statistics import Mean
from isthmus.fedrec.compare.summary import Comparison, Row, Score
from isthmus.files import write_text

SHOWN = ("hr@5", "hr@10", "hr@20", "ndcg@5", "ndcg@10", "ndcg@20", "mrr@10")
LEAVES = {
    "nothing": "nothing",
    "sums": "sums over clients are enough: secure aggregation fits",
    "tables": "each client's own item table, seen by the server",
    "vectors": "each client's own table and user vector, seen by the server",
    "interactions": "each client's interactions, pooled",
}
KINDS = {
    "floor": "Floors",
    "federated": "Federated methods",
    "ceiling": "Ceilings, on pooled data",
}


@dataclass(frozen=True)
class Charts:
    """The charts of one protocol."""

    protocol: str
    drawn: tuple[tuple[str, Markup], ...]
    """Title and SVG."""


def write_report(path: Path, found: Comparison) -> Path:
    """Write the page of `found` to `path`.

    Raises:
        StorageError: it cannot be written.
    """
    write_text(path, render(found))
    return path


def render(found: Comparison) -> str:
    """The page. All text is escaped; its policy lets nothing be fetched and no script run."""
    looks = {row.name: look(at) for at, row in enumerate(_drawn_rows(found))}
    return (
        _environment()
        .get_template("compare.html.j2")
        .render(
            found=found,
            rows_of={
                name: [row for row in found.rows if name in row.scores] for name in found.protocols
            },
            kinds=KINDS,
            leaves=LEAVES,
            shown=SHOWN,
            looks={name: Markup(swatch(one)) for name, one in looks.items()},
            charts=[_charts(found, name, looks) for name in found.protocols],
            pictures=[
                (row, Markup(picture_svg(row.picture, row.label)))
                for row in found.rows
                if row.picture is not None
            ],
            bands=BANDS,
            papers=[row for row in found.rows if row.published],
            best=_best(found),
            warnings=[one.sentence for one in found.leaks if one.leaks],
            reference=found.row(found.reference).label if found.reference else None,
        )
    )


def _drawn_rows(found: Comparison) -> list[Row]:
    return [row for row in found.rows if row.scores]


def _best(found: Comparison) -> dict[tuple[str, str], str]:
    """The name of the best federated row by protocol and metric."""
    out = {}
    for protocol in found.protocols:
        rows = [row for row in found.rows if row.kind == "federated" and protocol in row.scores]
        for metric in SHOWN if rows else ():
            best = max(rows, key=lambda row: row.scores[protocol].metrics[metric].mean)
            out[protocol, metric] = best.name
    return out


def _charts(found: Comparison, protocol: str, looks: dict[str, Look]) -> Charts:
    rows = [row for row in found.rows if protocol in row.scores]
    name = found.metric.upper()
    drawn = []
    for title, x_label, field, log in (
        ("by round", "round", "round", False),
        ("by bytes", "bytes a client, up and down", "traffic", True),
        ("by seconds", "seconds of training", "seconds", True),
    ):
        lines = [
            Line(row.label, looks[row.name], tuple(map(float, getattr(curve, field))), curve.value)
            for row in rows
            for curve in (row.scores[protocol].curve,)
        ]
        svg = curves(f"{name} {title}", x_label, name, lines, log=log)
        if svg:
            drawn.append((f"{name} {title}", Markup(svg)))
    return Charts(protocol, tuple(drawn))


def as_mean(value: Mean) -> str:
    """A mean with its standard deviation."""
    spread = "" if value.deviation is None else f" ± {value.deviation:.3f}"
    return f"{value.mean:.3f}{spread}"


def as_p(value: float) -> str:
    """A p value."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def as_rounds(score: Score) -> str:
    """The chosen rounds by seed."""
    return ", ".join(map(str, score.chosen))


def as_bytes(count: float) -> str:
    """Bytes in decimal units."""
    for unit in ("B", "kB", "MB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} GB"


def as_signed(value: float) -> str:
    """A difference with its sign; none for what is nothing at three digits."""
    text = f"{value:+.3f}"
    return "0.000" if not float(text) else text.replace("-", "−")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("isthmus.fedrec.compare"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "mean_of": as_mean,
        "p": as_p,
        "rounds_of": as_rounds,
        "bytes": as_bytes,
        "signed": as_signed,
    }
    return environment
