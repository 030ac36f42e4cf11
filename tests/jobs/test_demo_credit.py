"""The demo of a scorecard: its tables, its job, and what comes of it."""

import json

import polars as pl

from isthmus.data.credit import KEY, write_credit
from isthmus.jobs.examples import example
from isthmus.jobs.job import load_job
from isthmus.jobs.local import run_here


def test_the_two_tables_have_customers_of_their_own(tmp_path):
    common = write_credit(tmp_path, seed=3, customers=500)
    bank = pl.read_csv(tmp_path / "bank" / "loans.csv")
    shop = pl.read_csv(tmp_path / "shop" / "customers.csv")
    both = set(bank[KEY]) & set(shop[KEY])
    assert len(both) == common < len(bank)
    assert bank[KEY].n_unique() == len(bank)
    assert 0.05 < bank["defaulted"].mean() < 0.4
    assert 0 < bank["income"].null_count() < len(bank) / 4
    again = tmp_path / "again"
    write_credit(again, seed=3, customers=500)
    assert (again / "bank" / "loans.csv").read_text() == (
        tmp_path / "bank" / "loans.csv"
    ).read_text()


def test_the_job_gives_a_scorecard_that_is_the_pooled_one(tmp_path):
    write_credit(tmp_path, seed=7, customers=3000)
    (tmp_path / "job.yaml").write_text(example("credit"))
    job = load_job(tmp_path / "job.yaml", ["evaluate.resamples=50"])
    pages = run_here(job, tmp_path / "runs")
    report = json.loads((pages["bank"].parent / "report.json").read_text())
    metrics = report["metrics"]
    assert metrics["federation"]["auc"] > metrics["label_party_alone"]["auc"] + 0.02
    scores = pl.read_parquet(pages["bank"].parent / "predict" / "predictions.parquet")
    assert {"score", "reason_1"} <= set(scores.columns)
    # The more points, the better the risk.
    ranks = scores.select(pl.corr("score", "probability", method="spearman")).item()
    assert ranks < -0.999
    assert not list(pages["shop"].parent.rglob("predictions*"))
