import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from isthmus.errors import MetricError
from isthmus.metrics import deviance, deviance_explained, real_metrics

POWERS = {"linear": 0, "poisson": 1, "gamma": 2, "tweedie": 1.5}
ROWS = st.lists(
    st.tuples(st.integers(0, 5), st.floats(0.01, 50), st.floats(0.1, 3)), min_size=2, max_size=30
)


@pytest.mark.parametrize("family", POWERS)
@given(rows=ROWS)
def test_deviance_is_that_of_scikit_learn(family, rows):
    values, means, weights = map(np.array, zip(*rows, strict=True))
    values = values + (0.5 if family == "gamma" else 0.0)
    if family == "linear":
        values, means = values - 2, means - 10
    for weight in (None, weights):
        theirs = oracle.mean_tweedie_deviance(
            values, means, sample_weight=weight, power=POWERS[family]
        )
        found = deviance(values, means, family=family, weights=weight)
        assert found == pytest.approx(theirs, rel=1e-9, abs=1e-10)


@pytest.mark.parametrize("family", POWERS)
def test_the_share_explained_is_that_of_scikit_learn(family):
    rng = np.random.default_rng(8)
    means = np.exp(rng.normal(size=500))
    values = rng.gamma(2.0, means / 2) if family == "gamma" else rng.poisson(means).astype(float)
    weights = rng.random(500)
    theirs = oracle.d2_tweedie_score(values, means, sample_weight=weights, power=POWERS[family])
    found = deviance_explained(values, means, family=family, weights=weights)
    assert found == pytest.approx(theirs)
    constant = np.full(500, np.average(values))
    assert deviance_explained(values, constant, family=family) == pytest.approx(0, abs=1e-12)
    assert deviance_explained(values[:1].repeat(3), means[:3], family=family) is None


def test_linear_deviance_is_the_square_of_rmse():
    values, means = [1.0, 2.0, 4.0], [1.0, 3.0, 2.0]
    figures = real_metrics(values, means)
    assert deviance(values, means, family="linear") == pytest.approx(figures.rmse**2)
    assert deviance_explained(values, means, family="linear") == pytest.approx(figures.r2)


@pytest.mark.parametrize(
    ("values", "means", "more", "said"),
    [
        ([1.0, -1.0], [1.0, 1.0], {"family": "poisson"}, "values must be 0 or above"),
        ([1.0, 0.0], [1.0, 1.0], {"family": "gamma"}, "values must be above 0"),
        ([1.0, 0.0], [1.0, 0.0], {"family": "tweedie"}, "predictions must be above 0"),
        ([1.0], [1.0], {"family": "tweedie", "power": 2}, "power"),
        ([1.0], [1.0], {"family": "normal"}, "no family"),
        ([1.0], [1.0], {"family": "linear", "weights": [0.0]}, "weights are 0"),
        ([1.0], [1.0], {"family": "linear", "weights": [-1.0]}, "negative"),
        ([], [], {"family": "linear"}, "at least one"),
        ([1.0], [np.nan], {"family": "linear"}, "NaN"),
    ],
)
def test_what_is_refused(values, means, more, said):
    for figure in (deviance, deviance_explained):
        with pytest.raises(MetricError, match=said):
            figure(values, means, **more)
