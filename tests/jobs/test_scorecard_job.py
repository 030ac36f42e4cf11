"""A scorecard as a whole job: points at each owner, scores and reasons at the label party."""

import json
import math

import numpy as np
import polars as pl
import pytest
from tests.jobs.tables import made_up

from isthmus.errors import DataError, JobError, PartnerFailed
from isthmus.stats import Scorecard

CARD = """\
bin: {method: quantile, bins: 5, tell: woe, transform: true, least_iv: 0.02}
linear: {family: logistic, tolerance: 1.0e-6, least_columns: 1}
scorecard: {points: 500, odds: 20, double: 40, reasons: 2}
predict: {rows: all}
"""


@pytest.fixture(scope="module")
def card(tmp_path_factory):
    tables = made_up(tmp_path_factory.mktemp("card"))
    job = tables.job(CARD, "evaluate.pooled=true", third=True)
    return tables, job, tables.run(job, pooled=True)


def scored(tables, job):
    found = pl.read_parquet(tables.at(job, "bob", "predict", "predictions.parquet"))
    return found.with_columns(pl.col("id").cast(pl.Int64))


def test_the_federation_is_the_pooled_model(card):
    _, _, reports = card
    metrics = reports["bob"]["metrics"]
    assert metrics["federation"]["auc"] == pytest.approx(metrics["pooled"]["auc"], abs=1e-5)
    assert metrics["federation"]["log_loss"] == pytest.approx(
        metrics["pooled"]["log_loss"], abs=1e-6
    )


def test_a_score_is_the_base_and_the_points_of_all_parties(card):
    tables, job, _ = card
    found = scored(tables, job)
    whole = found.select("id").join(tables.joined(), on="id", maintain_order="left")
    total = np.zeros(len(found))
    for party in job.spec.order:
        part = Scorecard.load(tables.at(job, party, "train", "scorecard.json"))
        total += part.points(whole).sum(axis=1) + (part.base or 0.0)
        assert (part.base is None) == (party != "bob")
    np.testing.assert_array_equal(found["score"], total)


def test_scores_follow_the_odds(card):
    tables, job, _ = card
    found = scored(tables, job)
    odds = np.log((1 - found["probability"]) / found["probability"])
    exact = 500 + 40 / math.log(2) * (odds - math.log(20))
    # Points of each bin are whole numbers.
    assert np.abs(found["score"] - exact).max() <= 5


def test_reasons_name_the_columns_that_cost_the_most(card):
    tables, job, _ = card
    found = scored(tables, job)
    assert found.columns[2:] == ["probability", "score", "reason_1", "reason_2", "label", "split"]
    whole = found.select("id").join(tables.joined(), on="id", maintain_order="left")
    lost, names = [], []
    for party in job.spec.order:
        part = Scorecard.load(tables.at(job, party, "train", "scorecard.json"))
        best = np.array([column.best for column in part.columns])
        lost.append(best - part.points(whole))
        names += [f"{party}.{column.bins.column}" for column in part.columns]
    most = np.hstack(lost)
    first = [names.index(one) if one else -1 for one in found["reason_1"]]
    picked = np.where(np.array(first) >= 0, most[np.arange(len(most)), first], 0.0)
    np.testing.assert_array_equal(picked, most.max(axis=1))
    assert found["reason_1"].str.starts_with("alice").any()


def test_the_card_is_left_for_reading_and_in_the_report(card):
    tables, job, reports = card
    table = pl.read_csv(tables.at(job, "alice", "train", "scorecard.csv"))
    assert set(table["column"]) <= {"a0", "a1", "town"}
    assert table.equals(pl.read_parquet(tables.at(job, "alice", "train", "scorecard.parquet")))
    for party, columns in (("alice", {"a0", "a1", "town"}), ("bob", {"b0", "b1", "colour"})):
        told = reports[party]["fitted"]["card"]
        assert {one["column"] for one in told["bins"]} <= columns
        assert (told["base"] is None) == (party != "bob")
        page = tables.at(job, party, "report.html").read_text()
        assert "Scorecard" in page
        assert f"Points of {party}" in page
    assert not list(tables.at(job, "alice").rglob("predictions.*"))


def test_columns_of_little_information_are_not_in_the_card(card):
    tables, job, _ = card
    bins = json.loads(tables.at(job, "bob", "bin", "bins.json").read_text())
    kept = {(one["party"], one["column"]) for one in bins["columns"] if one["keep"]}
    cards = {
        (party, one.bins.column)
        for party in job.spec.order
        for one in Scorecard.load(tables.at(job, party, "train", "scorecard.json")).columns
    }
    assert cards == kept
    assert ("carol", "c1") not in kept


def test_the_card_scores_another_table(card):
    tables, job, _ = card
    for party, frame in tables.frames.items():
        frame.head(400).write_csv(tables.folder / f"new-{party}.csv")
    new = [f"parties.{party}.table=new-{party}.csv" for party in job.spec.order]
    later = tables.job(CARD, f"predict.model={job.folder_name}", *new, third=True)
    tables.run(later)
    both = scored(tables, later).join(scored(tables, job), on="id")
    assert len(both) > 20
    np.testing.assert_array_equal(both["score"], both["score_right"])
    assert both["reason_1"].equals(both["reason_1_right"].rename("reason_1"))
    np.testing.assert_array_equal(both["probability"], both["probability_right"])


def test_a_label_party_with_a_label_alone_has_scores_and_tells_a_partner(card):
    tables = card[0]
    job = tables.job(CARD, "parties.bob.features={}", "predict.to=[alice]")
    reports = tables.run(job)
    found = scored(tables, job)
    assert found["reason_1"].drop_nulls().str.starts_with("alice.").all()
    assert reports["bob"]["fitted"]["card"]["bins"] == []
    told = pl.read_parquet(tables.at(job, "alice", "predict", "predictions.parquet"))
    assert told.columns == ["row", "id", "probability"]
    assert set(told["probability"]) == set(found["probability"])


def test_a_party_with_one_column_left_refuses_to_show_it(card):
    tables = card[0]
    job = tables.job(CARD.replace(", least_columns: 1", ""), third=True)
    with pytest.raises((DataError, PartnerFailed), match=r"linear\.least_columns|carol"):
        tables.run(job)


@pytest.mark.parametrize(
    "text",
    [
        "scorecard: {}\nlinear: {family: logistic}\n",
        "scorecard: {}\nlinear: {family: logistic}\nbin: {tell: woe}\n",
    ],
)
def test_a_card_needs_woe(card, text):
    with pytest.raises(JobError, match="scorecard"):
        card[0].job(text)
