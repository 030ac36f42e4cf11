"""Models of one table, and models as files."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from sklearn import linear_model as sk
from tests.linear.pooled import columns, fitted

from isthmus.errors import DataError, JobError, StorageError, TrainError
from isthmus.linear import LinearOptions, LinearResult, fit_alone, predict_alone

X, RNG = columns(500, 4)
COUNTS = RNG.poisson(np.exp(0.3 * X[:, 0])).astype(float)
POISSON = LinearOptions(family="poisson", l2=0.01)


def test_it_is_scikit_learns_model_with_weights_and_an_offset():
    exposure = RNG.uniform(0.2, 1.0, 500)
    found = fit_alone(X, COUNTS, POISSON, offset=np.log(exposure))
    pooled = sk.PoissonRegressor(alpha=0.01 / exposure.mean(), tol=1e-10, max_iter=1000)
    pooled.fit(X, COUNTS / exposure, sample_weight=exposure)
    np.testing.assert_allclose(found.coefficients, pooled.coef_, atol=2e-5)
    weighted = fit_alone(X, COUNTS / exposure, replace(POISSON, l2=0.0), weights=exposure)
    plain = fit_alone(X, COUNTS, replace(POISSON, l2=0.0), offset=np.log(exposure))
    np.testing.assert_allclose(weighted.coefficients, plain.coefficients, atol=1e-9)
    ours = predict_alone(found, X, offset=np.log(exposure))
    np.testing.assert_allclose(ours, pooled.predict(X) * exposure, rtol=1e-4)


def test_it_is_what_parties_come_to_together():
    pytest.importorskip("tenseal")
    options = LinearOptions(family="linear", standard_errors=True)
    y = X[:, 1] + RNG.normal(size=500)
    alone = fit_alone(X, y, options)
    split = fitted({"alice": X[:, :2], "bob": X[:, 2:]}, y, options)
    for name in ("coefficients", "standard_errors"):
        ours = np.concatenate([getattr(one, name) for one in split.values()])
        np.testing.assert_allclose(getattr(alone, name), ours, rtol=1e-8)
    for name in ("intercept", "intercept_error", "dispersion", "loss"):
        assert getattr(alone, name) == pytest.approx(getattr(split["alice"], name))


def test_an_intercept_alone_is_the_mean():
    found = fit_alone(None, COUNTS, POISSON)
    assert found.coefficients.shape == (0,)
    rows = np.empty((3, 0))
    np.testing.assert_allclose(predict_alone(found, rows), np.full(3, COUNTS.mean()))
    with pytest.raises(JobError, match="neither a column nor an intercept"):
        fit_alone(None, COUNTS, replace(POISSON, intercept=False))


def test_other_columns_are_refused():
    found = fit_alone(X, COUNTS, POISSON)
    with pytest.raises(DataError, match="3 columns for a model of 4"):
        predict_alone(found, X[:, :3])
    with pytest.raises(DataError, match="4 rows of columns and 500 labels"):
        fit_alone(X[:4], COUNTS, POISSON)


@pytest.mark.parametrize("standard_errors", [False, True])
def test_a_model_comes_back_from_its_file_bit_for_bit(tmp_path, standard_errors):
    path = tmp_path / "folder" / "model.json"
    found = fit_alone(X, COUNTS, replace(POISSON, l2=0.0, standard_errors=standard_errors))
    found.save(str(path))
    back = LinearResult.load(str(path))
    assert asdict(back.options) == asdict(found.options)
    for name, value in vars(found).items():
        again = getattr(back, name)
        assert type(again) is type(value)
        np.testing.assert_array_equal(again, value) if name != "options" else None
    np.testing.assert_array_equal(predict_alone(back, X), predict_alone(found, X))


@pytest.mark.parametrize(
    "change",
    [
        {"format": "isthmus.linear/2"},
        {"more": 1},
        {"coefficients": "none"},
        {"coefficients": [1.0, "2"]},
        {"standard_errors": [1.0]},
        {"intercept": "0"},
        {"rounds": -1},
        {"converged": 1},
        {"options": {"family": "probit"}},
        {"options": {"family": "linear", "more": 2}},
        {"options": {"l2": "0.5"}},
        {"loss": float("nan")},
    ],
)
def test_what_is_no_model_is_refused(tmp_path, change):
    path = tmp_path / "model.json"
    fit_alone(X, COUNTS, POISSON).save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(StorageError, match="no part of a linear model"):
        LinearResult.load(path)


def test_files_that_cannot_be_read_or_written(tmp_path):
    with pytest.raises(StorageError, match="cannot read"):
        LinearResult.load(tmp_path / "none.json")
    for content in (b"", b"\xff\x00", b"[" * 100_000):
        (tmp_path / "odd").write_bytes(content)
        with pytest.raises(StorageError, match="no part"):
            LinearResult.load(tmp_path / "odd")
    with (tmp_path / "long").open("wb") as file:
        file.truncate((1 << 26) + 1)
    with pytest.raises(StorageError, match="too long"):
        LinearResult.load(tmp_path / "long")
    wrong = replace(fit_alone(X, COUNTS, POISSON), loss=float("inf"))
    with pytest.raises(StorageError, match="infinity"):
        wrong.save(tmp_path / "model.json")
    assert not (tmp_path / "model.json").exists()


LABELS = (RNG.random(500) < 0.4).astype(float)
RARE = np.where((np.arange(500) < 9), LABELS, 0.0)
"""1 in a few rows, all of them of label 1."""


@pytest.mark.parametrize(
    ("family", "column", "labels"),
    [
        ("logistic", LABELS, LABELS),
        ("logistic", X[:, 0], (X[:, 0] > 0.1).astype(float)),
        ("logistic", RARE, LABELS),
        ("poisson", RARE, COUNTS * (1 - RARE)),
        ("tweedie", RARE, COUNTS * (1 - RARE)),
    ],
)
def test_labels_that_columns_give_away_have_no_best_coefficients(family, column, labels):
    data = np.column_stack([X[:, 1:], column])
    options = LinearOptions(family=family)
    with pytest.raises(TrainError, match="no coefficients are best"):
        fit_alone(data, labels, options)
    found = fit_alone(data, labels, replace(options, l2=0.01))
    assert np.abs(found.coefficients).max() < 20


def test_far_out_rows_are_no_reason_to_refuse():
    """A row whose probability is 1 in all digits, by a coefficient that other rows determine."""
    data = X.copy()
    data[3, 0] = 500.0
    labels = (RNG.random(500) < 1 / (1 + np.exp(-X[:, 0]))).astype(float)
    labels[3] = 1.0
    found = fit_alone(data, labels, LinearOptions())
    pooled = sk.LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000, solver="newton-cholesky")
    np.testing.assert_allclose(found.coefficients, pooled.fit(data, labels).coef_[0], atol=1e-4)
    assert found.coefficients[0] * 500 > 30


@pytest.mark.parametrize("l2", [0.0, 0.03])
def test_lasso_is_scikit_learns(l2):
    y = X[:, 1] + RNG.normal(size=500)
    found = fit_alone(X, y, LinearOptions(family="linear", l1=0.2, l2=l2))
    pooled = sk.ElasticNet(alpha=0.2 + l2, l1_ratio=0.2 / (0.2 + l2), tol=1e-12).fit(X, y)
    np.testing.assert_allclose(found.coefficients, pooled.coef_, atol=1e-8)
    assert found.intercept == pytest.approx(pooled.intercept_)
    labels = (y > np.median(y)).astype(float)
    with_constant = np.column_stack([X, np.full(500, 3.0)])
    found = fit_alone(with_constant, labels, LinearOptions(l1=0.02, l2=l2))
    pooled = sk.LogisticRegression(
        solver="saga", l1_ratio=0.02 / (0.02 + l2), C=1 / (500 * (0.02 + l2)), tol=1e-9,
        max_iter=20_000,
    )  # fmt: skip
    np.testing.assert_allclose(found.coefficients[:4], pooled.fit(X, labels).coef_[0], atol=1e-5)
    assert found.coefficients[4] == 0
    np.testing.assert_array_equal(found.coefficients[:4] == 0, pooled.coef_[0] == 0)


@pytest.mark.parametrize("l1", [0.0, 0.01, 1e4])
def test_a_lasso_leaves_no_better_place_nearby(l1):
    """Poisson, which scikit-learn has no L1 for: at the optimum the gradient is within it."""
    found = fit_alone(X, COUNTS, LinearOptions(family="poisson", l1=l1))
    mean = predict_alone(found, X)
    gradient = X.T @ (COUNTS - mean) / 500
    assert (np.abs(gradient) <= l1 + 1e-8).all()
    inside = found.coefficients != 0
    signs = np.sign(found.coefficients[inside])
    np.testing.assert_allclose(gradient[inside], l1 * signs, atol=1e-8)
    assert inside.any() == (l1 < 1)
