"""What a finished run shows: the small table, and where the report lies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isthmus.jobs.report import Report


def read_report(path: Path) -> Report:
    """The report in `path`, a report.json or the folder or page beside it.

    Raises:
        JobError: `path` can be no report.
        StorageError: there is none, or it is not a report of this version.
    """
    from pydantic import ValidationError

    from isthmus.errors import JobError, StorageError
    from isthmus.jobs.report import Report

    mend = (
        "Name the folder of one party of a finished job, such as runs/<job>-<hash>/<party>, or the "
        "report.json in it."
    )
    if not path.is_dir() and path.suffix not in (".json", ".html"):
        raise JobError(f"{path} is not a report", mend=mend)
    data = path / "report.json" if path.is_dir() else path.with_suffix(".json")
    try:
        return Report.model_validate_json(data.read_bytes())
    except OSError as error:
        raise StorageError(f"cannot read the report {data}: {error.strerror}", mend=mend) from error
    except ValidationError as error:
        raise StorageError(
            f"{data} is not a report of this version of Isthmus",
            mend="Run the job again with --resume: what is finished is kept, and the report is "
            "made anew.",
        ) from error


def show_summary(page: Path, *others: Path) -> None:
    """Print the table of the report behind `page`, and the paths of it and of `others`."""
    from rich.console import Console

    from isthmus.jobs.report import summary_table

    console = Console()
    console.print(summary_table(read_report(page)))
    for path in (page, *others):
        console.print(f"Report: {path}", soft_wrap=True, highlight=False, markup=False)
