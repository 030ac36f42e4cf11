"""What can be found wrong with a job's looks at tables before any table is read."""

from __future__ import annotations

from isthmus.errors import JobError
from isthmus.jobs.cleaning import check_cleaning
from isthmus.jobs.job import Job
from isthmus.jobs.methods.needs import check_vertical
from isthmus.jobs.tabular import KINDS

ENCRYPTED = ("bin", "correlation", "pca")
"""The sections whose sums are under encryption."""


def check_looks(job: Job) -> None:
    """See that the looks that the job takes can be taken.

    Raises:
        JobError: a package is missing, a party has no column to look at, or a rule of cleaning does
            not fit the columns that the job names.
    """
    spec = job.spec
    for section in ENCRYPTED:
        if getattr(spec, section) is None:
            continue
        check_vertical(job, section)
        for party in spec.order:
            if spec.parties[party].has_features:
                continue
            if section == "bin" and party == spec.label.party:
                continue
            raise JobError(
                f"{job.where(section)}: {party} brings no columns",
                mend=f"Leave {section} out, or name columns in parties.{party}.features.",
            )
    for party, about in spec.parties.items():
        if about.clean and about.features is not None:
            known = {n: one for n, one in about.features.items() if one.kind in KINDS}
            check_cleaning(job, party, known)
