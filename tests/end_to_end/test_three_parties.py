"""Two feature parties and the label party over TLS, under a secure sum signed by identities."""

import json
import signal
import threading
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from safetensors.numpy import load_file
from tests.end_to_end.conftest import PATIENCE, QUICK, Site
from tests.tiny import TEXT

from isthmus.data.synthetic import SyntheticOptions, synthetic_tables
from isthmus.errors import IdentityError, UntrustedPartner
from isthmus.jobs.launcher import throw_away_identities
from isthmus.jobs.local import run_here
from isthmus.jobs.party import PartyRun, run_party
from isthmus.jobs.signing import signer_of
from isthmus.link.identity import create_identity, load_identity, trust

PARTIES = ("alice", "carol", "bob")
LONG = (
    *("--set", "train.epochs=12", "--set", "train.patience=0", "--set", "train.batch_size=16"),
    *("--set", "evaluate.alone=false"),
)


class ThreeSite(Site):
    """A site whose traits are carol's."""

    def __post_init__(self):
        super().__post_init__()
        self.identities = throw_away_identities(self.folder / "all", PARTIES, seed=3)
        people = pl.read_csv(self.folder / "alice" / "people.csv")
        (self.folder / "carol").mkdir()
        people.select("ID", "Trait1", "Trait2").write_csv(self.folder / "carol" / "people.csv")
        text = TEXT.replace(", Trait1: categorical, Trait2: categorical}", "}")
        text = text.replace(
            "  bob:\n",
            "  carol:\n    table: carol/people.csv\n"
            "    features: {Trait1: categorical, Trait2: categorical}\n  bob:\n",
        )
        self.write(text.replace("train:\n", "train:\n  secure_sum: true\n"))

    def run(self, party):
        address = f"127.0.0.1:{self.port}"
        return PartyRun(
            job=self.job(),
            me=party,
            identity=self.identities[party],
            listen=address if party == "bob" else None,
            dial={} if party == "bob" else {"bob": address},
            out=self.folder / "runs",
            workers=0,
            deadlines=QUICK,
        )

    def run_all(self):
        """All parties as threads; each one's page, or its error."""
        outcome = {}

        def run(party):
            try:
                outcome[party] = run_party(self.run(party))
            except Exception as error:
                outcome[party] = error

        threads = [threading.Thread(target=run, args=(party,)) for party in PARTIES]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        return outcome


@pytest.fixture
def three(tmp_path):
    synthetic_tables(1, SyntheticOptions(rows=600, users=60, items=30)).write(tmp_path)
    site = ThreeSite(tmp_path)
    yield site
    site.end()


def scores(folder):
    return load_file(folder / "evaluate" / "scores.safetensors")


def test_three_processes_give_what_one_process_gives(three):
    arguments = ("--set", "evaluate.pooled=true", "--out", three.folder / "runs")
    done = three.isthmus("run", three.job_file, *arguments, "--format", "json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    federation, pooled = report["metrics"]["federation"], report["metrics"]["pooled"]
    assert federation["log_loss"] == pytest.approx(pooled["log_loss"], abs=1e-4)
    assert {topic["partner"] for topic in report["traffic"]["topics"]} == {"alice", "carol"}

    results = three.results("bob", "evaluate.pooled=true")
    here = run_here(three.job("evaluate.pooled=true"), three.folder / "memory")["bob"].parent
    over_tls = scores(results)
    for name, values in scores(here).items():
        assert (over_tls[name] == values).all(), name
    assert (results / "predict" / "predictions.parquet").exists()


def test_feature_parties_must_trust_each_other(three):
    (three.identities["alice"] / "trusted" / "carol.cert.pem").unlink()
    with pytest.raises(UntrustedPartner) as caught:
        run_party(three.run("alice"))
    assert "train.secure_sum: alice does not trust the certificate of carol" in str(caught.value)
    assert f"isthmus identity trust carol.cert.pem --folder {three.identities['alice']}" in str(
        caught.value.mend
    )
    assert not (three.folder / "runs").exists()  # nobody was called


def test_a_feature_partys_certificate_that_has_expired(three):
    now = datetime.now(UTC)
    folder = three.identities["alice"]
    identity = load_identity(folder, "alice")
    assert signer_of(three.job(), identity, folder, lambda: now) is not None
    with pytest.raises(IdentityError, match=r"certificate of carol.*expired"):
        signer_of(three.job(), identity, folder, lambda: now + timedelta(days=3))


def test_who_needs_no_signer(three):
    folder = three.identities["bob"]
    assert signer_of(three.job(), load_identity(folder, "bob"), folder) is None
    folder = three.identities["alice"]
    plain = three.job("train.secure_sum=false")
    assert signer_of(plain, load_identity(folder, "alice"), folder) is None


def test_a_mask_key_of_somebody_else_is_refused(three):
    other = create_identity(three.folder / "other", "carol")
    trust(three.identities["alice"], other.certificate_path, replace=True)
    outcome = three.run_all()
    assert isinstance(outcome["alice"], UntrustedPartner), outcome
    assert "is not signed by carol" in outcome["alice"].message
    assert all(isinstance(error, Exception) for error in outcome.values())
    assert not list((three.folder / "runs").rglob("scores*"))


@pytest.fixture
def start(three):
    """Start a party as a process; what still runs in the end is killed."""
    started = []

    def start(party, *options):
        started.append(three.start(party, *LONG, *options))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_party_is_resumed_under_a_secure_sum(three, start, until):
    overrides = LONG[1::2]
    parties = {party: start(party, "--reconnect", "2") for party in PARTIES}
    checkpoints = three.results("alice", *overrides) / "train" / "checkpoints"
    until(lambda: len(list(checkpoints.glob("epoch-*"))) >= 2, 200)
    parties["carol"].send_signal(signal.SIGKILL)
    said = {party: process.communicate(timeout=100)[1] for party, process in parties.items()}
    for survivor in ("alice", "bob"):
        assert parties[survivor].returncode == 8, said
        assert said[survivor].count("error [") == 1
    assert "carol" in said["bob"]  # who alone had a link to carol
    assert "bob" in said["alice"]
    again = [start(party, "--resume") for party in PARTIES]
    ended = [party.communicate(timeout=200) for party in again]
    assert [party.returncode for party in again] == [0, 0, 0], ended
    result = json.loads((three.results("bob", *overrides) / "train" / "result.json").read_text())
    assert result["resumed_step"] > 0
    whole = run_here(three.job(*overrides), three.folder / "whole")["bob"].parent
    found = scores(three.results("bob", *overrides))
    for name, values in scores(whole).items():
        assert (found[name] == values).all(), name
