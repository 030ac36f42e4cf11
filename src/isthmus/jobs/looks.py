"""What can be found wrong with a job's looks at tables before any table is read."""

from __future__ import annotations

from collections.abc import Mapping

from isthmus.data import FeatureSpec
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
        if about.features is not None:
            known = {n: one for n, one in about.features.items() if one.kind in KINDS}
            check_cleaning(job, party, known)
            check_bins(job, party, known)


def check_bins(job: Job, party: str, columns: Mapping[str, FeatureSpec]) -> None:
    """See that what is said of the bins of single columns fits the columns of `party`.

    Args:
        job: the job.
        party: whose.
        columns: those of its columns that a table has.

    Raises:
        JobError: there is no such column, or it has categories where numbers are meant.
    """
    for name, wanted in job.spec.parties[party].bins.items():
        where = job.where("parties", party, "bins", name)
        if name not in columns:
            raise JobError(
                f"{where}: {party} has no numeric or categorical feature {name!r}",
                mend=f"It has: {', '.join(columns) or 'none'}.",
            )
        numeric = columns[name].kind == "numeric"
        if wanted.edges and not numeric:
            raise JobError(f"{where}: {name!r} is categorical, and edges are of numbers")
        if any(isinstance(value, str) is numeric for value in wanted.special):
            kind = "numbers" if numeric else "text, in quotes"
            raise JobError(f"{where}: the special values of {name!r} must be {kind}")
