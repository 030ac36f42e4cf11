"""How many ids the parties of a job have in common, before they run it: nothing is trained.

Files in the party's folder of the job: `overlap.json`, the numbers, and `overlap-transcript.jsonl`,
what was sent for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace

from isthmus.align import Overlap, count_overlap
from isthmus.align.keys import OnTrouble, check_keys
from isthmus.align.normalise import normalised
from isthmus.errors import DataError
from isthmus.files import write_json
from isthmus.jobs.arbiter import without_arbiter
from isthmus.jobs.artefacts import PartyFolder
from isthmus.jobs.party import PartyRun, agreed_context, meet, meeting_points
from isthmus.jobs.tables import check_party, check_table, read_columns
from isthmus.link import Transcript, load_identity
from isthmus.session import Progress, Session, Task

FIGURES = "overlap.json"
TRANSCRIPT = "overlap-transcript.jsonl"


@dataclass(frozen=True)
class _Counting:
    """Progress whose tasks are all called what they are for: nothing is aligned."""

    progress: Progress

    @contextmanager
    def task(self, name: str, total: int | None = None) -> Iterator[Task]:
        """See `Progress.task`."""
        del name
        with self.progress.task("overlap", total) as task:
            yield task

    def say(self, text: str) -> None:
        """See `Progress.say`."""
        self.progress.say(text)


def run_overlap(run: PartyRun) -> Mapping[str, Overlap]:
    """Meet the partners and count what is in common with each that this party has a link to.

    Raises:
        IsthmusError: this party, or a partner, could not go on. Partners that have been met know.
    """
    # All that can be wrong on this side is found before a partner is kept waiting.
    check_party(run.job, run.me)
    run = replace(run, job=without_arbiter(run.job))
    job, me, spec = run.job, run.me, run.job.spec
    meeting_points(run)
    identity = load_identity(run.identity, me)
    check_table(job, me)
    key = spec.key_of(me)
    ids = read_columns(job, me, key, text=key)
    if not len(ids):
        raise DataError(f"{job.table_of(me)} holds no rows")
    events = spec.align.keys == "entity" and me == spec.label.party
    duplicates: OnTrouble = "drop" if events else spec.align.duplicates
    check_keys(normalised(ids, spec.align.rules)[0], repeats=duplicates, nulls=spec.align.nulls)
    folder = PartyFolder(run.out / job.folder_name / me)
    folder.create()
    with Transcript(folder.file(TRANSCRIPT), payload=run.payload) as transcript:
        links = meet(run, transcript, f"overlap:{agreed_context(job)}")
        session = Session(
            me=me,
            parties=spec.order,
            label_party=spec.label.party,
            links=links,
            seed=spec.seed,
            progress=_Counting(run.progress),
            secret=identity.secret,
        )
        try:
            found = count_overlap(
                session,
                ids,
                normalise=spec.align.rules,
                duplicates=duplicates,
                nulls=spec.align.nulls,
                workers=run.workers,
            )
        except BaseException as error:
            for link in links.values():
                link.fail(error)
            raise
        for link in links.values():
            link.close()
    write_json(folder.file(FIGURES), {partner: asdict(one) for partner, one in found.items()})
    return found
