"""Packages that only some jobs need: an error at the check, not in the middle of a job."""

from __future__ import annotations

import importlib.util

from isthmus.errors import JobError
from isthmus.jobs.job import Job


def check_vertical(job: Job, section: str) -> None:
    """See that homomorphic encryption is here, which `section` of the job needs. Raises JobError.

    Args:
        job: the job.
        section: the name of a section of the job file.
    """
    if importlib.util.find_spec("tenseal") is None:
        raise JobError(
            f"{job.where(section)}: the package tenseal is not installed",
            mend="Run `pip install 'isthmus[vertical]'`.",
        )
