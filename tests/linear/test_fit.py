"""Split models against scikit-learn on the pooled columns."""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats
from sklearn import linear_model as sk
from tests.linear.pooled import coefficients, columns, fitted, information

from isthmus.errors import JobError
from isthmus.linear import LinearOptions, predict
from isthmus.session import run_parties

pytest.importorskip("tenseal")

ROWS, OWN, THEIRS = 600, 3, 4
EXACT = 1e-9


def sample(family, rng, eta):
    mean = np.exp(eta)
    match family:
        case "logistic":
            return (rng.random(len(eta)) < 1 / (1 + np.exp(-eta))).astype(float)
        case "linear":
            return eta + rng.normal(size=len(eta))
        case "poisson":
            return rng.poisson(mean).astype(float)
        case "gamma":
            return rng.gamma(2.0, mean / 2.0)
        case _:
            return np.array([rng.gamma(2.0, 0.5, count).sum() for count in rng.poisson(mean)])


def reference(family, l2):
    tight = {"tol": 1e-10, "max_iter": 10_000}
    match family:
        case "logistic":
            return sk.LogisticRegression(C=1 / (l2 * ROWS) if l2 else np.inf, **tight)
        case "linear":
            return sk.Ridge(alpha=l2 * ROWS) if l2 else sk.LinearRegression()
        case "poisson":
            return sk.PoissonRegressor(alpha=l2, **tight)
        case "gamma":
            return sk.GammaRegressor(alpha=l2, **tight)
        case _:
            return sk.TweedieRegressor(power=1.5, alpha=l2, link="log", **tight)


def drawn(family, rows=ROWS, count=OWN + THEIRS, seed=0):
    x, rng = columns(rows, count, seed)
    return x, sample(family, rng, 0.3 * (x - x.mean(axis=0)).sum(axis=1) - 0.5)


def halves(x, own=OWN):
    return {"alice": x[:, :own], "bob": x[:, own:]}


@pytest.mark.parametrize("l2", [0.0, 0.05])
@pytest.mark.parametrize("family", ["logistic", "linear", "poisson", "gamma", "tweedie"])
def test_coefficients_are_those_of_the_pooled_model(family, l2):
    x, y = drawn(family)
    found = fitted(halves(x), y, LinearOptions(family=family, l2=l2, tolerance=EXACT))
    pooled = reference(family, l2).fit(x, y)
    np.testing.assert_allclose(coefficients(found), np.ravel(pooled.coef_), atol=2e-5)
    intercept = float(np.ravel(pooled.intercept_)[0])
    assert found["alice"].intercept == pytest.approx(intercept, abs=5e-5)
    assert found["bob"].intercept is None
    assert found["alice"].converged
    assert found["bob"].converged


def test_few_vectors_are_near_the_optimum_and_say_so():
    x, y = drawn("poisson", rows=2000, count=12)
    exact = fitted(halves(x, 2), y, LinearOptions(family="poisson", standard_errors=True))
    near = fitted(halves(x, 2), y, LinearOptions(family="poisson"))
    assert near["bob"].shown < 10
    assert near["bob"].converged
    for party in ("alice", "bob"):
        away = near[party].coefficients - exact[party].coefficients
        assert np.abs(away / exact[party].standard_errors).max() < 0.03


def test_a_bound_on_the_vectors_is_kept():
    x, y = drawn("linear", count=12)
    found = fitted(halves(x), y, LinearOptions(family="linear", rounds=2))
    assert found["bob"].shown == 2
    assert not found["alice"].converged
    assert not found["bob"].converged


def test_exposure_as_an_offset_is_exposure_as_a_weight_of_the_frequency():
    x, rng = columns(ROWS, OWN + THEIRS)
    exposure = rng.uniform(0.1, 1.0, ROWS)
    counts = rng.poisson(exposure * np.exp(0.3 * x[:, 0] - 0.2 * x[:, -1])).astype(float)
    options = LinearOptions(family="poisson", tolerance=EXACT)
    found = fitted(halves(x), counts, options, offset=np.log(exposure))
    pooled = reference("poisson", 0.0).fit(x, counts / exposure, sample_weight=exposure)
    np.testing.assert_allclose(coefficients(found), pooled.coef_, atol=2e-5)
    weighted = fitted(halves(x), counts / exposure, options, weights=exposure)
    np.testing.assert_allclose(coefficients(weighted), pooled.coef_, atol=2e-5)


def test_three_parties_and_a_label_party_without_columns():
    x, y = drawn("logistic")
    tables = {"alice": None, "bob": x[:, :3], "carol": x[:, 3:]}
    found = fitted(tables, y, LinearOptions(tolerance=EXACT))
    pooled = reference("logistic", 0.0).fit(x, y)
    assert found["alice"].coefficients.shape == (0,)
    np.testing.assert_allclose(coefficients(found), pooled.coef_[0], atol=2e-5)

    def program(session):
        return predict(session, found[session.me], tables[session.me])

    scores = run_parties(dict.fromkeys(tables, program), label_party="alice")
    np.testing.assert_allclose(scores["alice"], pooled.predict_proba(x)[:, 1], atol=1e-5)
    assert scores["bob"] is None
    assert scores["carol"] is None


def test_without_an_intercept():
    x, y = drawn("linear")
    found = fitted(halves(x), y, LinearOptions(family="linear", intercept=False, tolerance=EXACT))
    pooled = sk.LinearRegression(fit_intercept=False).fit(x, y)
    np.testing.assert_allclose(coefficients(found), pooled.coef_, atol=1e-7)
    assert found["alice"].intercept is None


@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_dependent_and_constant_columns_change_no_prediction(l2):
    x, y = drawn("linear")
    own = np.column_stack([x[:, :OWN], x[:, 0] - x[:, 1]])
    theirs = np.column_stack([x[:, OWN:], np.full(ROWS, 7.0), x[:, OWN] * 1000])
    found = fitted({"alice": own, "bob": theirs}, y, LinearOptions(family="linear", l2=l2))
    both = np.column_stack([own, theirs])
    pooled = reference("linear", l2).fit(both, y).predict(both)
    ours = both @ coefficients(found) + found["alice"].intercept
    np.testing.assert_allclose(ours, pooled, atol=0.01)
    assert found["bob"].coefficients[THEIRS] == pytest.approx(0.0, abs=1e-12)


def test_rows_of_several_ciphertexts_in_columns_of_any_unit():
    x, y = drawn("logistic", rows=9000)
    theirs = x[:, OWN:] * [1e-6, 1.0, 1e6, 30.0]
    found = fitted({"alice": x[:, :OWN], "bob": theirs}, y, LinearOptions(tolerance=1e-3))
    pooled = reference("logistic", 0.0).fit(x, y).coef_[0]
    ours = np.r_[found["alice"].coefficients, found["bob"].coefficients * [1e-6, 1.0, 1e6, 30.0]]
    np.testing.assert_allclose(ours, pooled, atol=2e-4)


@pytest.mark.parametrize("family", ["logistic", "linear", "poisson", "gamma"])
def test_standard_errors_are_those_of_the_pooled_information(family):
    x, y = drawn(family)
    found = fitted(halves(x), y, LinearOptions(family=family, standard_errors=True))
    pooled = reference(family, 0.0).fit(x, y)
    if family == "logistic":
        mean = pooled.predict_proba(x)[:, 1]
        covariance = information(x, mean * (1 - mean))
    else:
        mean = pooled.predict(x)
        spread = {"linear": np.ones(ROWS), "poisson": mean, "gamma": mean**2}[family]
        curvature = {"linear": np.ones(ROWS), "poisson": mean, "gamma": np.ones(ROWS)}[family]
        factor = 1.0 if family == "poisson" else ((y - mean) ** 2 / spread).sum() / (ROWS - 8)
        covariance = information(x, curvature) * factor
        assert found["alice"].dispersion == pytest.approx(factor, rel=1e-4)
    errors = np.sqrt(np.diag(covariance))
    ours = [found["alice"].standard_errors, found["bob"].standard_errors]
    np.testing.assert_allclose(np.concatenate(ours), errors[1:], rtol=1e-4)
    assert found["alice"].intercept_error == pytest.approx(errors[0], rel=1e-4)
    z = found["bob"].coefficients / found["bob"].standard_errors
    np.testing.assert_allclose(found["bob"].p_values(), 2 * stats.norm.sf(np.abs(z)), atol=1e-12)
    assert found["bob"].shown == THEIRS


def test_a_constant_column_has_nothing_to_test():
    x, y = drawn("poisson")
    x[:, -1] = 3.0
    found = fitted(halves(x), y, LinearOptions(family="poisson", standard_errors=True))
    assert found["bob"].coefficients[-1] == 0
    assert found["bob"].p_values()[-1] == 1
    assert np.isfinite(found["bob"].p_values()).all()


def test_weighted_counts_have_no_standard_errors():
    x, y = drawn("poisson")
    options = LinearOptions(family="poisson", standard_errors=True)
    with pytest.raises(JobError, match="no standard errors of a weighted poisson"):
        fitted(halves(x), y, options, weights=np.full(len(y), 0.5))


def test_without_standard_errors_there_are_no_p_values():
    x, y = drawn("linear")
    found = fitted(halves(x), y, LinearOptions(family="linear"))
    with pytest.raises(JobError, match="standard_errors=True"):
        found["alice"].p_values()


@pytest.mark.skipif("ISTHMUS_DATA" not in os.environ, reason="needs FATE's data in ISTHMUS_DATA")
def test_fates_breast_data():
    folder = Path(os.environ["ISTHMUS_DATA"]) / "vfl_breast"
    guest, host = pl.read_csv(folder / "guest.csv"), pl.read_csv(folder / "host.csv")
    y = guest["y"].to_numpy().astype(float)
    tables = {"guest": guest.drop("id", "y").to_numpy(), "host": host.drop("id").to_numpy()}
    found = fitted(tables, y, LinearOptions(l2=1 / len(y), tolerance=1e-4))
    pooled = sk.LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000)
    pooled.fit(np.column_stack(list(tables.values())), y)
    np.testing.assert_allclose(coefficients(found), pooled.coef_[0], atol=1e-4)
    assert found["host"].shown < 20
