"""The score functions that came with their algorithms, against the plain reference program."""

from dataclasses import replace

import numpy as np
import pytest
from tests.fedrec.reference import Client, score, train_client

from isthmus.fedrec import (
    Candidates,
    LocalTraining,
    Model,
    Tables,
    Work,
    backbone,
    engine,
    make_task,
    protocol,
)

ADAM = LocalTraining(dim=4, epochs=2, batch=16, deviation=0.5, rate=3e-3, user_rate=3e-3)
SGD = replace(ADAM, optimiser="sgd", rate=0.5, user_rate=0.05)
ITEMS = np.random.default_rng(7).integers(0, 3, 40)
CASES = {
    "gpfedrec": (SGD, [3.0]),
    "fedrap": (SGD, [0.6, 0.3]),
    "fedem": (ADAM, []),
    "cofedrec": (replace(SGD, alternate=True), [0.02, 2.0, 12, *ITEMS]),
    "pfedmoe": (ADAM, [0.1, *np.linspace(-1, 1, 40)]),
}


@pytest.mark.parametrize("kind", CASES)
def test_two_rounds_of_clients_and_their_scores_equal_the_reference(data, kind):
    training, extra = CASES[kind]
    task = make_task(data, protocol("honest-sampled"), seed=5)
    model = Model.new(backbone(kind), training, task)
    count, rng, extra = data.users, np.random.default_rng(1), np.array(extra, np.float32)
    width, own_width = model.sizes.shared, model.sizes.own
    own = rng.normal(0, 0.5, (count, data.items, own_width)).astype(np.float32)
    user = np.tile(model.initial.user, (count, 1))
    user += rng.normal(0, 0.1, user.shape).astype(np.float32)
    if kind == "fedem":
        user[:, -1] = np.arange(count) % 2  # every other client was sent a table
    tables = Tables.personal(
        np.tile(model.initial.items, (count, 1, 1)), np.zeros((count, 0), np.float32)
    )
    hands = [
        Client(np.hstack([tables.items[u], own[u]]), user[u].copy(), np.zeros(0))
        for u in range(count)
    ]
    for number in (1, 2):
        work = Work(tables, user, number, own, extra=extra)
        (found,) = engine.train(task, model, work, np.arange(count))
        for u in range(count):
            hands[u] = train_client(
                kind, training, task.population.train.of(u).tolist(),
                set(task.avoid.of(u).tolist()), hands[u], seed=5, number=number, client=u,
                extra=extra.astype(float),
            )  # fmt: skip
            np.testing.assert_allclose(found.row_table(u), hands[u].items[:, :width], atol=1e-5)
            np.testing.assert_allclose(own[u], hands[u].items[:, width:], atol=1e-5)
            np.testing.assert_allclose(user[u], hands[u].user, atol=1e-5)
            assert found.loss[u] == pytest.approx(hands[u].loss, abs=1e-5)
        for u in range(count):
            tables.items[u] = found.row_table(u)
    everything = Candidates.everything(count, data.items)
    scores = engine.score(task, model, Work(tables, user, 3, own, extra=extra), np.arange(count),
                          everything).reshape(count, -1)  # fmt: skip
    for u, hand in enumerate(hands):
        wanted = [
            score(kind, row, hand.user, hand.network, extra, item)
            for item, row in enumerate(hand.items)
        ]
        np.testing.assert_allclose(scores[u], wanted, atol=2e-5)
