"""Linear models as whole jobs: what they reach, leave and tell, and how they fail."""

import importlib.util
import json

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file
from sklearn.linear_model import LogisticRegression, PoissonRegressor
from tests.jobs.tables import made_up

from isthmus.errors import DataError, JobError, PartnerFailed
from isthmus.jobs.precheck import check_own_side

EXACT = "linear: {family: logistic, tolerance: 1.0e-6, standard_errors: true}\n"
COUNTS = """\
linear: {family: poisson, exposure: years, tolerance: 1.0e-6}
predict: {rows: all}
"""


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    return made_up(tmp_path_factory.mktemp("linear"))


@pytest.fixture(scope="module")
def logistic(tables):
    job = tables.job(EXACT, "evaluate.pooled=true")
    return tables, job, tables.run(job, pooled=True)


def design(table, *, third=False):
    """The columns as the job makes numbers of them, up to scale."""
    levels = {"town": ("south", "east", "other"), "colour": ("blue",)}
    columns = ["b0", "b1", "a0", "a1", *(["c0", "c1"] if third else [])]
    parts = [table[name].to_numpy() for name in columns]
    rare = ~table["town"].is_in(["north", "south", "east"]).to_numpy()
    for name, kept in levels.items():
        parts += [rare if one == "other" else (table[name] == one).to_numpy() for one in kept]
    return np.column_stack(parts).astype(float)


def predictions(tables, job):
    found = pl.read_parquet(tables.at(job, "bob", "predict", "predictions.parquet"))
    return found.with_columns(pl.col("id").cast(pl.Int64))


def test_the_federation_is_the_pooled_model_and_that_of_scikit_learn(logistic):
    tables, job, reports = logistic
    scores = load_file(tables.at(job, "bob", "evaluate", "scores.safetensors"))
    pooled = load_file(tables.at(job, "bob", "pooled", "scores.safetensors"))["pooled"]
    np.testing.assert_allclose(scores["federation"], pooled, atol=1e-6)
    assert np.abs(scores["label_party_alone"] - pooled).max() > 0.1

    found = predictions(tables, job)
    whole = tables.joined()
    test = whole.join(found, on="id", how="semi")
    rows = np.load(tables.at(job, "bob", "align", "rows.npy"))
    split = np.fromfile(tables.at(job, "bob", "encode", "split.npy"), np.uint8)[-len(rows) :]
    ids = tables.frames["bob"]["id"].to_numpy()[rows][split == 0]
    train = whole.filter(pl.col("id").is_in(ids.tolist()))
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=2000)
    scale = design(train).std(axis=0)
    model.fit(design(train) / scale, train["y"].to_numpy())
    expected = pl.DataFrame(
        {"id": test["id"], "p": model.predict_proba(design(test) / scale)[:, 1]}
    )
    both = found.join(expected, on="id")
    np.testing.assert_allclose(both["probability"], both["p"], atol=1e-4)

    theirs = {
        (one["column"], one["level"]): one["coefficient"]
        for party in ("alice", "bob")
        for one in reports[party]["fitted"]["coefficients"]
    }
    names = ["b0", "b1", "a0", "a1", ("town", "south"), ("town", "east"), ("town", "other")]
    for place, name in enumerate([*names, ("colour", "blue")]):
        key = name if isinstance(name, tuple) else (name, None)
        assert theirs[key] == pytest.approx(model.coef_[0, place] / scale[place], rel=2e-3)


def test_the_label_partys_report_tells_what_it_knows(logistic):
    _, _, reports = logistic
    report = reports["bob"]
    assert report["model"] is None
    assert report["training"] is None
    fitted = report["fitted"]
    assert fitted["converged"]
    assert fitted["intercept"] is not None
    assert {one["party"] for one in fitted["shares"]} == {"alice", "bob"}
    assert all(one["deviation"] > 0.1 for one in fitted["shares"])
    assert all(one["standard_error"] > 0 for one in fitted["coefficients"])
    assert fitted["stability"]["psi"] < 0.5
    assert fitted["stability"]["training"]["auc"] > 0.6
    assert report["uplift"]["over_label_party_alone"]["mean"] > 0
    curves = report["curves"]["federation"]
    assert curves["ks_at"] in [cut["threshold"] for cut in curves["cutoffs"]]
    assert len(curves["lift"]) == 10
    assert len({cut["threshold"] for cut in curves["cutoffs"]}) == len(curves["cutoffs"])


def test_the_pages_say_what_each_party_may_know(logistic):
    tables, job, _ = logistic
    pages = {party: tables.at(job, party, "report.html").read_text() for party in ("alice", "bob")}
    seen = {
        party: text[text.index("<body>") : text.index("<script")] for party, text in pages.items()
    }
    for said in ("The model", "A logistic regression", "p-value"):
        assert said in seen["alice"]
        assert said in seen["bob"]
    for said in ("intercept", "Cut-offs", "colour = blue", "mean training loss"):
        assert said in seen["bob"]
        assert said not in seen["alice"]
    assert "town = south" in seen["alice"]
    assert "town" not in seen["bob"]


def test_a_feature_party_gets_no_label_and_no_score(logistic):
    tables, job, reports = logistic
    fitted = reports["alice"]["fitted"]
    for name in ("intercept", "intercept_error", "loss", "dispersion", "stability"):
        assert fitted[name] is None
    assert fitted["shares"] == []
    assert fitted["shown"] > 0
    assert reports["alice"]["curves"]["federation"] is None
    assert reports["alice"]["metrics"]["federation"]["auc"] > 0.5
    for name in ("labels", "scores", "fitted", "predictions"):
        assert not list(tables.at(job, "alice").rglob(f"{name}.*"))


def test_resuming_skips_and_a_damaged_model_is_made_again(tables):
    job = tables.job(EXACT, "name=again")
    reports = tables.run(job)
    again = tables.run(job, resume=True)
    assert again["bob"]["metrics"]["federation"] == reports["bob"]["metrics"]["federation"]
    model = tables.at(job, "alice", "train", "model.json")
    before = model.read_bytes()
    model.write_bytes(before[:-9])
    repaired = tables.run(job, resume=True)
    assert model.read_bytes() == before
    assert repaired["bob"]["fitted"]["coefficients"] == reports["bob"]["fitted"]["coefficients"]


def test_counts_with_exposure_of_three_parties(tables):
    job = tables.job(
        COUNTS, "label.expression=claims", "label.kind=real", "label.weight=w", third=True
    )
    reports = tables.run(job)
    found, whole = predictions(tables, job), tables.joined()
    both = whole.join(found.select("id", "value", "split"), on="id")
    train = both.filter(pl.col("split") == "train")
    x = design(train, third=True)
    model = PoissonRegressor(alpha=0.0, tol=1e-10, max_iter=5000)
    rate = train["claims"].to_numpy() / train["years"].to_numpy()
    weights = train["years"].to_numpy() * train["w"].to_numpy()
    model.fit(x / x.std(axis=0), rate, sample_weight=weights)
    expected = model.predict(design(both, third=True) / x.std(axis=0)) * both["years"].to_numpy()
    np.testing.assert_allclose(both["value"], expected, rtol=2e-3)

    figures = {one["metric"]: one for one in reports["bob"]["targets"]}
    assert set(figures) == {"RMSE", "MAE", "deviance", "Gini"}
    assert figures["Gini"]["federation"] > figures["Gini"]["label_party_alone"]
    test = both.filter(pl.col("split") == "test")
    y, mean, w = (test[name].to_numpy().astype(float) for name in ("claims", "value", "w"))
    unit = 2 * (y * np.log(np.where(y > 0, y / mean, 1.0)) - y + mean)
    assert figures["deviance"]["federation"] == pytest.approx(np.average(unit, weights=w), rel=1e-5)
    assert reports["bob"]["lorenz"]["federation"][-1] == {"rows": 1.0, "total": 1.0}
    for party in ("alice", "carol"):
        assert reports[party]["lorenz"]["federation"] is None
        told = {one["metric"]: one["federation"] for one in reports[party]["targets"]}
        assert told["Gini"] == round(figures["Gini"]["federation"], 4)
    assert "Lorenz" in tables.at(job, "bob", "report.html").read_text()


def test_a_linear_regression_by_moments(tables):
    job = tables.job(
        "linear: {family: linear, protocol: moments}\n",
        "label.expression=amount",
        "label.kind=real",
        "evaluate.pooled=true",
    )
    reports = tables.run(job, pooled=True)
    rmse = next(one for one in reports["bob"]["targets"] if one["metric"] == "RMSE")
    assert rmse["federation"] == pytest.approx(rmse["pooled"], rel=1e-3)
    assert rmse["federation"] < 0.9 * rmse["label_party_alone"]
    assert [one["metric"] for one in reports["bob"]["targets"]] == ["RMSE", "MAE"]
    assert reports["alice"]["fitted"]["shown"] == 0
    # No number for a training sample has crossed, nor is kept.
    assert reports["bob"]["fitted"]["shares"] == []
    assert reports["bob"]["fitted"]["stability"] is None
    assert not tables.at(job, "bob", "train", "fitted.safetensors").exists()


def test_a_label_party_with_a_label_alone(tables):
    job = tables.job(
        "linear: {family: logistic}\n", "parties.bob.features={}", "evaluate.pooled=true"
    )
    reports = tables.run(job, pooled=True)
    metrics = reports["bob"]["metrics"]
    assert metrics["label_party_alone"] is None
    assert metrics["federation"]["auc"] == pytest.approx(metrics["pooled"]["auc"], abs=2e-3)
    assert reports["bob"]["fitted"]["coefficients"] == []


def test_the_model_is_applied_to_another_table(logistic, tmp_path):
    tables, job, _ = logistic
    for party, frame in tables.frames.items():
        frame.head(300).write_csv(tables.folder / f"new-{party}.csv")
    later = tables.job(
        EXACT,
        f"predict.model={job.folder_name}",
        "parties.alice.table=new-alice.csv",
        "parties.bob.table=new-bob.csv",
    )
    reports = tables.run(later)
    assert 0 < reports["bob"]["fitted"]["stability"]["psi"] < 0.5
    assert reports["alice"]["fitted"]["stability"] is None
    assert "training to these rows" in tables.at(later, "bob", "report.html").read_text()
    found = predictions(tables, later)
    both = found.join(predictions(tables, job), on="id")
    assert len(both) > 5
    np.testing.assert_array_equal(both["probability"], both["probability_right"])


@pytest.mark.parametrize("column", ["a1", "town"])
def test_gaps_in_a_later_table_are_told(logistic, column):
    tables, job, _ = logistic
    gap = pl.when(pl.col("id") == 7).then(None).otherwise(pl.col(column)).alias(column)
    tables.frames["alice"].with_columns(gap).write_csv(tables.folder / "gaps.csv")
    changes = (f"predict.model={job.folder_name}", "parties.alice.table=gaps.csv", f"name={column}")
    later = tables.job(EXACT, *changes)
    with pytest.raises((DataError, PartnerFailed), match=f"'{column}' is missing in 1 of 900"):
        tables.run(later)


@pytest.mark.parametrize(
    ("text", "overrides", "said"),
    [
        ("linear: {protocol: moments}\n", ["label.weight=w"], "linear.protocol: moments knows no"),
        (
            "linear: {family: linear, l2: 1.0, standard_errors: true}\n",
            ["label.kind=real", "label.expression=amount"],
            "penalised coefficients have no standard errors",
        ),
        (
            "linear: {family: poisson, exposure: yeers}\n",
            ["label.kind=real", "label.expression=claims"],
            "no column 'yeers' (linear.exposure)",
        ),
        (
            "linear: {family: poisson, exposure: b0}\n",
            ["label.kind=real", "label.expression=claims"],
            "linear.exposure: 'b0' is missing, infinite or not above 0",
        ),
    ],
)
def test_what_is_wrong_is_found_before_the_job(tables, text, overrides, said):
    job = tables.job(text, *overrides)
    with pytest.raises((JobError, DataError)) as caught:
        check_own_side(job, "bob")
    assert said in str(caught.value)


def test_moments_is_for_one_feature_party(tables):
    with pytest.raises(JobError, match="moments is for one feature party"):
        check_own_side(tables.job("linear: {protocol: moments}\n", third=True), "bob")


def test_a_missing_package_is_found_before_the_job(tables, monkeypatch):
    real = importlib.util.find_spec
    hidden = lambda name, *more: None if name == "tenseal" else real(name, *more)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", hidden)
    with pytest.raises(JobError, match=r"pip install 'isthmus\[vertical\]'"):
        check_own_side(tables.job(EXACT), "bob")
    # To predict, nothing is encrypted.
    check_own_side(tables.job(EXACT, "predict.model=made-up-12345678"), "bob")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["label.kind=real", "label.expression=amount"],
            "learns a binary label, and label.kind is real",
        ),
        (["train.epochs=2"], "belongs to networks"),
        (["linear.exposure=years"], "exposure goes with a logarithm"),
    ],
)
def test_what_does_not_go_together_is_refused_with_its_place(tables, overrides, said):
    with pytest.raises(JobError, match=said):
        tables.job(EXACT, *overrides)


def test_gaps_are_told_with_a_mend(tmp_path):
    tables = made_up(tmp_path, rows=200)
    gap = pl.when(pl.col("a1") > 1.5).then(None).otherwise(pl.col("a1"))
    tables.spoil("alice", a1=gap)
    with pytest.raises((DataError, PartnerFailed)) as caught:
        tables.run(tables.job(EXACT))
    error = caught.value if isinstance(caught.value, DataError) else caught.value.__cause__
    assert "'a1' is missing in" in str(error)
    assert "parties.alice.clean.a1.missing" in str(error)


def test_a_column_that_sets_few_rows_apart_goes_by_its_name(tmp_path):
    tables = made_up(tmp_path, rows=300)
    tables.spoil("alice", a1=(pl.col("id") < 4).cast(pl.Float64))
    with pytest.raises((DataError, PartnerFailed), match="'a1'"):
        tables.run(tables.job("linear: {family: logistic, l2: 0.01}\n"))


def test_result_json_is_for_reading(logistic):
    tables, job, _ = logistic
    result = json.loads(tables.at(job, "alice", "train", "result.json").read_text())
    assert [one["column"] for one in result["coefficients"]] == ["a0", "a1", "town", "town", "town"]
    assert result["intercept"] is None
