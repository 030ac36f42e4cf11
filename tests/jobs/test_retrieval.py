"""A two-tower job end to end, and what it refuses."""

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file

from isthmus.errors import BadMessage, DataError, JobError, SchemaError
from isthmus.jobs.artefacts import PartyFolder
from isthmus.jobs.job import load_job
from isthmus.jobs.local import run_here
from isthmus.jobs.outcome import write_party_report
from isthmus.jobs.pooled import add_pooled
from isthmus.jobs.precheck import check_choices, check_own_side
from isthmus.jobs.retrieval import neighbours
from isthmus.jobs.retrieval.neighbours import HnswIndex
from isthmus.jobs.steps.retrieve import (
    hear_positions,
    newest_samples,
    tell_positions,
)
from isthmus.jobs.tune.trial import data_name
from isthmus.metrics.retrieval import Seen, overlap, ranks, top_k
from isthmus.session import run_parties
from isthmus.split.in_batch import ITEM, USER

MODEL = "  model: {dim: 4, bottom: [8], top: [8]}\n"
ABOUT = "item: ItemID, item_fields: [ItemID, Tags], user: Shopper, width: 8, top: 20"
TOWERS = f"""\
  model: {{name: two_tower, dim: 8, bottom: [16], top: [16], retrieval: {{{ABOUT}}}}}
"""


@pytest.fixture
def shop(workshop):
    """The workshop's shop with its own number of each customer, who has about ten rows."""

    def add(events):
        rng = np.random.default_rng(5)
        return events.with_columns(
            pl.Series("Shopper", rng.integers(0, 60, len(events))),
            pl.Series("Loyal", rng.normal(size=len(events))),
        )

    workshop.spoil("bob", add)
    workshop.change(MODEL, TOWERS)
    workshop.change(
        "      ItemID: categorical\n", "      ItemID: categorical\n      Loyal: numeric\n"
    )
    return workshop


def test_a_job_retrieves_items(shop):
    catalogue = pl.DataFrame({"ItemID": ["new 1", "new 2"], "Tags": ["a|b", None]})
    catalogue.write_csv(shop.folder / "catalogue.csv")
    job = shop.job(
        "evaluate.pooled=true",
        "train.model.retrieval.index=hnsw",
        "train.model.retrieval.catalogue=catalogue.csv",
        "label.weight=Loyalty",
    )
    shop.spoil("bob", lambda e: e.with_columns((pl.col("Loyal") ** 2).alias("Loyalty")))
    check_own_side(job, "bob")
    pages = shop.run(job)
    add_pooled(job, shop.out / job.folder_name)
    write_party_report(job, "bob", PartyFolder(pages["bob"].parent))
    report, theirs = shop.report(job, "bob"), shop.report(job, "alice")
    step = shop.results(job, "bob") / "retrieve"

    items = load_file(step / "items.safetensors")["vectors"]
    names = pl.read_parquet(step / "items.parquet")
    lists = pl.read_parquet(step / "topk.parquet")
    assert items.shape == (len(names), 8)
    np.testing.assert_allclose(np.linalg.norm(items, axis=1), 1, atol=1e-5)
    assert names["item"].to_list()[-2:] == ["new 1", "new 2"]
    assert lists.columns == ["Shopper", "item", "rank", "score"]
    _check_lists(shop, job, lists)

    known = report["retrieval"]
    assert (known["items"], known["top"]) == (len(names), 20)
    assert known["new_items"] == (names["training_samples"] == 0).sum() >= 2
    assert known["users"] == lists["Shopper"].n_unique()
    assert known["neighbours_found"] > 0.9
    found = {target["metric"]: target for target in report["targets"]}
    assert list(found) == ["recall@10", "recall@50", "recall@100", "NDCG@10", "MRR"]
    for target in found.values():
        assert target["federation"] == pytest.approx(target["pooled"], abs=1e-6)
        assert target["label_party_alone"] is not None
    assert 0 < found["recall@10"]["federation"] < 1 == found["recall@100"]["federation"]
    curves = known["curves"]
    assert curves["federation"][9] == found["recall@10"]["federation"]
    assert known["approximate"]["recall@10"] == pytest.approx(curves["federation"][9], abs=0.05)
    assert "recall@50" not in known["approximate"]
    page = pages["bob"].read_text()
    assert "what users took next among the first 10 items" in page
    assert "Recall by the length of the list" in page

    # The feature party is told how good it is, and nothing of users and items.
    assert theirs["retrieval"] is None
    shared = {target["metric"]: target for target in theirs["targets"]}
    assert shared["MRR"]["federation"] == round(found["MRR"]["federation"], 4)
    assert shared["MRR"]["rows"] is None
    other = shop.results(job, "alice") / "retrieve"
    assert {file.name for file in other.iterdir()} == {"done.json", "traffic.json"}

    table = pl.read_parquet(shop.results(job, "bob") / "predict" / "predictions.parquet")
    assert table["score"].is_between(-1, 1).all()
    assert set(table["label"]) == {0, 1}


def _check_lists(shop, job, lists):
    """Best first, numbered from 1, and of what a user had in training or validation nothing."""
    folder = shop.results(job, "bob")
    events = pl.read_csv(shop.table("bob")).with_row_index("place")
    rows = np.load(folder / "align" / "rows.npy").reshape(-1)
    parts = np.load(folder / "encode" / "split.npy").reshape(-1)
    had = events[rows[parts < 2]].select(
        pl.col("Shopper").cast(pl.String), pl.col("ItemID").cast(pl.String).alias("item")
    )
    assert lists.join(had, on=["Shopper", "item"]).is_empty()
    for _, own in lists.group_by("Shopper"):
        assert own["rank"].to_list() == list(range(1, len(own) + 1))
        assert own["score"].is_sorted(descending=True)


def test_alone_needs_a_field_of_the_user_at_the_label_party(shop):
    shop.change("      Loyal: numeric\n", "")
    job = shop.job("train.epochs=1", "train.model.retrieval.leave_out_seen=false")
    shop.run(job)
    report = shop.report(job, "bob")
    assert report["targets"][0]["label_party_alone"] is None
    assert report["targets"][0]["federation"] is not None
    lists = pl.read_parquet(shop.results(job, "bob") / "retrieve" / "topk.parquet")
    assert (lists.group_by("Shopper").len()["len"] == 20).all()


def test_the_key_is_the_user_where_no_column_is_named(shop):
    shop.change("user: Shopper, ", "")
    job = shop.job("train.epochs=1", "evaluate.alone=false", "evaluate.share_metrics=false")
    shop.run(job)
    lists = pl.read_parquet(shop.results(job, "bob") / "retrieve" / "topk.parquet")
    assert lists.columns[0] == "ID"
    labels = load_file(shop.results(job, "bob") / "encode" / "labels.safetensors")["labels"]
    assert len(np.unique(labels[:, USER])) == len(labels)
    assert len(np.unique(labels[:, ITEM])) <= 30


def test_a_column_of_users_is_not_overwritten_in_the_lists(shop):
    shop.spoil("bob", lambda events: events.rename({"Shopper": "item"}))
    shop.change("user: Shopper", "user: item")
    job = shop.job("train.epochs=1", "evaluate.alone=false", "predict.rows=none")
    shop.run(job)
    lists = pl.read_parquet(shop.results(job, "bob") / "retrieve" / "topk.parquet")
    assert lists.columns == ["key_item", "item", "rank", "score"]
    assert set(lists["key_item"]) <= set(pl.read_csv(shop.table("bob"))["item"].cast(pl.String))
    assert lists["rank"].max() == 20


@pytest.mark.parametrize("schedule", ["microbatch:2", "auto"])
def test_schedules_that_divide_a_batch_are_refused(shop, schedule):
    with pytest.raises(JobError, match=r"train.schedule.*divides batches"):
        check_choices(shop.job(f"train.schedule={schedule}"))


@pytest.mark.parametrize("schedule", ["exact", "pipeline:2", "local:2", "adaptive:2"])
def test_schedules_that_keep_a_batch_whole_are_taken(shop, schedule):
    job = shop.job(f"train.schedule={schedule}")
    check_choices(job)
    assert job.spec.train.schedule == schedule


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["train.metric=auc"], "'auc' is no metric of a two-tower network"),
        (["train.model.retrieval.item_fields=[Colour]"], "item_fields: 'Colour' is not a feature"),
        (["train.model.retrieval.width=0"], "retrieval.width"),
        (["train.model.retrieval.temperature=0"], "retrieval.temperature"),
        (["train.model.name=deepfm"], "deepfm has none; it belongs to two_tower"),
    ],
)
def test_a_job_file_that_cannot_be_meant(shop, overrides, said):
    with pytest.raises(JobError) as caught:
        shop.job(*overrides)
    assert said in str(caught.value)


def test_signals_of_a_user_and_an_item_would_tell_the_item(shop):
    signals = "{kind: collaborative, user: Shopper, item: ItemID}"
    shop.change("      Loyal: numeric\n", f"      Loyal: numeric\n      Taste: {signals}\n")
    with pytest.raises(JobError, match=r"features.Taste: .*the item that is to be found"):
        shop.job()
    with pytest.raises(JobError, match=r"features.Taste: .*the item that is to be found"):
        shop.job("train.model.retrieval.item_fields=[ItemID, Taste]")


def test_the_item_must_be_named(shop):
    shop.change("item: ItemID, ", "")
    with pytest.raises(JobError, match=r"retrieval.item: is missing"):
        shop.job()


def test_a_real_label_is_not_what_was_taken(shop):
    with pytest.raises(JobError, match="learns who took what, not real"):
        check_choices(shop.job("label.kind=real", "label.expression=Loyal2"))


def test_columns_that_are_not_there(shop):
    for field in ("item", "user"):
        job = shop.job(f"train.model.retrieval.{field}=Nobody", "evaluate.alone=false")
        with pytest.raises(SchemaError, match=f"'Nobody' \\(train.model.retrieval.{field}"):
            check_own_side(job, "bob")


def test_no_positive_sample(shop):
    job = shop.job("label.expression=Clicked > 7")
    with pytest.raises(DataError, match=r"negative in all \d+ rows.*nothing can be retrieved"):
        check_own_side(job, "bob")
    errors = shop.run(job)
    assert "nothing can be retrieved" in str(errors["bob"])


def test_only_positive_samples_are_enough(shop):
    job = shop.job("label.expression=Clicked >= 0", "train.epochs=1", "evaluate.alone=false")
    check_own_side(job, "bob")
    shop.run(job)
    assert shop.report(job, "bob")["targets"][0]["federation"] > 0


def test_a_missing_item(shop):
    def spoil(events):
        first = pl.int_range(pl.len()) < 3
        item = pl.col("ItemID").cast(pl.String)
        return events.with_columns(pl.when(~first).then(item).alias("ItemID"))

    shop.spoil("bob", spoil)
    errors = shop.run(shop.job())
    assert "the item's id (ItemID) is missing in" in str(errors["bob"])


def test_a_catalogue_that_is_not_there_or_lacks_a_column(shop):
    job = shop.job("train.model.retrieval.catalogue=items.csv")
    with pytest.raises(DataError, match="there is no table"):
        check_own_side(job, "bob")
    pl.DataFrame({"ItemID": [1]}).write_csv(shop.folder / "items.csv")
    with pytest.raises(SchemaError, match="no column 'Tags'"):
        check_own_side(job, "bob")


def test_without_the_library_the_index_is_refused_with_a_mend(shop, monkeypatch):
    monkeypatch.setattr(neighbours.importlib.util, "find_spec", lambda name: None)
    job = shop.job("train.model.retrieval.index=hnsw")
    with pytest.raises(JobError, match="faiss is not installed") as caught:
        check_own_side(job, "bob")
    assert "isthmus[retrieval]" in str(caught.value)
    check_own_side(shop.job(), "bob")


def test_the_index_finds_nearly_what_is_there():
    rng = np.random.default_rng(0)
    items = rng.normal(size=(3000, 16)).astype(np.float32)
    items /= np.linalg.norm(items, axis=1, keepdims=True)
    queries, users = items[:200] + np.float32(0.1), rng.integers(0, 50, 200)
    # From nothing to many: one user has seen half of all items.
    pairs = rng.integers(1, 50, 4000), rng.integers(0, 3000, 4000)
    much = np.zeros(1500, np.int64) + 7, rng.permutation(3000)[:1500]
    seen = Seen.of(*(np.concatenate(both) for both in zip(pairs, much, strict=True)), 50)
    exact, scores = top_k(queries, items, 20, users, seen)
    found, own = HnswIndex(items).top_k(queries, 20, users, seen)
    assert overlap(exact, found) > 0.95
    same = exact == found
    np.testing.assert_allclose(own[same], scores[same], rtol=1e-5)
    place, had = seen.pairs(users)
    for n in range(200):
        assert not set(found[n].tolist()) & set(had[place == n].tolist())
    wanted = np.arange(200)
    kept, _ = HnswIndex(items).top_k(queries, 20, users, seen, wanted)
    near = ranks(queries, items, wanted, users, seen) <= 5
    assert (kept[near] == wanted[near, None]).any(1).mean() > 0.95


def test_an_index_of_few_items_gives_what_there_is():
    items = np.eye(3, 4, dtype=np.float32)
    seen = Seen.of(np.array([0, 0]), np.array([0, 1]), 1)
    found, scores = HnswIndex(items).top_k(items[:1], 10, np.array([0]), seen)
    assert found.tolist() == [[2, -1, -1]]
    assert scores[0, 0] == 0.0


def test_the_newest_sample_of_each_user():
    users = np.array([1, 0, 1, 0, 2])
    assert newest_samples(users, None).tolist() == [3, 2, 4]
    assert newest_samples(users, np.array([5.0, 4.0, 3.0, 2.0, 1.0])).tolist() == [1, 0, 4]


@pytest.mark.parametrize(
    "told", [np.array([0, 9]), np.array([3, 3]), np.array([-1, 2]), np.array([0.5, 1.0])]
)
def test_positions_that_are_none(told):
    def alice(session):
        with pytest.raises(BadMessage, match=r"retrieve\.samples"):
            hear_positions(session, 9)

    run_parties(
        {"alice": alice, "bob": lambda session: tell_positions(session, told)}, label_party="bob"
    )


def test_too_many_positions():
    def alice(session):
        with pytest.raises(BadMessage, match="number of samples"):
            hear_positions(session, 2)

    told = np.arange(3)
    run_parties(
        {"alice": alice, "bob": lambda session: tell_positions(session, told)}, label_party="bob"
    )


def test_the_page_s_job_can_be_run_on_the_demo_s_tables(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "models" / "two_tower.md").read_text()
    (text,) = re.findall(r"```yaml\n(isthmus: 1.*?)```", page, flags=re.DOTALL)
    people = pl.DataFrame({"UserID": [1, 2], "Gender": ["F", "M"], "Age": [20, 30]})
    rng = np.random.default_rng(0)
    events = pl.DataFrame(
        {
            "UserID": np.repeat([1, 2], 30),
            "MovieID": rng.integers(0, 20, 60),
            "Genres": "a|b",
            "Timestamp": np.arange(60),
            "Rating": rng.integers(1, 6, 60),
        }
    )
    for party, name, table in (("alice", "users", people), ("bob", "events", events)):
        (tmp_path / party).mkdir()
        table.with_columns(Occupation=1).write_csv(tmp_path / party / f"{name}.csv")
    (tmp_path / "retrieval.yaml").write_text(text)
    job = load_job(tmp_path / "retrieval.yaml", ["train.epochs=1"])
    for party in job.spec.order:
        check_own_side(job, party)
    pages = run_here(job, tmp_path / "runs")
    assert "what users took next" in pages["bob"].read_text()


def test_a_search_makes_the_labels_anew_where_they_change(shop):
    names = [data_name(shop.job(f"train.model.retrieval.temperature={t}")) for t in (0.1, 0.2)]
    assert names[0] != names[1]
    assert names[0] == data_name(shop.job("train.learning_rate=0.5"))
