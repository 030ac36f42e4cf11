"""The report of the arbiter of a finished job, which has seen no table."""

from __future__ import annotations

from isthmus.jobs.artefacts import PartyFolder
from isthmus.jobs.job import Job
from isthmus.jobs.outcome_run import artefacts, crossed, job_facts, times_of, utc_now
from isthmus.jobs.outcome_tabular import fitted_facts
from isthmus.jobs.report import AlignmentFacts, DataFacts, Report, traffic_of
from isthmus.jobs.steps.train import RESULT


def build_arbiter_report(job: Job, party: str, folder: PartyFolder) -> Report:
    """The report of the arbiter `party` from its files. Raises StorageError."""
    seconds, phases = times_of(folder)
    fitted = None
    if folder.step("train").file(RESULT).exists():
        fitted = fitted_facts(job, folder, None)
    return Report(
        job=job_facts(job, party, utc_now()),
        data=DataFacts(
            rows_read=0, features=(), training_samples=0, validation_samples=0, test_samples=0
        ),
        alignment=AlignmentFacts(
            protocol=job.spec.align.protocol,
            own_rows=0,
            own_keys=0,
            partner_keys={},
            common_keys=0,
            samples=0,
        ),
        fitted=fitted,
        traffic=traffic_of(crossed(folder)),
        phases=phases,
        seconds=seconds,
        artefacts=artefacts(folder),
    )
