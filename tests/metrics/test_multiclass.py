import numpy as np
import pytest

from isthmus.errors import MetricError
from isthmus.metrics import multiclass_metrics


def test_figures_by_hand():
    p = [[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.5, 0.25, 0.25]]
    found = multiclass_metrics([0, 2, 1], p)
    assert found.accuracy == pytest.approx(2 / 3)
    assert found.log_loss == pytest.approx(-np.log([0.7, 0.6, 0.25]).mean())
    assert found.rows == 3


def test_a_probability_of_zero_does_not_cost_infinity():
    assert np.isfinite(multiclass_metrics([1], [[1.0, 0.0]]).log_loss)


@pytest.mark.parametrize(
    ("labels", "p"),
    [
        ([], np.empty((0, 2))),
        ([0, 1], [[0.5, 0.5]]),
        ([2], [[0.5, 0.5]]),
        ([0.5], [[0.5, 0.5]]),
        ([0], [[0.5, 0.6]]),
        ([0], [[np.nan, 1.0]]),
        ([0], [[1.5, -0.5]]),
    ],
)
def test_what_is_refused(labels, p):
    with pytest.raises(MetricError):
        multiclass_metrics(labels, p)
