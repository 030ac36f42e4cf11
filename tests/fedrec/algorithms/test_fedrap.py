"""FedRAP's schedule and rates; its loss is with the score functions, its mean with PFedRec's."""

import math

import numpy as np
import pytest
from tests.fedrec.algorithms.uploads import SHARED, two_clients

from isthmus.fedrec import make_task, protocol, recipe


def build(data, **sets):
    task = make_task(data, protocol("honest-sampled"), seed=1)
    return recipe("fedrap", None, {"dim": 4} | sets).build(task)


def test_weights_grow_with_the_rounds_in_the_paper_and_not_in_the_code(data):
    paper, authors = build(data, apart=0.1), build(data, apart=0.1, variant="authors")
    np.testing.assert_allclose(paper.extra(1), [0, 0])
    np.testing.assert_allclose(paper.extra(11), np.array([0.1, 0.001]) * math.tanh(1), 1e-6)
    np.testing.assert_allclose(authors.extra(1), [0.1, 0.001], 1e-6)


def test_rates_fall_from_round_to_round(data):
    """And by 0.5 from batch to batch of a round: (1 + 1/2 + 1/4 + 1/8) / 4 of the first rate."""
    method = build(data, rate=10, user_rate=1, decay_rate=0.5, within=0.5, epochs=4)
    method.work(3)
    assert method.model.training.rate == pytest.approx(2.5 * 1.875 / 4)
    assert method.model.training.user_rate == pytest.approx(0.25 * 1.875 / 4)
    method.work(0)
    assert method.model.training.rate == pytest.approx(10 * 1.875 / 4)


def test_the_server_takes_the_plain_mean_of_shared_rows(data):
    """Item 0: (5 + 1) / 2; item 1: (1, (3 + 1) / 2); item 2: (2 + 4) / 2; weights do not count."""
    found = build(data).aggregator.aggregate(SHARED, iter(two_clients()))
    np.testing.assert_allclose(found.items, [[3, 0], [1, 2], [3, 2], [0, 0]])


def test_private_rows_start_alike_and_part(data):
    method = build(data)
    assert (method.own == method.own[0]).all()
    assert not np.allclose(method.own[0], method.shared.items)
    method.round(1, lambda clients, score: None)
    assert not np.allclose(method.own[0], method.own[1])
