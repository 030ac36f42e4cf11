"""What is wrong in a job file is told with file, line, field and a mend."""

from pathlib import Path

import pytest

from isthmus.errors import JobError
from isthmus.jobs.examples import NAMES, example
from isthmus.jobs.job import canonical_json, parse_job

TEXT = """\
isthmus: 1
name: movielens
seed: 7
parties:
  alice:
    table: alice/ratings.csv
    features: {UserID: categorical, Age: numeric}
  bob:
    table: bob/ratings.csv
    features:
      MovieID: categorical
      Genres: {kind: multi_hot, separator: "|"}
label: {party: bob, expression: "Rating > 3"}
"""


def parse(text=TEXT, *overrides):
    return parse_job(text, Path("job.yaml"), overrides)


def test_a_good_job():
    job = parse()
    assert job.spec.order == ("alice", "bob")
    assert job.spec.feature_parties == ("alice",)
    assert job.spec.key_of("alice") == ("ID",)
    assert job.spec.parties["alice"].features["Age"].kind == "numeric"
    assert job.table_of("bob") == Path("bob/ratings.csv")
    assert job.folder_name == f"movielens-{job.hash[:8]}"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "multi_hot",
            "multihot",
            "job.yaml:12: parties.bob.features.Genres.kind: 'multihot' is not one of categorical, "
            "numeric, multi_hot, sequence, vector, text, collaborative, ignore. Did you mean "
            "'multi_hot'?",
        ),
        ("seed: 7", "sead: 7", "job.yaml:3: sead: no such field. Did you mean 'seed'?"),
        ("isthmus: 1", "isthmus: 2", "job.yaml:1: isthmus: 2 is not 1"),
        ("isthmus: 1\n", "", "job.yaml: isthmus: is missing"),
        ("party: bob", "party: carol", "job.yaml:13: label.party: 'carol' is not one of alice"),
        ("Rating > 3", "Rating >", "job.yaml:13: label.expression: 'Rating >' is not a label"),
        ("MovieID:", "Rating:", "job.yaml:11: parties.bob.features.Rating: the label's column"),
        ("name: movielens", "name: My Job", "job.yaml:2: name: 'My Job' is not a name"),
        ("seed: 7", "seed: x", "job.yaml:3: seed: 'x' should be a valid integer"),
        (
            "Age: numeric",
            "Age: {kind: numeric, separator: x}",
            "job.yaml:7: parties.alice.feat",
        ),
        (
            "seed: 7",
            "split: {train: 0.9, valid: 0.2, test: 0.2}",
            "job.yaml:3: split: train, va",
        ),
        ("seed: 7", "split: {train: 1, valid: 0, test: 0}", "test must be above 0"),
        ("seed: 7", "train: {learning_rate: .nan}", "job.yaml:3: train.learning_rate"),
        ("seed: 7", "train: {model: {dropot: 1}}", "Did you mean 'dropout'?"),
        ("seed: 7", "align: {keys: rows}", "'rows' is not one of row, entity. Did you mean 'row'?"),
        (
            "seed: 7",
            "train: {schedule: Pipeline 3}",
            "'Pipeline 3' is not a schedule. Such as exact",
        ),
        (
            "seed: 7",
            "train: {guards: {cut: INT 8}}",
            "job.yaml:3: train.guards.cut: 'INT 8' is not a guard. Such as int8",
        ),
        (
            "seed: 7",
            "predict: {model: runs/tiny-1a2b3c4d}",
            "'runs/tiny-1a2b3c4d' is not the name of a job's folder. Such as credit-1a2b3c4d",
        ),
        ("seed: 7", "align: 3", "job.yaml:3: align: must hold fields, not a value"),
        ("  alice:", "  ../alice:", "'../alice' is not a name"),
    ],
)
def test_errors_name_line_and_field(old, new, said):
    assert old in TEXT
    with pytest.raises(JobError) as caught:
        parse(TEXT.replace(old, new, 1))
    assert said in str(caught.value)


def test_a_default_that_follows_from_a_wrong_field_is_no_finding():
    with pytest.raises(JobError) as caught:
        parse(TEXT.replace("seed: 7", "train: {secure_sum: 16}", 1))
    assert str(caught.value).endswith("train.secure_sum: 16 is not one of true, false, 32, 64")


def test_a_finding_that_follows_from_another_is_not_told():
    with pytest.raises(JobError) as caught:
        parse(TEXT.replace("seed: 7", "evaluate: {at: [0]}", 1))
    assert str(caught.value) == "job.yaml:3: evaluate.at.0: 0 should be greater than or equal to 1"
    with pytest.raises(JobError, match=r"train\.model\.bottom: Tuple should have at least 1"):
        parse(TEXT.replace("seed: 7", "train: {model: {bottom: []}}", 1))


def test_words_that_are_listed_are_not_listed_again():
    with pytest.raises(JobError) as caught:
        parse(TEXT.replace("seed: 7", "train: {metric: ndcg}", 1))
    assert str(caught.value).endswith("train.metric: 'ndcg' is not one of auc, log_loss, loss")


def test_one_party_is_no_federation():
    lines = TEXT.splitlines(keepends=True)
    with pytest.raises(JobError, match="at least two parties"):
        parse("".join(lines[:4] + lines[7:]))


def test_several_findings_are_all_told():
    with pytest.raises(JobError) as caught:
        parse(TEXT.replace("seed: 7", "sead: 7").replace("multi_hot", "multihot"))
    assert len(str(caught.value).splitlines()) == 2
    assert str(caught.value).count("Did you mean") == 2


def test_local_fields_do_not_change_the_hash():
    job = parse()
    for old, new in [
        ("alice/ratings.csv", "/elsewhere/x.parquet"),
        ("table: bob/ratings.csv", "address: bob.example:7600"),
        ("seed: 7", "seed: 7\ntrain: {device: cpu, tensorboard: true}"),
        ("seed: 7", "seed: 7  # a remark"),
    ]:
        assert old in TEXT
        assert parse(TEXT.replace(old, new)).hash == job.hash


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("seed: 7", "seed: 8"),
        ("Age: numeric", "Age: categorical"),
        ("Rating > 3", "Rating > 2"),
        ("seed: 7", "seed: 7\ntrain: {epochs: 3}"),
        ("UserID: categorical, Age: numeric", "Age: numeric, UserID: categorical"),
    ],
)
def test_agreed_fields_change_the_hash(old, new):
    assert parse(TEXT.replace(old, new)).hash != parse().hash


def test_the_order_of_parties_is_agreed():
    head, alice, bob = TEXT.split("  alice:")[0], TEXT.split("  alice:")[1], ""
    alice, bob = alice.split("  bob:")
    bob, label = bob.split("label:")
    swapped = f"{head}  bob:{bob}  alice:{alice}label:{label}"
    assert parse(swapped).spec.order == ("bob", "alice")
    assert parse(swapped).hash != parse().hash


def test_defaults_written_out_are_the_same_job():
    written = TEXT + "align: {key: ID, protocol: ecdh}\npredict: {rows: test}\n"
    assert parse(written).hash == parse().hash


def test_the_canonical_form_holds_still():
    """A change here makes parties of two versions disagree: it must be meant."""
    expected = "b16d1a3d0c19842858031a3bbfb9a0f5e4690e774541568b61f7eb946fee8182"
    assert parse().hash == expected, canonical_json(parse().spec)


def test_overrides():
    job = parse(TEXT, "train.epochs=3", "split={train: 0.5, valid: 0.25, test: 0.25}")
    assert job.spec.train.epochs == 3
    assert job.spec.split.fractions == (0.5, 0.25, 0.25)
    with pytest.raises(JobError, match="Did you mean 'epochs'"):
        parse(TEXT, "train.epoch=3")
    with pytest.raises(JobError, match="field=value"):
        parse(TEXT, "train.epochs")
    with pytest.raises(JobError, match="holds a value, not fields"):
        parse(TEXT, "seed.x=1")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.epoch=3", "--set train.epoch: no such field. Did you mean 'epochs'?"),
        ("train.epochs=x", "--set train.epochs: 'x' should be a valid integer"),
        ("train={model: {dimm: 3}}", "--set train: train.model.dimm: no such field"),
        ("split.train=0.1", "--set split.train: train, valid and test add up to"),
    ],
)
def test_a_mistake_on_the_command_line_is_told_as_such(override, said):
    with pytest.raises(JobError) as caught:
        parse(TEXT, override)
    assert str(caught.value).startswith(said)


def test_a_mistake_in_the_file_is_told_by_line_beside_overrides():
    with pytest.raises(JobError, match=r"^job\.yaml:3: sead: no such field"):
        parse(TEXT.replace("seed: 7", "sead: 7"), "train.epochs=3")
    job = parse(TEXT, "parties.bob.table=x.csv")
    assert job.where("parties", "bob", "table") == "--set parties.bob.table"
    assert job.where("parties", "alice", "table") == "job.yaml:6: parties.alice.table"


def test_a_party_without_a_table_is_told():
    job = parse(TEXT.replace("    table: bob/ratings.csv\n", ""))
    with pytest.raises(JobError, match=r"parties\.bob\.table is missing"):
        job.table_of("bob")


@pytest.mark.parametrize("name", NAMES)
def test_the_examples_are_valid(name):
    assert parse_job(example(name)).spec.evaluate.pooled
    shipped = Path(__file__).parents[2] / "examples" / f"{name}.yaml"
    assert shipped.read_text() == example(name)


def test_an_unknown_example():
    with pytest.raises(JobError, match="no example"):
        example("../../secrets")
