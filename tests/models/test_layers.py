import numpy as np
import torch

from isthmus.models import Dropout, seeded_linear
from isthmus.models.layers import normal


def test_dropout_keeps_the_mean_and_goes_on_where_it_was_saved():
    dropout, x = Dropout(0.25, seed=3), torch.ones(200, 200)
    first = dropout(x)
    assert abs(float(first.mean()) - 1.0) < 0.02
    assert set(first.unique().tolist()) == {0.0, float(torch.tensor(1.0) / 0.75)}
    saved = dropout.state_dict()
    second = dropout(x)
    other = Dropout(0.25, seed=99)
    other.load_state_dict(saved)
    assert torch.equal(other(x), second)
    assert not torch.equal(first, second)


def test_no_dropout_in_evaluation_or_at_rate_zero():
    x = torch.ones(3, 3)
    assert Dropout(0.5, seed=1).eval()(x) is x
    assert Dropout(0.0, seed=1)(x) is x


def test_initial_values_are_those_of_torch_in_distribution():
    rng = np.random.default_rng(0)
    weight = seeded_linear(100, 400, rng).weight.detach()
    assert float(weight.abs().max()) <= 0.1
    assert abs(float(weight.std()) - 0.1 / 3**0.5) < 1e-3
    values = normal(400, 100, 0.5, rng)
    assert values.dtype == torch.float32
    assert abs(float(values.std()) - 0.5) < 0.01
