"""A scorecard between two processes over TLS: what it gives in one process, and what is told."""

import json

import polars as pl
from tests.tiny import TEXT

from isthmus.jobs.local import run_here

CARD = """\
bin: {method: quantile, bins: 4, tell: woe, transform: true}
linear: {family: logistic}
scorecard: {reasons: 1}
evaluate: {pooled: true, resamples: 20}
"""


def test_a_scorecard_over_tls_gives_what_it_gives_in_one_process(site):
    above = TEXT[: TEXT.index("train:")].replace('Tags: {kind: multi_hot, separator: "|"}', "")
    site.write(above + CARD)
    here = run_here(site.job(), site.folder / "memory")
    done = site.isthmus("run", site.job_file, "--out", site.folder / "runs", "--format", "json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["fitted"]["card"]["base"] is not None
    figures = report["metrics"]
    assert abs(figures["federation"]["auc"] - figures["pooled"]["auc"]) < 0.01

    memory = pl.read_parquet(here["bob"].parent / "predict" / "predictions.parquet")
    over_tls = pl.read_parquet(site.results("bob") / "predict" / "predictions.parquet")
    assert over_tls.columns == memory.columns
    assert over_tls["score"].equals(memory["score"])
    assert over_tls["reason_1"].equals(memory["reason_1"])
