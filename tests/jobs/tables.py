"""Made-up tables of two or three parties, and jobs over them, for models that are no networks."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from isthmus.jobs.artefacts import PartyFolder
from isthmus.jobs.job import Job, load_job
from isthmus.jobs.local import run_here
from isthmus.jobs.outcome import write_party_report
from isthmus.jobs.pooled import add_pooled

HEAD = """\
isthmus: 1
name: made-up
seed: 5
parties:
  alice: {table: alice.csv, features: {a0: numeric, a1: numeric, town: categorical}}
  bob: {table: bob.csv, features: {b0: numeric, b1: numeric, colour: categorical}}
"""
REST = """\
label: {party: bob, expression: "y == 1"}
align: {key: id, protocol: kkrt}
split: {train: 0.7, valid: 0.1, test: 0.2}
evaluate: {resamples: 20}
"""
CAROL = "  carol: {table: carol.csv, features: {c0: numeric, c1: numeric}}\n"


@dataclass
class Tables:
    """A folder with the parties' tables and a job file over them."""

    folder: Path
    frames: dict[str, pl.DataFrame]

    def spoil(self, party, **columns):
        self.frames[party] = self.frames[party].with_columns(**columns)
        self.frames[party].write_csv(self.folder / f"{party}.csv")

    def job(self, text: str, *overrides: str, third: bool = False) -> Job:
        path = self.folder / "job.yaml"
        path.write_text(HEAD + (CAROL if third else "") + REST + text)
        return load_job(path, overrides)

    def run(self, job: Job, *, resume=False, pooled=False) -> dict[str, dict]:
        """Each party's report, as JSON."""
        out = self.folder / "runs"
        run_here(job, out, resume=resume)
        if pooled:
            add_pooled(job, out / job.folder_name)
            for party in job.spec.order:
                write_party_report(job, party, PartyFolder(out / job.folder_name / party))
        return {
            party: json.loads(self.at(job, party, "report.json").read_text())
            for party in job.spec.order
        }

    def at(self, job: Job, party: str, *names: str) -> Path:
        return (self.folder / "runs" / job.folder_name / party).joinpath(*names)

    def joined(self) -> pl.DataFrame:
        """All columns by id."""
        whole = self.frames["bob"]
        for party in ("alice", "carol"):
            whole = whole.join(self.frames[party], on="id")
        return whole


def made_up(folder: Path, rows: int = 900) -> Tables:
    """Tables whose label follows all parties' columns; ids in another order at each."""
    rng = np.random.default_rng(11)
    a, b, c = (rng.normal(size=(rows, 2)) for _ in range(3))
    town = rng.choice(
        ["north", "south", "east", "far1", "far2"], rows, p=[0.4, 0.3, 0.29, 0.005, 0.005]
    )
    colour = rng.choice(["red", "blue"], rows, p=[0.7, 0.3])
    eta = 0.9 * a[:, 0] - 0.6 * b[:, 0] + 0.5 * c[:, 0] + 0.7 * (town == "south")
    eta += 0.5 * (colour == "blue") - 0.4
    years = rng.uniform(0.2, 1.0, rows)
    ids = np.arange(rows)
    frames = {
        "alice": pl.DataFrame({"id": ids, "a0": 100 + 20 * a[:, 0], "a1": a[:, 1], "town": town}),
        "bob": pl.DataFrame(
            {
                "id": ids,
                "b0": b[:, 0],
                "b1": b[:, 1],
                "colour": colour,
                "y": (rng.random(rows) < 1 / (1 + np.exp(-eta))).astype(int),
                "claims": rng.poisson(years * np.exp(0.5 * eta)),
                "years": years,
                "amount": 1000 + 50 * eta + rng.normal(size=rows),
                "grade": np.array(["low", "mid", "high"])[np.digitize(eta, [-0.5, 0.5])],
                "w": rng.integers(1, 4, rows),
            }
        ),
        "carol": pl.DataFrame({"id": ids, "c0": c[:, 0], "c1": c[:, 1]}),
    }
    for party, frame in frames.items():
        frames[party] = frame.sample(fraction=1.0, shuffle=True, seed=len(party))
        frames[party].write_csv(folder / f"{party}.csv")
    return Tables(folder, frames)
