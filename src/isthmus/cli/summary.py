"""What a finished run shows: the small table, and where the report lies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isthmus.jobs.report import Report


def read_report(path: Path) -> Report:
    """The report in `path`, a report.json or the folder or page beside it.

    Raises:
        StorageError: there is none, or it is not a report of this version.
    """
    from pydantic import ValidationError

    from isthmus.errors import StorageError
    from isthmus.jobs.report import Report

    data = path / "report.json" if path.is_dir() else path.with_suffix(".json")
    try:
        return Report.model_validate_json(data.read_bytes())
    except OSError as error:
        raise StorageError(f"cannot read the report {data}: {error.strerror}") from error
    except ValidationError as error:
        raise StorageError(f"{data} is not a report of this version of Isthmus") from error


def show_summary(page: Path) -> None:
    """Print the table of the report behind `page`, and its path."""
    from rich.console import Console

    from isthmus.jobs.report import summary_table

    console = Console()
    console.print(summary_table(read_report(page)))
    console.print(f"Report: {page}", soft_wrap=True, highlight=False)
