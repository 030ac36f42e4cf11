import numpy as np
import pytest

from isthmus.errors import MetricError
from isthmus.metrics import real_metrics


def test_figures_by_hand():
    found = real_metrics([1.0, 2.0, 4.0], [1.0, 3.0, 2.0])
    assert found.rmse == pytest.approx(np.sqrt(5 / 3))
    assert found.mae == pytest.approx(1.0)
    assert found.rows == 3
    variance = np.var([1.0, 2.0, 4.0])
    assert found.r2 == pytest.approx(1 - 5 / 3 / variance)


def test_values_that_do_not_vary_have_no_share_of_variance():
    assert real_metrics([2.0, 2.0], [1.0, 2.0]).r2 is None


@pytest.mark.parametrize(
    ("values", "predictions"),
    [([], []), ([1.0], [1.0, 2.0]), ([np.nan], [1.0]), ([1.0], [np.inf]), ([[1.0]], [1.0])],
)
def test_what_is_refused(values, predictions):
    with pytest.raises(MetricError):
        real_metrics(values, predictions)
