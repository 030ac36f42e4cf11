"""Fields that a job file may hold and that nothing answers yet."""

from __future__ import annotations

from collections.abc import Iterator

from isthmus.errors import JobError
from isthmus.jobs.document import Place
from isthmus.jobs.job import Job


def check_built(job: Job) -> None:
    """See that all that the job asks for is there. Raises JobError."""
    for place in _unbuilt(job):
        where = job.where(*(str(name) for name in place))
        raise JobError(f"{where} is not built yet", mend="Leave it out.")


def _unbuilt(job: Job) -> Iterator[Place]:
    spec = job.spec
    for party, about in spec.parties.items():
        for name, feature in (about.features or {}).items():
            if feature.kind in ("sequence", "vector"):
                yield "parties", party, "features", name
    if spec.split.by == "time":
        yield "split", "by"
    if spec.label.share_time:
        yield "label", "share_time"
    if spec.label.also:
        yield "label", "also"
    if spec.label.kind != "binary":
        yield "label", "kind"
    if spec.label.weight is not None:
        yield "label", "weight"
