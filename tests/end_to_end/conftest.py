"""Parties as real processes, or as threads with real TLS between them, on made-up tables."""

import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.tiny import TEXT

from isthmus.data.synthetic import SyntheticOptions, synthetic_tables
from isthmus.jobs.job import Job, load_job
from isthmus.jobs.launcher import free_port, throw_away_identities
from isthmus.jobs.party import PartyRun, run_party
from isthmus.link import Deadlines

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1", "COLUMNS": "200"}
QUICK = Deadlines(connect=60, recv=60, reconnect=5, heartbeat=2, close=5)
PATIENCE = 200.0
"""Seconds for what takes a few where nothing else runs."""


def pytest_collection_modifyitems(items):
    """Starting processes takes long on a machine that is busy."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(300), append=False)


@dataclass
class Site:
    """A folder with tables, a job file and the parties' identities."""

    folder: Path

    def __post_init__(self):
        self.port = free_port()
        self.started: list[subprocess.Popen] = []
        folder, parties = self.folder / "identities", ("alice", "bob")
        self.identities = throw_away_identities(folder, parties, seed=3)  # as the job's
        self.write(TEXT)

    @property
    def job_file(self) -> Path:
        return self.folder / "job.yaml"

    def write(self, text: str) -> None:
        self.job_file.write_text(text)

    def job(self, *overrides: str) -> Job:
        return load_job(self.job_file, overrides)

    def results(self, party: str, *overrides: str) -> Path:
        return self.folder / "runs" / self.job(*overrides).folder_name / party

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "isthmus", *map(str, arguments)]

    def isthmus(self, *arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            self.command(*arguments),
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def start(self, party: str, *more: str) -> subprocess.Popen:
        """A party as a process of its own."""
        address = f"127.0.0.1:{self.port}"
        end = ("--listen", address) if party == "bob" else ("--dial", address)
        options = ("--identity", self.identities[party], "--out", self.folder / "runs")
        return self.launch("party", self.job_file, "--as", party, *options, *end, *more)

    def launch(self, *arguments: str) -> subprocess.Popen:
        """A command as a process, which is ended with the test at the latest."""
        process = subprocess.Popen(
            self.command(*arguments),
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def end(self) -> None:
        """End what a failed test has left."""
        for process in self.started:
            if process.poll() is None:
                process.terminate()  # so that a launcher ends its parties too
        for process in self.started:
            with suppress(ValueError):  # its output has been read already
                process.communicate(timeout=PATIENCE)

    def run_threads(self, jobs=None, **changes):
        """Both parties as threads with TLS between them; each one's page, or its error."""
        outcome = {}

        def run(party):
            address = f"127.0.0.1:{self.port}"
            try:
                outcome[party] = run_party(
                    PartyRun(
                        job=(jobs or {}).get(party) or self.job(),
                        me=party,
                        identity=self.identities[party],
                        listen=address if party == "bob" else None,
                        dial={} if party == "bob" else {"bob": address},
                        out=self.folder / "runs",
                        workers=0,
                        deadlines=changes.get("deadlines", QUICK),
                    )
                )
            except Exception as error:
                outcome[party] = error

        threads = [threading.Thread(target=run, args=(party,)) for party in ("alice", "bob")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert not any(thread.is_alive() for thread in threads)
        return outcome


def wait_for(condition, seconds=PATIENCE):
    """Wait until `condition()` holds; fails the test if it never does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.fixture
def site(tmp_path):
    synthetic_tables(1, SyntheticOptions(rows=600, users=60, items=30)).write(tmp_path)
    site = Site(tmp_path)
    yield site
    site.end()


@pytest.fixture
def until():
    return wait_for
