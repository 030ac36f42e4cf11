"""How well models order each user's test samples, and what partners are told of it."""

import numpy as np
import polars as pl
import pytest
from tests.jobs.test_spec import TEXT, parse
from tests.metrics.test_grouped import naive

from isthmus.errors import BadMessage, JobError, SchemaError
from isthmus.jobs.artefacts import PartyFolder
from isthmus.jobs.measured import Measured
from isthmus.jobs.outcome import write_party_report
from isthmus.jobs.pooled import add_pooled
from isthmus.jobs.precheck import check_own_side
from isthmus.jobs.rankings import check_ranking, groups_of, metric_names
from isthmus.jobs.report import Ranking, RankingFigures
from isthmus.jobs.spec import EvaluateSpec
from isthmus.metrics import auc

ASKED = EvaluateSpec(per="User", at=(2, 3))


def test_a_job_that_asks_for_it(workshop):
    def add(events):
        users = np.random.default_rng(4).integers(0, 30, len(events))
        named = [None if user == 29 else f"{user:03}" for user in users]
        return events.with_columns(pl.Series("User", named))

    workshop.spoil("bob", add)
    job = workshop.job("evaluate.per=User", "evaluate.at=[2, 5]", "evaluate.pooled=true")
    check_own_side(job, "bob")
    pages = workshop.run(job)
    add_pooled(job, workshop.out / job.folder_name)
    write_party_report(job, "bob", PartyFolder(pages["bob"].parent))
    own, theirs = (workshop.report(job, party)["ranking"] for party in ("bob", "alice"))
    assert [one["metric"] for one in own["figures"]] == list(metric_names((2, 5)))

    predictions = pl.read_parquet(workshop.results(job, "bob") / "predict" / "predictions.parquet")
    users = pl.read_csv(workshop.table("bob"), schema_overrides={"User": pl.String})["User"]
    table = predictions.with_columns(users.gather(predictions["row"] - 1)).drop_nulls("User")
    parts = [part.sort("probability", descending=True) for part in table.partition_by("User")]
    both = [part for part in parts if 0 < part["label"].sum() < len(part)]
    assert (own["groups"], own["left_out"]) == (len(both), len(parts) - len(both))
    assert own["left_out"] > 0
    figures = {one["metric"]: one for one in own["figures"]}
    wanted = np.mean([naive(part["label"].to_list(), 2) for part in both], axis=0)
    for name, value in zip(("NDCG@2", "recall@2", "hit rate@2", "MAP@2"), wanted, strict=False):
        assert figures[name]["federation"] == pytest.approx(value, abs=1e-9)
    gauc = [auc(part["label"], part["probability"]) for part in both]
    assert figures["GAUC"]["federation"] == pytest.approx(
        np.average(gauc, weights=[len(part) for part in both])
    )
    assert figures["GAUC"]["pooled"] == pytest.approx(figures["GAUC"]["federation"], abs=1e-4)
    assert figures["MRR"]["label_party_alone"] is not None
    assert "Order within each User" in pages["bob"].read_text()

    # A partner is told rounded figures, and not how many users there are.
    assert (theirs["groups"], theirs["left_out"]) == (None, None)
    shared = {one["metric"]: one for one in theirs["figures"]}
    assert shared["GAUC"]["federation"] == round(figures["GAUC"]["federation"], 4)
    assert shared["GAUC"]["federation"] != figures["GAUC"]["federation"]


def test_users_are_told_apart_as_text_and_missing_ones_are_not_ranked():
    frame = pl.DataFrame({"User": ["7", "007", None, "7"]})
    assert groups_of(frame, "User", "events").tolist() == [2, 1, -1, 2]
    labels = np.array([1, 0, 1, 0, 0], np.float32)
    scores = {"federation": np.array([0.9, 0.1, 0.2, 0.8, 0.7])}
    measured = Measured(labels, scores, groups=np.array([1, 1, -1, -1, 3]))
    found = measured.ranking(ASKED)
    assert (found.groups, found.left_out) == (1, 1)
    assert found.figures[0].federation == 1.0
    assert measured.ranking(EvaluateSpec()) is None


def test_groups_are_kept_with_the_scores(tmp_path):
    labels, scores = np.array([1, 0], np.float32), {"federation": np.array([0.9, 0.1])}
    Measured(labels, scores, groups=np.array([4, 4])).save(tmp_path / "scores")
    assert Measured.load(tmp_path / "scores").groups.tolist() == [4, 4]
    Measured(labels, scores).save(tmp_path / "none")
    assert Measured.load(tmp_path / "none").groups is None


def test_where_no_user_has_both_classes_there_is_nothing_to_rank():
    labels, scores = np.array([1, 0], np.float32), {"federation": np.array([0.9, 0.1])}
    measured = Measured(labels, scores, groups=np.array([1, 2]))
    assert measured.ranking(ASKED) == Ranking(per="User", groups=0, left_out=2)
    assert measured.ranking(ASKED, share_groups=False) == Ranking(per="User")


@pytest.mark.parametrize(
    ("evaluate", "said"),
    [
        ("{at: [3]}", "evaluate.at: belongs to evaluate.per"),
        ("{per: UserID, at: [3, 3]}", "evaluate.at: a length stands twice"),
        ("{per: UserID, at: []}", "evaluate.at"),
        ("{per: UserID, at: [0]}", "evaluate.at"),
    ],
)
def test_what_cannot_be_asked_for(evaluate, said):
    with pytest.raises(JobError, match=said):
        parse(TEXT.replace("seed: 7", f"evaluate: {evaluate}"))


def test_a_real_target_is_not_ranked():
    text = TEXT.replace('"Rating > 3"', "Rating, kind: real")
    with pytest.raises(JobError, match=r"evaluate\.per: the samples of a value are"):
        parse(text.replace("seed: 7", "train: {metric: loss}\nevaluate: {per: UserID}"))


def test_a_network_that_ranks_all_items_is_not_asked_for_more():
    model = "train: {model: {name: two_tower, retrieval: {item: MovieID}}}"
    with pytest.raises(JobError, match=r"evaluate\.per: two_tower ranks all items"):
        parse(TEXT.replace("seed: 7", f"{model}\nevaluate: {{per: UserID}}"))


def test_a_column_that_is_not_there(workshop):
    with pytest.raises(SchemaError, match=r"no column 'Usr' \(evaluate.per\)"):
        check_own_side(workshop.job("evaluate.per=Usr"), "bob")


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        Ranking(per="Other"),
        Ranking(per="User", groups=3),
        Ranking(per="User", left_out=3),
        Ranking(per="User", figures=(RankingFigures(metric="GAUC\x1b[2J", federation=0.5),)),
        Ranking(per="User", figures=(RankingFigures(metric="GAUC", federation=0.5),) * 2),
    ],
)
def test_shared_figures_are_what_the_job_asks_for(wrong):
    whole = tuple(RankingFigures(metric=name, federation=0.5) for name in metric_names((2, 3)))
    check_ranking(ASKED, Ranking(per="User", figures=whole), "bob")
    check_ranking(EvaluateSpec(), None, "bob")
    with pytest.raises(BadMessage, match="bob sent other ranking metrics"):
        check_ranking(ASKED, wrong, "bob")
    with pytest.raises(BadMessage, match="bob sent other ranking metrics"):
        check_ranking(EvaluateSpec(), Ranking(per="User", figures=whole), "bob")
