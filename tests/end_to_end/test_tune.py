"""`isthmus tune` at each party: real processes or threads with TLS between them, one search."""

import json
import shutil
import threading
from collections import Counter

import polars as pl
import pytest
from tests.end_to_end.conftest import PATIENCE, QUICK
from tests.end_to_end.test_three_parties import ThreeSite
from tests.tiny import TEXT

from isthmus.data.synthetic import SyntheticOptions, synthetic_tables
from isthmus.errors import JobError, JobMismatch, NotFinite, PartnerFailed, StorageError
from isthmus.jobs.job import load_job
from isthmus.jobs.party import PartyRun
from isthmus.jobs.tune import rounds as rounding
from isthmus.jobs.tune import study as studying
from isthmus.jobs.tune.parties import PartySearch, search_with_partners
from isthmus.jobs.tune.report import TuneReport
from isthmus.jobs.tune.search import Search, run_search
from isthmus.jobs.tune.space import as_overrides, load_space

PARTIES = ("alice", "bob")
SPACE = """\
trials: 3
startup: 3
space:
  train.learning_rate: {low: 1e-3, high: 0.1, log: true}
  train.model.bottom: {choice: [[8], [6, 4]]}
  parties.alice.features.Trait1.min_count: {low: 1, high: 2}
"""


@pytest.fixture
def search(site):
    return Searching(site)


class Searching:
    """A search of the parties of a site."""

    def __init__(self, site, parties=PARTIES):
        self.site, self.parties = site, parties
        self.space("space.yaml", SPACE)
        self.change("Trait1: categorical", "Trait1: {kind: categorical}")

    def change(self, old, new):
        text = self.site.job_file.read_text() if self.site.job_file.exists() else TEXT
        assert old in text
        self.site.write(text.replace(old, new))

    def space(self, name, text):
        (self.site.folder / name).write_text(text)

    def report(self, party, out="runs"):
        (found,) = (self.site.folder / out).glob(f"tiny-*-tune-*/{party}/tune.json")
        return TuneReport.model_validate_json(found.read_bytes())

    def folder(self, party):
        (found,) = (self.site.folder / "runs").glob(f"tiny-*-tune-*/{party}")
        return found

    def start(self, party, *more):
        address = f"127.0.0.1:{self.site.port}"
        end = ("--listen", address) if party == "bob" else ("--dial", address)
        options = ("--identity", self.site.identities[party], "--out", self.site.folder / "runs")
        space = self.site.folder / "space.yaml"
        return self.site.launch(
            "tune",
            self.site.job_file,
            space,
            "--as",
            party,
            *options,
            *end,
            "--reconnect",
            3,
            *more,
        )

    def threads(self, spaces=None, on_trial=lambda report: None, deadlines=QUICK):
        """All parties as threads with TLS between them; each one's page, or its error."""
        outcome = {}

        def run(party):
            address = f"127.0.0.1:{self.site.port}"
            source = self.site.folder / (spaces or {}).get(party, "space.yaml")
            try:
                outcome[party] = search_with_partners(
                    PartySearch(
                        run=PartyRun(
                            job=load_job(self.site.job_file),
                            me=party,
                            identity=self.site.identities[party],
                            listen=address if party == "bob" else None,
                            dial={} if party == "bob" else {"bob": address},
                            out=self.site.folder / "runs",
                            workers=0,
                            deadlines=deadlines,
                        ),
                        space=load_space(source),
                        source=source,
                        on_trial=on_trial,
                    )
                )
            except Exception as error:
                outcome[party] = error

        started = [threading.Thread(target=run, args=(party,)) for party in self.parties]
        for thread in started:
            thread.start()
        for thread in started:
            thread.join(PATIENCE)
        assert not any(thread.is_alive() for thread in started)
        return outcome


def found(report):
    return [trial.model_dump(exclude={"seconds"}) for trial in report.trials]


def test_a_party_with_labels_of_its_own_searches_too(search):
    search.change(", Income: numeric", "")
    search.change(
        'label: {party: bob, expression: "Clicked == 1"}',
        'label:\n  party: bob\n  expression: "Clicked == 1"\n'
        '  also: {rich: {party: alice, expression: "Age > 40"}}',
    )
    search.change("{Age: numeric, ", "{")
    search.change("model: {dim: 4,", "model: {name: mmoe, experts: {width: 4}, dim: 4,")
    search.space("space.yaml", SPACE.replace("trials: 3", "trials: 2"))
    outcome = search.threads()
    assert {party: type(page) for party, page in outcome.items()} == dict.fromkeys(
        PARTIES, type(search.site.folder)
    ), outcome
    mine, theirs = search.report("bob"), search.report("alice")
    assert [trial.state for trial in mine.trials] == ["done", "done"]
    assert [trial.values for trial in mine.trials] == [trial.values for trial in theirs.trials]
    # Trials are judged by the label party's target; the best one's report has the tower's as well.
    page = (search.folder("alice") / theirs.page).resolve().parent
    (rich,) = (
        target
        for target in json.loads((page / "report.json").read_text())["targets"]
        if (target["name"], target["metric"]) == ("rich", "AUC")
    )
    assert rich["federation"] is not None
    assert (page / "train" / "tower.safetensors").exists()


@pytest.mark.parametrize("victim", ["alice", pytest.param("bob", marks=pytest.mark.slow)])
def test_a_search_of_processes_goes_on_after_one_was_killed(search, until, victim):
    # What comes out where nothing goes wrong and all parties are in one process.
    source = search.site.folder / "space.yaml"
    here = Search(
        job=search.site.job_file,
        space=load_space(source),
        source=source,
        out=search.site.folder / "here",
    )
    page = run_search(here)
    undisturbed = TuneReport.model_validate_json((page.parent / "tune.json").read_bytes())

    parties = {party: search.start(party) for party in PARTIES}

    def second_trial_is_under_way():
        journals = list((search.site.folder / "runs").glob("tiny-*-tune-*/alice/trials.json"))
        return bool(journals) and '"2":' in journals[0].read_text()

    until(second_trial_is_under_way)
    survivor = parties["bob" if victim == "alice" else "alice"]
    parties[victim].kill()
    parties[victim].wait()
    _, said = survivor.communicate(timeout=PATIENCE)
    assert survivor.returncode == 8
    assert said.count("error [") == 1
    assert "The same command at every party goes on" in said
    assert not list((search.site.folder / "runs").glob("*/*/evaluate"))

    again = {party: search.start(party, "--format", "json") for party in PARTIES}
    told = {party: process.communicate(timeout=PATIENCE) for party, process in again.items()}
    for party, process in again.items():
        assert process.returncode == 0, told[party][1]
    assert "trial 1 of 3" not in told["bob"][1]
    report = TuneReport.model_validate_json(told["bob"][0])
    assert found(report) == found(undisturbed)
    assert report.best == undisturbed.best
    assert report == search.report("bob")

    # The test samples were looked at once, for the best trial.
    (evaluated,) = (search.site.folder / "runs").glob("*/bob/evaluate/done.json")
    values = report.trials[report.best - 1].values
    job = load_job(search.site.job_file, as_overrides(values))
    assert evaluated.parent.parent == search.site.folder / "runs" / job.folder_name / "bob"
    result = json.loads((evaluated.parent.parent / "train" / "result.json").read_text())
    curve = {epoch["epoch"]: epoch["valid_auc"] for epoch in result["epochs"]}
    assert curve == report.trials[report.best - 1].curve
    beside = search.folder("alice") / search.report("alice").page
    assert beside.resolve() == evaluated.parent.parent.parent / "alice" / "report.html"

    # The feature party knows the values, and metrics rounded.
    theirs = search.report("alice")
    assert [t.values for t in theirs.trials] == [t.values for t in report.trials]
    assert [t.metric for t in theirs.trials] == [round(t.metric, 4) for t in report.trials]
    assert theirs.best == report.best
    assert not (search.folder("alice") / "trials.log").exists()


def test_metrics_stay_at_the_label_party_where_they_are_not_shared(search):
    search.change("resamples: 50", "resamples: 50, share_metrics: false, alone: false")
    search.space("space.yaml", SPACE.replace("trials: 3", "trials: 2"))
    told = []
    outcome = search.threads(on_trial=told.append)
    assert all(page.name == "tune.html" for page in outcome.values()), outcome
    assert all(trial.metric is not None for trial in search.report("bob").trials)
    assert [trial.metric for trial in search.report("alice").trials] == [None, None]
    assert [trial.curve for trial in search.report("alice").trials] == [{}, {}]
    known = (search.folder("alice") / "trials.json").read_text()
    assert str(search.report("bob").trials[0].metric)[:5] not in known

    # Finished: nothing runs again. More trials are the same search, where all agree on them.
    told.clear()
    search.space("more.yaml", SPACE)
    outcome = search.threads({"alice": "more.yaml"})
    for party, partner in (("alice", "bob"), ("bob", "alice")):
        assert isinstance(outcome[party], JobMismatch), outcome
        assert f"{partner} searches something else: trials is" in outcome[party].message
    search.threads({"alice": "more.yaml", "bob": "more.yaml"}, told.append)
    assert {len(report.trials) for report in told} == {3}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("high: 0.1", "high: 0.2", 'space.train.learning_rate is {"high": 0.1, "log": true, "low"'),
        ("  train.model.bottom: {choice: [[8], [6, 4]]}\n", "", "bottom is missing at alice"),
        ("startup: 3", "startup: 2", "startup is 3 here and 2 at alice"),
    ],
)
def test_partners_that_search_something_else_are_told_what(search, old, new, said):
    assert old in SPACE
    search.space("other.yaml", SPACE.replace(old, new))
    outcome = search.threads({"alice": "other.yaml"})
    assert isinstance(outcome["bob"], JobMismatch)
    assert said in outcome["bob"].message
    assert isinstance(outcome["alice"], JobMismatch)
    assert "bob searches something else: " in outcome["alice"].message
    assert "alice" not in outcome["alice"].message.replace("parties.alice", "")
    assert not list((search.site.folder / "runs").rglob("train"))


def test_a_partner_that_runs_the_job_meets_no_search(search):
    address = f"127.0.0.1:{search.site.port}"
    identity = ("--identity", search.site.identities["alice"], "--out", search.site.folder / "runs")
    party = search.site.launch(
        "party", search.site.job_file, "--as", "alice", *identity, "--dial", address
    )
    searching = search.start("bob")
    for process in (party, searching):
        _, said = process.communicate(timeout=PATIENCE)
        assert process.returncode == 2
        assert "a different job (here " in said
        assert "tune:" in said


def failing_at(monkeypatch, who, trial):
    """Let the training of a trial fail at one party; counts each party's trainings."""
    train = rounding.run_training
    calls = Counter()

    def run_training(context, home):
        calls[context.me] += 1
        if context.me == who and calls[who] == trial:
            error = NotFinite("a number is not finite")
            for link in context.session.links.values():
                link.fail(error)
            raise error
        train(context, home)

    monkeypatch.setattr(rounding, "run_training", run_training)
    return calls


@pytest.mark.parametrize("who", PARTIES)
def test_training_that_fails_at_one_party_is_a_trial_that_failed(search, monkeypatch, who):
    calls = failing_at(monkeypatch, who, 2)
    outcome = search.threads()
    assert all(page.name == "tune.html" for page in outcome.values()), outcome
    for party in PARTIES:
        states = [trial.state for trial in search.report(party).trials]
        assert states == ["done", "failed", "done"], party
        assert calls[party] == 3
    failed = search.report("alice").trials[1]
    assert "not finite" not in failed.error  # a message is its party's own
    assert failed.error
    own = search.report("bob").trials[1].error
    assert ("not finite" in own) == (who == "bob")


def test_three_parties_search_under_a_secure_sum_and_one_fails(tmp_path, monkeypatch):
    synthetic_tables(1, SyntheticOptions(rows=600, users=60, items=30)).write(tmp_path)
    search = Searching(ThreeSite(tmp_path), ("alice", "carol", "bob"))
    search.space(
        "space.yaml",
        "{trials: 3, startup: 3, space: {train.learning_rate: {low: 0.001, high: 0.1}, "
        "parties.carol.features.Trait1.min_count: {choice: [1, 1000]}}}",
    )
    failing_at(monkeypatch, "carol", 2)
    outcome = search.threads()
    assert all(page.name == "tune.html" for page in outcome.values()), outcome
    for party in search.parties:
        trials = search.report(party).trials
        assert [trial.state for trial in trials] == ["done", "failed", "done"]
        assert (
            len({trial.values["parties.carol.features.Trait1.min_count"] for trial in trials}) > 1
        )
        # One alignment for all trials, though what they encode differs.
        sent = (search.folder(party) / "transcript.jsonl").read_text().splitlines()
        steps = [json.loads(line)["topic"] for line in sent]
        assert any(topic.startswith("align.") for topic in steps)
        first = next(at for at, topic in enumerate(steps) if topic.startswith("train."))
        assert not any(topic.startswith("align.") for topic in steps[first:])


def test_values_that_do_not_do_at_the_label_party_are_not_proposed(search):
    text = "{trials: 3, startup: 3, seed: 2, space: {train.guards.cut: {choice: [none, odd]}}}"
    search.space("space.yaml", text)
    outcome = search.threads()
    assert all(page.name == "tune.html" for page in outcome.values()), outcome
    trials = {party: search.report(party).trials for party in PARTIES}
    states = [trial.state for trial in trials["bob"]]
    assert sorted(set(states)) == ["done", "failed"]
    assert [trial.state for trial in trials["alice"]] == states
    begun = json.loads((search.folder("alice") / "trials.json").read_text())["begun"]
    assert len(begun) == states.count("done")
    assert all(values == {"train.guards.cut": "none"} for values in begun.values())
    (error,) = {trial.error for trial in trials["alice"] if trial.state == "failed"}
    assert error == JobError.public


def test_a_trial_is_pruned_at_all_parties(search, monkeypatch):
    text = "{trials: 2, startup: 1, space: {train.learning_rate: {choice: [0.03, 0.02]}}}"
    search.space("space.yaml", text)
    judge = studying.Judge.__call__

    def prunes(self, record):
        self._trial.should_prune = lambda: self._trial.number == 1
        return judge(self, record)

    monkeypatch.setattr(studying.Judge, "__call__", prunes)
    outcome = search.threads()
    assert all(page.name == "tune.html" for page in outcome.values()), outcome
    for party in PARTIES:
        trials = search.report(party).trials
        assert [trial.state for trial in trials] == ["done", "pruned"]
        assert [len(trial.curve) for trial in trials] == [2, 1]


def test_a_table_that_changed_ends_the_search_and_a_lost_folder_is_told(search):
    search.space("space.yaml", SPACE.replace("trials: 3", "trials: 1"))
    assert search.threads()["bob"].name == "tune.html"
    table = search.site.folder / "alice" / "people.csv"
    pl.read_csv(table).head(50).write_csv(table)
    search.space("space.yaml", SPACE.replace("trials: 3", "trials: 2"))
    outcome = search.threads()
    assert isinstance(outcome["bob"], StorageError), outcome
    assert "a table has changed" in outcome["bob"].message
    assert isinstance(outcome["alice"], PartnerFailed)
    shutil.rmtree(search.folder("bob"))
    outcome = search.threads()
    assert "alice knows of 1 trials" in outcome["bob"].message
    assert "remove its folder at every party" in outcome["bob"].mend


def test_where_no_trial_comes_to_its_end_all_parties_are_told(search):
    text = "{trials: 2, space: {train.guards.cut: {choice: [odd, odder]}}}"
    search.space("space.yaml", text)
    outcome = search.threads()
    for party in PARTIES:
        assert isinstance(outcome[party], JobError), outcome
        assert "none of the 2 trials came to its end" in outcome[party].message
        assert [trial.state for trial in search.report(party).trials] == ["failed"] * 2
    assert "'odd" in search.report("bob").trials[0].error
    assert not list((search.site.folder / "runs").rglob("align"))
