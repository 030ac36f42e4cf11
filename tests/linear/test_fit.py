"""Split models against scikit-learn on the pooled columns."""

import numpy as np
import pytest
from sklearn import linear_model as sk

from isthmus.linear import LinearOptions, fit
from isthmus.session import run_parties

pytest.importorskip("tenseal")

ROWS, OWN, THEIRS = 600, 3, 4
EXACT = {"tolerance": 1e-9}


def columns(seed=0, rows=ROWS):
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(rows, OWN + THEIRS)) @ rng.normal(size=(OWN + THEIRS, OWN + THEIRS))
    return mixed / 3 + rng.normal(size=OWN + THEIRS), rng


def split(programs_data, labels, options, **label_side):
    """Results by party; the first has the labels."""
    names = list(programs_data)

    def program(session):
        own = programs_data[session.me]
        if session.me == names[0]:
            return fit(session, own, labels, options, **label_side)
        return fit(session, own, options=options)

    return run_parties(dict.fromkeys(names, program), label_party=names[0])


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
        case "tweedie":
            counts = rng.poisson(mean)
            return np.array([rng.gamma(2.0, 0.5, count).sum() for count in counts])


def pooled(family, l2):
    match family:
        case "logistic":
            strength = np.inf if l2 == 0 else 1 / (l2 * ROWS)
            return sk.LogisticRegression(C=strength, tol=1e-10, max_iter=10_000)
        case "linear":
            return sk.Ridge(alpha=l2 * ROWS) if l2 else sk.LinearRegression()
        case "poisson":
            return sk.PoissonRegressor(alpha=l2, tol=1e-10, max_iter=10_000)
        case "gamma":
            return sk.GammaRegressor(alpha=l2, tol=1e-10, max_iter=10_000)
        case "tweedie":
            return sk.TweedieRegressor(power=1.5, alpha=l2, tol=1e-10, max_iter=10_000, link="log")


@pytest.mark.parametrize("l2", [0.0, 0.05])
@pytest.mark.parametrize("family", ["logistic", "linear", "poisson", "gamma", "tweedie"])
def test_coefficients_are_those_of_the_pooled_model(family, l2):
    x, rng = columns()
    y = sample(family, rng, 0.3 * (x - x.mean(axis=0)).sum(axis=1) - 0.5)
    options = LinearOptions(family=family, l2=l2, **EXACT)
    found = split({"alice": x[:, :OWN], "bob": x[:, OWN:]}, y, options)
    reference = pooled(family, l2).fit(x, y)
    ours = np.r_[found["alice"].coefficients, found["bob"].coefficients]
    np.testing.assert_allclose(ours, np.ravel(reference.coef_), atol=2e-5)
    assert found["alice"].intercept == pytest.approx(
        float(np.ravel(reference.intercept_)[0]), abs=5e-5
    )
    assert found["alice"].converged
    assert found["bob"].converged
