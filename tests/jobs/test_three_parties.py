"""A job of two feature parties and the label party: aggregation, secure sums, a guard for each."""

import json

import polars as pl
import pytest
from safetensors.numpy import load_file

from isthmus.errors import JobError, PartnerFailed, StorageError
from isthmus.jobs.artefacts import PartyFolder
from isthmus.jobs.outcome import write_party_report
from isthmus.jobs.pooled import add_pooled
from isthmus.jobs.precheck import check_own_side
from isthmus.split.aggregation import SecureSumLane

CAROL = """\
  carol:
    table: carol/people.csv
    features: {Trait1: categorical, Trait2: categorical}
  bob:
"""


@pytest.fixture
def three(workshop):
    """The workshop with alice's traits at carol, who lacks some of the rows."""
    people = pl.read_csv(workshop.table("alice"))
    (workshop.folder / "carol").mkdir()
    theirs = people.select("ID", "Trait1", "Trait2").head(len(people) - 40).reverse()
    theirs.write_csv(workshop.folder / "carol" / "people.csv")
    workshop.change(", Trait1: categorical, Trait2: categorical}", "}")
    workshop.change("  bob:\n", CAROL)
    return workshop


def scores_of(workshop, job):
    return load_file(workshop.results(job, "bob") / "evaluate" / "scores.safetensors")


@pytest.mark.parametrize(
    ("setting", "close"),
    [
        ("train.secure_sum=true", 1e-4),
        ("train.aggregation=attention", 1e-6),
        ("train.aggregation=concat", 1e-6),
    ],
)
def test_a_job_equals_its_pooled_reference(three, setting, close):
    job = three.job(setting, "evaluate.pooled=true", "train.model.embedding_std=0.3")
    pages = three.run(job)
    add_pooled(job, three.out / job.folder_name)
    write_party_report(job, "bob", PartyFolder(pages["bob"].parent))
    report = three.report(job, "bob")
    federation, pooled = report["metrics"]["federation"], report["metrics"]["pooled"]
    assert pooled["log_loss"] == pytest.approx(federation["log_loss"], abs=close)
    assert federation["auc"] > 0.5
    assert len(pl.read_parquet(three.results(job, "bob") / "predict" / "predictions.parquet")) > 50

    topics = {topic["topic"] for topic in report["traffic"]["topics"]}
    page = pages["carol"].read_text()
    secure = "secure_sum" in setting
    assert ("train.mask-keys" in topics) == secure
    assert ("predict.mask-keys" in topics) == secure
    assert ("sum of what alice and carol" in page) == secure
    assert report["training"]["hyper_parameters"]["secure_sum"] == ("32 bits" if secure else "none")


@pytest.mark.parametrize("aggregation", ["sum", "mean", "max"])
def test_every_aggregation_trains(three, aggregation):
    job = three.job(f"train.aggregation={aggregation}", "train.epochs=1", "predict.rows=none")
    three.run(job)
    report = three.report(job, "bob")
    assert report["metrics"]["federation"]["auc"] > 0
    assert report["training"]["hyper_parameters"]["aggregation"] == aggregation


def test_a_label_party_without_features_takes_a_secure_sum(three):
    three.text = three.text.replace(
        """    features:
      ItemID: categorical
      Tags: {kind: multi_hot, separator: "|"}
""",
        "    features: {}\n",
    )
    job = three.job("train.secure_sum=64", "train.epochs=1")
    three.run(job)
    assert three.report(job, "bob")["metrics"]["federation"]["auc"] > 0


def test_a_secure_sum_is_resumed_bit_for_bit(three, monkeypatch):
    job = three.job("train.secure_sum=32", "train.guards.gradient=int8")
    three.run(job)
    whole = scores_of(three, job)

    real = SecureSumLane.send_cut

    def fails_once(lane, cut, step, topic="train.cut"):
        if lane._masks.me == "carol" and (topic, step) == ("train.cut", 8):
            monkeypatch.setattr(SecureSumLane, "send_cut", real)
            raise StorageError("the disk is gone")
        real(lane, cut, step, topic)

    monkeypatch.setattr(SecureSumLane, "send_cut", fails_once)
    outcome = three.run(job)
    assert isinstance(outcome["carol"], StorageError)
    assert all(isinstance(outcome[party], PartnerFailed) for party in ("alice", "bob"))
    three.run(job, resume=True)
    for name, values in scores_of(three, job).items():
        assert (values == whole[name]).all()
    result = json.loads((three.results(job, "bob") / "train" / "result.json").read_text())
    assert result["resumed_from"] == 1


def test_each_party_has_its_own_guard_and_the_report_says_what_it_did(three):
    three.change("table: alice/people.csv\n", "table: alice/people.csv\n    guards: {cut: int8}\n")
    three.change(
        "table: carol/people.csv\n",
        "table: carol/people.csv\n    guards: {cut: zeros, gradient: none}\n",
    )
    job = three.job("train.guards.gradient=int4", "train.epochs=1")
    pages = three.run(job)

    bob = {(g["party"], g["direction"]): g for g in three.report(job, "bob")["training"]["guards"]}
    assert {key: (g["guard"], g["lossy"]) for key, g in bob.items()} == {
        ("alice", "cut"): ("int8", True),
        ("alice", "gradient"): ("int4", True),
        ("carol", "cut"): ("zeros", False),
    }
    (alice_cut, alice_gradient) = three.report(job, "alice")["training"]["guards"]
    assert alice_cut["relative_error"] > 0
    assert bob["alice", "cut"]["relative_error"] is None  # only the sender can know
    assert bob["alice", "gradient"]["relative_error"] > 0
    assert alice_gradient["relative_error"] is None
    for name in ("messages", "bytes_before", "bytes_after", "ratio"):
        assert alice_cut[name] == bob["alice", "cut"][name] > 0
        assert alice_gradient[name] == bob["alice", "gradient"][name] > 0
    assert 2 < alice_cut["ratio"] < 4
    (carol_cut,) = three.report(job, "carol")["training"]["guards"]
    assert carol_cut["relative_error"] == 0
    assert carol_cut["ratio"] >= 1

    page = pages["bob"].read_text()
    assert "int8 (alice), zeros (carol)" in page
    assert "are not quite those of one machine" in page
    assert "What the guards did" in page


def test_guards_that_lose_nothing_are_not_blamed(three):
    pages = three.run(three.job("train.guards.cut=zeros", "train.epochs=1"))
    page = pages["bob"].read_text()
    assert "nothing is lost" in page
    assert "not quite those of one machine" not in page


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["train.secure_sum=yes please"],
            "'yes please' is not one of true, false",
        ),
        (["train.secure_sum=16"], "16 is not one of true, false, 32, 64"),
        (["train.secure_sum=1"], "1 is not one of true, false, 32, 64"),
        (["train.secure_sum=true", "train.aggregation=mean"], "'mean' cannot be had with a secure"),
        (
            ["train.secure_sum=true", "train.aggregation=concat"],
            "aggregation: 'concat' cannot",
        ),
        (
            ["train.secure_sum=64", "train.guards.cut=int8"],
            "guards.cut: 'int8' cannot be had",
        ),
        (
            ["train.secure_sum=true", "parties.carol.guards.cut=fp16"],
            "parties.carol.guards.cut: 'fp16' cannot be had with a secure sum",
        ),
        (["train.aggregation=median"], "'median' is not one of concat, sum, mean, max, attention"),
        (["parties.bob.guards.cut=int8"], "parties.bob.guards.cut: the label party's tensors do"),
        (["parties.alice.guards=int8"], "parties.alice.guards: must hold fields, not a value"),
        (["parties.alice.guards.cuts=int8"], "no such field. Did you mean 'cut'?"),
    ],
)
def test_what_cannot_be_is_told_with_its_field(three, overrides, said):
    with pytest.raises(JobError) as caught:
        three.job(*overrides)
    assert said in str(caught.value)


def test_two_parties_have_nothing_to_hide_among(workshop):
    with pytest.raises(JobError, match=r"train\.secure_sum: .*of alice alone, the sum would be"):
        workshop.job("train.secure_sum=true")


def test_guards_and_schedules_are_looked_up_before_the_start(three):
    with pytest.raises(JobError, match=r"parties\.carol\.guards\.cut: there is no guard 'int9'"):
        check_own_side(three.job("parties.carol.guards.cut=int9"), "alice")
    with pytest.raises(JobError, match=r"train\.schedule: there is no schedule 'pipelin:2'"):
        check_own_side(three.job("train.schedule=pipelin:2"), "alice")


def test_the_same_choice_in_other_words_is_the_same_job(three):
    plain, secure = three.job(), three.job("train.secure_sum=true")
    assert plain.hash == three.job("train.secure_sum=false", "train.aggregation=concat").hash
    assert secure.hash == three.job("train.secure_sum=32", "train.aggregation=sum").hash
    assert secure.hash != three.job("train.secure_sum=64").hash != plain.hash
    assert plain.hash != three.job("parties.carol.guards.cut=int8").hash
