import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from isthmus.errors import MetricError
from isthmus.metrics import lorenz_curve

ROWS = st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2).filter(
    lambda rows: 0 < sum(label for label, _ in rows) < len(rows)
)


@given(ROWS)
def test_normalised_gini_of_labels_is_that_of_the_auc(rows):
    labels, scores = map(np.array, zip(*rows, strict=True))
    found = lorenz_curve(labels.astype(float), scores)
    expected = 2 * oracle.roc_auc_score(labels, scores) - 1
    assert found.normalised == pytest.approx(expected, abs=1e-12)


def test_gini_is_that_of_the_area_under_the_curve():
    """As in scikit-learn's example of Tweedie regression on insurance claims."""
    rng = np.random.default_rng(3)
    exposure, guess = rng.random(2000), rng.normal(size=2000)
    pure = rng.gamma(0.5, np.exp(guess))
    ranked = np.argsort(guess)
    claims = np.cumsum((pure * exposure)[ranked])
    claims /= claims[-1]
    seen = np.cumsum(exposure[ranked])
    seen /= seen[-1]
    theirs = 1 - 2 * oracle.auc(np.append(0, seen), np.append(0, claims))
    found = lorenz_curve(pure, guess, weights=exposure, points=50)
    assert found.gini == pytest.approx(theirs)
    assert found.gini > 0.2
    assert found.rows.size == found.values.size == 50
    for axis in (found.rows, found.values):
        assert (axis[0], axis[-1]) == (0, pytest.approx(1))
        assert (np.diff(axis) >= 0).all()


def test_a_weight_is_a_repetition():
    values, scores, times = [0.0, 2.0, 1.0, 5.0], [1.0, 2.0, 2.0, 0.0], [1, 3, 2, 1]
    weighted = lorenz_curve(values, scores, weights=times)
    repeated = lorenz_curve(np.repeat(values, times), np.repeat(scores, times))
    assert weighted.gini == pytest.approx(repeated.gini)
    assert weighted.normalised == pytest.approx(repeated.normalised)


def test_orders_of_no_and_of_all_use():
    values = np.arange(1.0, 11.0)
    flat = lorenz_curve(values, np.zeros(10))
    assert flat.gini == pytest.approx(0)
    np.testing.assert_allclose(flat.rows, [0, 1])
    assert lorenz_curve(values, values).normalised == pytest.approx(1)
    assert lorenz_curve(values, -values).normalised == pytest.approx(-1)
    assert lorenz_curve(np.ones(5), np.arange(5)).normalised is None


@pytest.mark.parametrize(
    ("values", "more", "said"),
    [
        ([-1.0, 2.0], {}, "0 or above"),
        ([0.0, 0.0], {}, "sum above 0"),
        ([1.0, 0.0], {"weights": [0.0, 1.0]}, "sum above 0"),
        ([1.0, 0.0], {"points": 1}, "2 points"),
        ([1.0], {}, "predictions have shape"),
    ],
)
def test_what_has_no_curve(values, more, said):
    with pytest.raises(MetricError, match=said):
        lorenz_curve(values, [0.1, 0.2], **more)
