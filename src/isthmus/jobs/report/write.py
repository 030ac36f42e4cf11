"""The report's two files, and the schema that one of them follows."""

from __future__ import annotations

import json
from pathlib import Path

from isthmus.files import write_text
from isthmus.jobs.report.model import Report
from isthmus.jobs.report.page import render_html


def write_report(report: Report, folder: Path) -> tuple[Path, Path]:
    """Write `report.html` and `report.json` into `folder`, each whole or not at all.

    Returns:
        The paths of the page and of the JSON.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    page, data = folder / "report.html", folder / "report.json"
    write_text(data, report.model_dump_json(indent=2) + "\n")
    write_text(page, render_html(report))
    return page, data


def schema_text() -> str:
    """The JSON schema of `report.json`, as published."""
    schema = Report.model_json_schema(mode="serialization")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
