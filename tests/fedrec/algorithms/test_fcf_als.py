"""FCF by least squares: the client's solution and the summed gradient by their definitions."""

import numpy as np
import pytest
from tests.fedrec.conftest import made_up

from isthmus.errors import JobError
from isthmus.fedrec import RunOptions, make_task, protocol, recipe, run
from isthmus.fedrec.algorithms.fcf_als import ONE, Settings, solved, summed
from isthmus.fedrec.population import Ragged

RULES = [protocol("honest-sampled")]


def test_one_client_one_dimension_by_hand():
    """Items 1 and 2 (rows 1 and 2), the client has the second, a = 3, l = 1.

    P = (1 + 4 + 3 * 4 + 1)^-1 * 4 * 2 = 8 / 18; f_1 = (0 - P) P, f_2 = 4 (1 - 2 P) P.
    """
    lists = Ragged(np.array([0, 1]), np.array([1], np.int32))
    table = np.array([[1.0], [2.0]], np.float32)
    users = solved(lists, table, Settings(dim=1, confidence=3.0, ridge=1.0))
    p = 8 / 18
    np.testing.assert_allclose(users, [[p]])
    found = summed(lists, users, table, 3.0) / ONE
    np.testing.assert_allclose(found, [[-p * p], [4 * (1 - 2 * p) * p]])


def test_solution_and_gradient_by_definition():
    rng = np.random.default_rng(1)
    x = (rng.random((5, 8)) < 0.4).astype(float)
    x[3] = 0  # a client without items
    lists = Ragged(
        np.concatenate([[0], np.cumsum(x.sum(axis=1))]).astype(np.int64),
        np.nonzero(x)[1].astype(np.int32),
    )
    table = rng.standard_normal((8, 3)).astype(np.float32)
    settings = Settings(dim=3, confidence=2.5, ridge=0.7)
    users = solved(lists, table, settings)
    q, c = table.astype(float), 1 + 2.5 * x
    wanted = np.stack(
        [
            np.linalg.solve(q.T @ np.diag(c[u]) @ q + 0.7 * np.eye(3), q.T @ (c[u] * x[u]))
            for u in range(5)
        ]
    )
    np.testing.assert_allclose(users, wanted, atol=1e-10)
    # The gradient is that of the objective, by differences.
    gradient = 2 * 0.7 * q - 2 * summed(lists, users, table, 2.5) / ONE

    def objective(items):
        squares = (c * (x - users @ items.T) ** 2).sum()
        return squares + 0.7 * ((users**2).sum() + (items**2).sum())

    for place in ((0, 0), (4, 2), (7, 1)):
        step = np.zeros_like(q)
        step[place] = 1e-5
        slope = (objective(q + step) - objective(q - step)) / 2e-5
        assert gradient[place] == pytest.approx(slope, rel=1e-5)


def test_a_run_goes_on_from_its_state_and_learns():
    data = made_up(clients=40, items=30, most=20)
    chosen = recipe("fcf-als", None, {"dim": 4})
    task = make_task(data, RULES[0], 0)
    whole, other = chosen.build(task), chosen.build(task)
    for number in (1, 2):
        whole.round(number, lambda clients, score: None)
    other.restore({k: v.copy() for k, v in whole.state().items()})
    for method in (whole, other):
        report = method.round(3, lambda clients, score: None)
    np.testing.assert_array_equal(whole.learned, other.learned)
    assert report.up == 40 * 2 * whole.learned.nbytes
    result = run(data, chosen, [protocol("full-ranking")], RunOptions(rounds=30))
    judged = result.outcomes["full-ranking"].judgements
    assert judged[-1].valid["ndcg@20"] > judged[0].valid["ndcg@20"]


def test_what_it_cannot_do_is_refused(data):
    with pytest.raises(JobError, match="dim must be"):
        recipe("fcf-als", None, {"dim": 0}).build(make_task(data, RULES[0], 0))
    options = RunOptions(rounds=1, guards=(lambda uploads, number: uploads,))
    with pytest.raises(JobError, match="guards"):
        run(data, recipe("fcf-als"), RULES, options)
