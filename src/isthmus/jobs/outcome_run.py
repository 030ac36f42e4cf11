"""What a report says of the run itself, from files that every party has, the arbiter too."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from isthmus.jobs import traffic
from isthmus.jobs.artefacts import PartyFolder, StepFolder
from isthmus.jobs.job import Job
from isthmus.jobs.outcome_looks import LOOKED
from isthmus.jobs.outcome_tabular import ARTEFACTS
from isthmus.jobs.report import Artefact, JobFacts, Party, Phase, versions_here
from isthmus.jobs.report.model import Role
from isthmus.jobs.runner import POOLED, TRAFFIC
from isthmus.jobs.spec import JobSpec
from isthmus.jobs.steps import STEPS
from isthmus.jobs.steps.predict import PREDICTIONS
from isthmus.jobs.steps.retrieve import ITEMS, LISTS
from isthmus.jobs.times import load_times

BEFORE = {"start": "start and checks", "meeting": "waiting for partners to come"}
"""What comes before the steps, by its name in the file of times and in the report."""


def utc_now() -> datetime:
    """The present time."""
    return datetime.now(UTC)


def job_facts(job: Job, party: str, created: datetime) -> JobFacts:
    """What was run, and by whom; `created` is when the job ended."""
    spec = job.spec
    return JobFacts(
        name=spec.name,
        hash=job.hash,
        party=party,
        parties=tuple(Party(name=name, role=_role(spec, name)) for name in spec.everyone),
        created=created,
        seed=spec.seed,
        applies=spec.predict.model,
        # Of another kind it is no condition, as which the page would read it.
        label=spec.label.expression if spec.label.kind == "binary" else None,
        versions=versions_here(),
    )


def _role(spec: JobSpec, name: str) -> Role:
    if name == spec.arbiter:
        return "arbiter"
    return "label" if name == spec.label.party else "feature"


def times_of(folder: PartyFolder) -> tuple[float, tuple[Phase, ...]]:
    """Seconds of the whole job here, and of its phases; the pooled model comes on top of both."""
    times = load_times(folder)
    phases = [Phase(name=BEFORE[at], seconds=times[at]) for at in BEFORE if at in times]
    phases += _steps(folder, [step.name for step in STEPS])
    whole = max(times.get("seconds", 0.0), sum(phase.seconds for phase in phases))
    return whole, (*phases, *_steps(folder, [POOLED]))


def _steps(folder: PartyFolder, names: Sequence[str]) -> list[Phase]:
    markers = [folder.step(name).marker() for name in names]
    return [Phase(name=one.step, seconds=one.seconds) for one in markers if one is not None]


def crossed(folder: PartyFolder) -> traffic.Counts:
    """What crossed the links of this party, by partner and topic. Raises StorageError."""
    places = [StepFolder(folder.path), *(folder.step(step.name) for step in STEPS)]
    return traffic.summed(
        [traffic.from_json(at.read_json(TRAFFIC)) for at in places if at.file(TRAFFIC).exists()]
    )


def artefacts(folder: PartyFolder) -> tuple[Artefact, ...]:
    """The files that are there to be read."""
    known = {
        f"predict/{PREDICTIONS}": "predictions by key",
        f"retrieve/{LISTS}": "the items for each user",
        f"retrieve/{ITEMS}": "the items' vectors",
        "train/bottom.safetensors": "this party's bottom model",
        "train/top.safetensors": "the top model",
        "train/tower.safetensors": "the tower of this party's own labels",
        **LOOKED,
        **ARTEFACTS,
        "train/metrics.jsonl": "metrics of each epoch",
        "encode/encoder.json": "vocabularies and statistics of the columns; private",
        "transcript.jsonl": "every message that left: topic, shapes, bytes, digest",
        "log.jsonl": "the log",
    }
    return tuple(
        Artefact(path=path, description=said)
        for path, said in known.items()
        if folder.file(path).exists()
    )
