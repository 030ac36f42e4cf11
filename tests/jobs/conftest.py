"""A small job on made-up tables, and all its parties run in this process."""

import json
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
import torch
from tests.tiny import TEXT

from isthmus.data.synthetic import SyntheticOptions, synthetic_tables
from isthmus.errors import IsthmusError
from isthmus.jobs.job import Job, load_job
from isthmus.jobs.local import run_one
from isthmus.jobs.rehearsal import rehearsal_secrets
from isthmus.session import run_parties


@dataclass
class Workshop:
    """A folder with two tables and a job file, to be spoilt and run."""

    folder: Path
    text: str = TEXT

    def change(self, old: str, new: str) -> None:
        assert old in self.text
        self.text = self.text.replace(old, new)

    def table(self, party: str) -> Path:
        return self.folder / party / ("people.csv" if party == "alice" else "events.csv")

    def spoil(self, party: str, change) -> None:
        change(pl.read_csv(self.table(party))).write_csv(self.table(party))

    def job(self, *overrides: str) -> Job:
        path = self.folder / "job.yaml"
        path.write_text(self.text)
        return load_job(path, overrides)

    @property
    def out(self) -> Path:
        return self.folder / "runs"

    def results(self, job: Job, party: str) -> Path:
        return self.out / job.folder_name / party

    def report(self, job: Job, party: str):
        """The content of a party's report.json."""
        return json.loads((self.results(job, party) / "report.json").read_text())

    def run(self, job: Job, *, resume: bool | dict[str, bool] = False):
        """Each party's page, or the error it stopped with."""

        def program(party):
            def run(session):
                wish = resume if isinstance(resume, bool) else resume[party]
                try:
                    return run_one(session, job, resume=wish)
                except IsthmusError as error:
                    return error

            return run

        return run_parties(
            {party: program(party) for party in job.spec.order},
            label_party=job.spec.label.party,
            seed=job.spec.seed,
            folder=self.out / job.folder_name,
            secrets=rehearsal_secrets(job.spec.seed, job.spec.order),
        )


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def workshop(tmp_path):
    options = SyntheticOptions(rows=600, users=60, items=30)
    synthetic_tables(1, options).write(tmp_path)
    return Workshop(tmp_path)
