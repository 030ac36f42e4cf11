"""A job with an arbiter as three processes over TLS: what one process gives, and going on."""

import json
import signal

import polars as pl
import pytest
from tests.end_to_end.conftest import Site
from tests.jobs.tables import HEAD, REST, made_up

from isthmus.errors import IdentityError, LinkError, PartnerAbsent
from isthmus.jobs.local import run_here
from isthmus.jobs.rehearsal import rehearsal_secret
from isthmus.link import Deadlines
from isthmus.link.identity import create_identity, trust

pytest.importorskip("tenseal")

RIDGE = """\
linear: {family: logistic, protocol: arbiter, arbiter: court, l2: 0.01, tolerance: 0.1}
"""
SHORT = Deadlines(connect=4, recv=10, reconnect=1, heartbeat=1, close=1)
TRUST = {"alice": ["bob"], "bob": ["alice", "court"], "court": ["bob"]}


class ArbiterSite(Site):
    """A site whose arbiter knows the label party alone, and is known to it alone."""

    def __post_init__(self):
        super().__post_init__()
        made_up(self.folder, rows=400)
        self.write(HEAD + REST + RIDGE)
        folder = self.folder / "known"
        made = {
            party: create_identity(folder / party, party, days=2, secret=rehearsal_secret(5, party))
            for party in TRUST
        }
        for party, partners in TRUST.items():
            for partner in partners:
                trust(folder / party, made[partner].certificate_path, name=partner)
        self.identities = {party: folder / party for party in TRUST}


@pytest.fixture
def court(tmp_path):
    site = ArbiterSite(tmp_path)
    yield site
    site.end()


def predictions(folder):
    return pl.read_parquet(folder / "predict" / "predictions.parquet")


def test_three_processes_give_what_one_process_gives(court):
    done = {party: court.start(party) for party in TRUST}
    said = {party: process.communicate(timeout=200) for party, process in done.items()}
    assert [process.returncode for process in done.values()] == [0, 0, 0], said
    here = run_here(court.job(), court.folder / "memory")
    for party in TRUST:
        name = "result.json"
        ours = json.loads((court.results(party) / "train" / name).read_text())
        theirs = json.loads((here[party].parent / "train" / name).read_text())
        assert ours["coefficients"] == theirs["coefficients"], party
        assert ours["rounds"] == theirs["rounds"] > 0
    assert predictions(court.results("bob")).equals(predictions(here["bob"].parent))
    assert "bytes that crossed" in said["court"][0]
    sent = (court.results("court") / "transcript.jsonl").read_text().splitlines()
    assert {json.loads(line)["topic"] for line in sent} == {"linear.key", "linear.sums"}
    assert {json.loads(line)["partner"] for line in sent} == {"bob"}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_arbiter_is_told_of_and_the_job_goes_on_with_another(court, until):
    more = ("--reconnect", "2")
    parties = {party: court.start(party, *more) for party in TRUST}
    until(lambda: (court.results("court") / "train").exists())
    parties["court"].send_signal(signal.SIGKILL)
    said = {party: process.communicate(timeout=100)[1] for party, process in parties.items()}
    for survivor in ("alice", "bob"):
        assert parties[survivor].returncode == 8, said
        assert "--resume" in said[survivor]
    assert "court" in said["bob"]
    again = [court.start(party, "--resume") for party in TRUST]
    ended = [party.communicate(timeout=200) for party in again]
    assert [party.returncode for party in again] == [0, 0, 0], ended
    log = (court.results("bob") / "log.jsonl").read_text().splitlines()
    skipped = [one["step"] for one in map(json.loads, log) if one["event"] == "step.skip"]
    assert skipped == ["align", "encode"]


def test_an_arbiter_that_does_not_come_is_named(court):
    outcome = court.run_threads(deadlines=SHORT)
    assert isinstance(outcome["bob"], PartnerAbsent)
    assert "court" in outcome["bob"].message
    assert isinstance(outcome["alice"], LinkError)
    assert not list((court.folder / "runs").rglob("align"))


def test_an_arbiter_that_the_label_party_does_not_trust(court):
    folder = create_identity(court.folder / "other", "bob", days=2).certificate_path.parent
    trust(folder, court.identities["alice"] / "alice.cert.pem", name="alice")
    court.identities["bob"] = folder
    outcome = court.run_threads(deadlines=SHORT)
    assert isinstance(outcome["bob"], IdentityError)
    assert "court" in outcome["bob"].message
