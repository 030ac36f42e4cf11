"""GPFedRec's graph by hand, and rounds against the plain reference program."""

import numpy as np
import pytest
from tests.fedrec.reference import Client, score, train_client

from isthmus.fedrec import Candidates, LocalTraining, Model, backbone, make_task, protocol
from isthmus.fedrec.algorithms import gpfedrec
from isthmus.fedrec.algorithms.gpfedrec import GPFedRec, Settings, neighbours

# Three clients, one item, two dimensions: the first two alike, the third at a right angle.
TABLES = np.array([[[1, 0]], [[3, 0]], [[0, 2]]], np.float32)


def test_neighbours_are_the_similar_clients():
    """Cosines [[1, 1, 0], [1, 1, 0], [0, 0, 1]], mean 5/9: the first two share their mean."""
    found = neighbours(TABLES.copy(), Settings(variant="paper"))
    np.testing.assert_allclose(found, [[[2, 0]], [[2, 0]], [[0, 2]]])


def test_the_code_takes_the_least_similar():
    """Distances [[0, 0, 1], [0, 0, 1], [1, 1, 0]], mean 4/9."""
    found = neighbours(TABLES.copy(), Settings(variant="authors"))
    np.testing.assert_allclose(found, [[[0, 2]], [[0, 2]], [[2, 0]]])


def test_whom_nobody_neighbours_keeps_its_own():
    found = neighbours(TABLES.copy(), Settings(variant="paper", threshold=10))
    np.testing.assert_allclose(found, TABLES)


@pytest.mark.parametrize("variant", ["paper", "authors"])
def test_blocks_of_columns_and_clients_do_not_matter(variant, monkeypatch):
    tables = np.random.default_rng(0).normal(size=(9, 13, 5)).astype(np.float32)
    whole = neighbours(tables.copy(), Settings(variant=variant))
    monkeypatch.setattr(gpfedrec, "_CLIENTS", 4)
    monkeypatch.setattr(gpfedrec, "_COLUMNS", 16)
    monkeypatch.setattr(gpfedrec, "_LEAST", 3)
    found = neighbours(tables, Settings(variant=variant))
    np.testing.assert_allclose(found, whole, rtol=1e-5, atol=1e-6)
    assert found is tables  # no second array of this size


def test_rounds_equal_the_reference_with_the_pull_on_all_rows(data):
    """The plain program moves all rows of a client's table in every batch."""
    training = LocalTraining(dim=4, epochs=2, batch=16, optimiser="sgd", rate=2.0, user_rate=0.05,
                             deviation=0.5, tolerance=0.0)  # fmt: skip
    settings = Settings(reg=5.0, factor=4.0)
    task = make_task(data, protocol("honest-sampled"), seed=5, memory=3000)
    method = GPFedRec(task, Model.new(backbone("gpfedrec"), training, task), settings)
    shared = method.shared.items.astype(float)
    near = np.repeat(shared[None], data.users, axis=0)
    users = [one.astype(float) for one in method.user]
    weight = 2 * settings.reg / shared.size
    everything = Candidates.everything(1, data.items)
    for number in (1, 2, 3):
        judged = {}

        def watch(clients, scores, judged=judged):
            for client in clients:
                judged[int(client)] = scores(np.array([client]), everything)

        method.round(number, watch)
        tables = []
        for u in range(data.users):
            found = train_client(
                "gpfedrec", training, task.population.train.of(u).tolist(),
                set(task.avoid.of(u).tolist()), Client(shared, users[u], np.zeros(0)),
                seed=5, number=number, client=u, reference=(near[u], np.zeros(0)),
                pull=(weight, weight), extra=[3.0],
            )  # fmt: skip
            table, users[u] = found.items.copy(), found.user
            batches = 2 * -(-sum(found.touched.values()) // 16)
            for item in set(range(data.items)) - set(found.touched):
                for _ in range(batches):
                    table[item] -= 2.0 * weight * (table[item] - near[u][item])
            tables.append(table)
            wanted = [score("gpfedrec", row, users[u], np.zeros(0)) for row in table]
            np.testing.assert_allclose(judged[u], wanted, atol=1e-5)
        near = neighbours(np.array(tables), settings)
        shared = near.mean(axis=0)
    np.testing.assert_allclose(method.near, near, atol=1e-5)
    np.testing.assert_allclose(method.shared.items, shared, atol=1e-5)
