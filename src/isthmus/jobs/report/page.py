"""The report as one HTML page that asks nothing of any network."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import asdict
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from isthmus.jobs.report import words
from isthmus.jobs.report.charts import Chart, accuracy_charts, learning_charts
from isthmus.jobs.report.headline import tiles, verdict
from isthmus.jobs.report.looks_charts import looks_page
from isthmus.jobs.report.model import Report
from isthmus.jobs.report.recall import recall_charts
from isthmus.jobs.report.settings import schedule, settings
from isthmus.jobs.report.tabular_charts import (
    cutoff_charts,
    cutoff_rows,
    lorenz_charts,
    loss_charts,
    tree_charts,
)
from isthmus.jobs.report.tabular_words import fitted_facts
from isthmus.jobs.report.times import time_table

_SCRIPTS = ("vendor/uplot/uPlot.iife.min.js", "templates/page.js")
_STYLES = ("vendor/uplot/uPlot.min.css", "templates/page.css")


def render_html(report: Report) -> str:
    """The page: self-contained, for a browser without a network, a phone, or paper.

    Names in a report come from partners and are taken for hostile: all text is escaped, and the
    page's Content-Security-Policy lets only its own scripts run and nothing be fetched.
    """
    learning, accuracy = learning_charts(report), accuracy_charts(report)
    recall = recall_charts(report)
    cutoffs, lorenz, trees = cutoff_charts(report), lorenz_charts(report), tree_charts(report)
    trees = (*trees, *loss_charts(report))
    drawn = (*learning, *accuracy, *recall, *cutoffs, *lorenz, *trees)
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            verdict=verdict(report),
            tiles=tiles(report),
            settings=settings(report),
            schedule=schedule(report),
            times=time_table(report),
            learning=learning,
            accuracy=accuracy,
            recall=recall,
            fitted_facts=fitted_facts(report),
            cutoffs=cutoffs,
            cutoff_rows=cutoff_rows(report),
            lorenz=lorenz,
            trees=trees,
            **looks_page(report),
            charts=Markup(script_json([_drawn(chart) for chart in drawn])),
            scripts=[Markup(_asset(name)) for name in _SCRIPTS],
            styles=[Markup(_asset(name)) for name in _STYLES],
            policy=content_policy(),
        )
    )


def script_json(value: object) -> str:
    """`value` as JSON that cannot end the script element that holds it; NaN is refused."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def content_policy() -> str:
    """A Content-Security-Policy that allows the page's own scripts and styles by hash, no more."""
    scripts = " ".join(_hash(_asset(name)) for name in _SCRIPTS)
    styles = " ".join(_hash(_asset(name)) for name in _STYLES)
    return (
        f"default-src 'none'; script-src {scripts}; style-src {styles}; "
        "base-uri 'none'; form-action 'none'"
    )


def _drawn(chart: Chart) -> dict[str, object]:
    return {key: value for key, value in asdict(chart).items() if key not in ("table", "caption")}


@cache
def _asset(name: str) -> str:
    return files("isthmus.jobs.report").joinpath(name).read_text(encoding="utf-8").strip()


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("isthmus.jobs.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "bytes": words.as_bytes,
        "seconds": words.as_seconds,
        "some": words.as_some,
        "count": words.as_count,
        "figure": words.as_figure,
        "difference": words.as_difference,
        "percent": words.as_percent,
        "names": words.as_list,
        "times": words.as_times,
        "error": words.as_error,
        "number": words.as_number,
        "chance": words.as_chance,
        "value": words.as_value,
    }
    return environment
