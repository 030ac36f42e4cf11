"""Promotion attacks: what hostile clients send, what ER counts, whom it touches."""

from dataclasses import replace

import numpy as np
import pytest
from tests.fedrec.conftest import made_up

from isthmus.errors import JobError
from isthmus.fedrec import make_task, protocol, recipe
from isthmus.fedrec.attacks import promoting
from isthmus.fedrec.attacks.fedrecattack import FedRecAttack, promotion, public_share
from isthmus.fedrec.attacks.hostile import (
    Trained,
    draw_targets,
    infiltrate,
    popularity,
    profiles,
)
from isthmus.fedrec.attacks.pipattack import POPULAR, UNPOPULAR, Classifier, PipAttack, levels, unit
from isthmus.fedrec.attacks.promoting import Plan, exposure_ratio, run, target_ranks
from isthmus.fedrec.population import Ragged
from isthmus.fedrec.privacy import NormBound

SETS = {"dim": "4", "epochs": "2"}


@pytest.fixture
def task(data):
    return make_task(data, protocol("full-ranking"), 0)


def wide(clients=60):
    return made_up(clients=clients, items=50, least=6, most=12)


class Recorder:
    """A guard that keeps what it is sent."""

    def __init__(self):
        self.sent = []

    def __call__(self, uploads, number):
        self.sent.append((number, uploads))
        return uploads


def sent_by(plan, rounds=1, memory=1 << 30, algorithm="fedavg"):
    seen = Recorder()
    made = recipe(algorithm, None, SETS)
    found = run(wide(), made, plan, rounds=rounds, memory=memory, server=(seen,))
    return found, seen.sent


def changes(uploads, client):
    place = int(np.searchsorted(uploads.clients, client))
    own = slice(uploads.indptr[place], uploads.indptr[place + 1])
    start = uploads.starts.items[uploads.starts.of[client]]
    items = uploads.items[own]
    return items, uploads.rows[own] - start[items]


def test_the_exposure_ratio_by_hand():
    # Three clients, two targets; the second client has target 0, the third both.
    places = np.array([[1, 6], [1, 5], [1, 1]])
    open_to = np.array([[True, True], [False, True], [False, False]])
    assert exposure_ratio(places, open_to, 5) == pytest.approx((1 / 1 + 1 / 2) / 2)
    assert exposure_ratio(places, open_to, 10) == 1.0
    assert exposure_ratio(places[:, :1], np.zeros((3, 1), bool), 5) == 0.0


def test_a_targets_rank_leaves_out_training_items_and_loses_ties():
    scores = np.array([[9.0, 5.0, 5.0, 7.0, 1.0]], np.float32)
    train = Ragged(np.array([0, 1]), np.array([0], np.int32))

    def score(clients, candidates):
        return scores.ravel()

    # Item 0 is in training; ahead of item 1 stand 3 and, tied, 2.
    assert target_ranks(score, np.array([0]), np.array([1]), train, 5).tolist() == [[3]]
    assert scores[0, 0] == 9.0


def test_targets_are_unpopular_and_drawn_by_the_seed(task):
    have = popularity(task.population)
    targets = draw_targets(task, 2)
    assert have[targets].max() <= np.sort(have)[int(0.45 * len(have))]
    assert np.array_equal(targets, draw_targets(task, 2))
    assert any(
        not np.array_equal(targets, draw_targets(replace(task, seed=seed), 2)) for seed in (1, 2, 3)
    )


def test_made_up_accounts_stand_behind_honest_clients_and_are_never_judged(task):
    targets = draw_targets(task, 1)
    joined = infiltrate(task, profiles(task, targets, 3, 5, True)).population
    honest = task.population
    assert joined.clients == honest.clients + 3
    assert np.array_equal(joined.train.items[: len(honest.train.items)], honest.train.items)
    assert (joined.test[-3:] == -1).all()
    for client in range(honest.clients, joined.clients):
        own = joined.train.of(client)
        assert targets[0] in own
        assert len(own) == 6
        assert (np.diff(own) > 0).all()


def test_no_attack_is_an_ordinary_run():
    from isthmus.fedrec import RunOptions
    from isthmus.fedrec import run as train

    made = recipe("fedavg", None, SETS)
    found = run(wide(), made, Plan(kind="none"), rounds=2)
    plain = train(wide(), made, [protocol("full-ranking")], RunOptions(rounds=2))
    expected = plain.outcomes["full-ranking"].judgements[-1].test
    assert found.hostile == 0
    assert found.last.metrics["full-ranking"] == expected


@pytest.mark.parametrize("kind", ["explicit", "pipattack", "fedrecattack"])
def test_honest_clients_send_what_they_would_and_hostile_ones_stay_within_the_limit(kind):
    _, clean = sent_by(Plan(kind="none"))
    _, trained = sent_by(Plan(kind="random", malicious=0.05))
    found, sent = sent_by(Plan(kind=kind, malicious=0.05, boost=1.5))
    (number, before), (_, after) = clean[0], sent[0]
    assert (number, found.hostile) == (1, 3)
    for client in range(60):
        assert all(
            np.array_equal(one, two)
            for one, two in zip(changes(before, client), changes(after, client), strict=True)
        )
    target = found.targets[0]
    for client in (60, 61, 62):
        items, moved = changes(after, client)
        assert target in items
        assert (np.diff(items) > 0).all()
        size = np.linalg.norm(moved, axis=1)
        assert size.max() < 1.0  # two epochs of Adam at 0.01
        assert size[items == target] > 0
    assert trained[0][1].clients.tolist() == after.clients.tolist()


@pytest.mark.parametrize("kind", ["pipattack", "fedrecattack"])
def test_chunks_do_not_matter(kind):
    plan = Plan(kind=kind, malicious=0.1, public=0.3)
    whole, _ = sent_by(plan, rounds=3)
    cut, sent = sent_by(plan, rounds=3, memory=4096)
    assert len(sent) > 3
    assert whole.last == cut.last


def test_boosted_explicit_promotion_shows_the_target_to_almost_everybody():
    made = recipe("fedavg", None, SETS)
    none = run(wide(), made, Plan(kind="none"), rounds=10)
    hit = run(wide(), made, Plan(kind="explicit", malicious=0.2, boost=50), rounds=10)
    bounded = run(
        wide(), made, Plan(kind="explicit", malicious=0.2, boost=50), rounds=10,
        server=(NormBound(row=0.01),),
    )  # fmt: skip
    assert none.targets == hit.targets
    assert hit.last.er["er@5"] > none.last.er["er@5"] + 0.4
    assert bounded.last.er["er@5"] < hit.last.er["er@5"] - 0.2


def test_levels_of_popularity():
    counts = np.arange(100)[::-1]
    found = levels(counts)
    assert (found[:10] == POPULAR).all()
    assert (found[55:] == UNPOPULAR).all()
    assert np.count_nonzero(found == POPULAR) == 10


def test_the_gradients_of_pipattacks_terms():
    rng = np.random.default_rng(0)
    attack = PipAttack(3, np.array([0, 2]), 1.0, np.arange(6) % 3, rng, alpha=0.7)
    start = rng.normal(size=(6, 4)).astype(np.float32)
    attack.begin(start, 1)
    rows, user = rng.normal(size=(2, 4)), rng.normal(size=4)
    judge = attack._classifier

    def promoted(rows):
        return np.log1p(np.exp(-rows @ user)).sum()

    def popular(rows):
        return -np.log(judge.probabilities(rows)[:, POPULAR]).sum()

    def numeric(loss, step=1e-6):
        out = np.zeros_like(rows)
        for place in np.ndindex(rows.shape):
            more, less = rows.copy(), rows.copy()
            more[place] += step
            less[place] -= step
            out[place] = (loss(more) - loss(less)) / (2 * step)
        return out / np.linalg.norm(out, axis=1, keepdims=True)

    wanted = numeric(promoted) + 0.7 * numeric(popular)
    np.testing.assert_allclose(attack.slope(rows, user), wanted, atol=1e-5)


def test_a_row_far_beyond_its_goal_still_moves_by_the_whole_limit():
    own = Trained(
        9, np.array([1], np.int32), np.zeros((1, 2), np.float32),
        np.array([[0, 0], [40, 0]], np.float32), np.array([2, 0], np.float32), 0.5,
    )  # fmt: skip
    attack = PipAttack(9, np.array([1]), 1.0, None, np.random.default_rng(0))
    _, rows = attack.craft(own, 1)
    np.testing.assert_allclose(rows, [[40.5, 0]], rtol=1e-6)


def test_a_gradient_of_nothing_stays_nothing():
    assert unit(np.zeros((2, 3))).tolist() == np.zeros((2, 3)).tolist()


def test_the_classifier_learns_what_can_be_learnt():
    rng = np.random.default_rng(1)
    labels = np.arange(90) % 3
    rows = rng.normal(size=(90, 4)) + 3 * np.eye(3, 4)[labels]
    one = Classifier(4, rng)
    one.train(rows, labels, 300)
    assert (one.probabilities(rows).argmax(1) == labels).mean() > 0.9


def test_the_gradient_of_fedrecattacks_loss():
    rng = np.random.default_rng(2)
    users, table = rng.normal(size=(7, 3)), rng.normal(size=(15, 3))
    targets = np.array([4])
    public = (np.array([0, 0, 1, 2]), np.array([3, 5, 4, 9]))

    def loss(table):
        total = 0.0
        for user in range(7):
            mine = set(public[1][public[0] == user].tolist())
            if 4 in mine:
                continue
            rest = sorted(users[user] @ table[i] for i in range(15) if i not in mine | {4})
            gap = rest[-10] - users[user] @ table[4]
            total += gap if gap >= 0 else np.exp(gap) - 1
        return total

    found, step = promotion(users, table, targets, public), 1e-6
    for place in np.ndindex(table.shape):
        more, less = table.copy(), table.copy()
        more[place] += step
        less[place] -= step
        assert found[place] == pytest.approx((loss(more) - loss(less)) / (2 * step), abs=1e-5)


def test_fedrecattack_begins_anew_once_its_gradient_is_spent():
    table = np.random.default_rng(1).normal(size=(20, 4)).astype(np.float32)
    public = (np.array([0, 1, 2]), np.array([5, 6, 7]))
    attack = FedRecAttack(3, np.array([1]), 1.0, public, np.random.default_rng(0), kappa=1)
    attack.begin(table, 1)
    whole = -attack._left[1].copy()
    size = float(np.linalg.norm(whole))
    nobody = np.zeros((0, 4), np.float32)
    moved = []
    for client in (3, 4, 5):
        own = Trained(client, np.zeros(0, np.int32), nobody, table, table[0], 0.6 * size)
        moved.append(attack.craft(own, 1)[1][0] - table[1])
    for found, wanted in zip(moved, (0.6, 0.4, 0.6), strict=True):
        np.testing.assert_allclose(found, wanted * whole, rtol=1e-3, atol=1e-6)


def test_fedrecattack_sends_few_rows_and_knows_a_share(task):
    found, sent = sent_by(Plan(kind="fedrecattack", malicious=0.05))
    assert len(changes(sent[0][1], 60)[0]) <= 60
    who, what = public_share(task, 1.0)
    assert len(what) == len(task.population.train.items)
    assert len(public_share(task, 0.3)[0]) < len(who)
    few = FedRecAttack(9, np.array([1]), 1.0, (who, what), np.random.default_rng(0), kappa=3)
    few.begin(np.random.default_rng(1).normal(size=(40, 4)).astype(np.float32), 1)
    assert 1 in few._items(9)
    assert len(few._items(9)) == 3
    assert few._items(9) is few._items(9)
    assert found.hostile == 3


def test_what_does_not_fit_is_refused():
    with pytest.raises(JobError, match="there is no attack"):
        Plan(kind="shout")
    with pytest.raises(JobError, match="malicious"):
        Plan(malicious=0)
    with pytest.raises(JobError, match="product of row and vector"):
        run(wide(), recipe("fedavg", "fedncf", SETS), Plan(), rounds=1)
    with pytest.raises(JobError, match="not as many items"):
        run(wide(), recipe("fedavg", None, SETS), Plan(targets=50), rounds=1)


def test_the_result_as_json():
    found, _ = sent_by(Plan(kind="random"))
    value = found.to_json()
    assert value["plan"]["kind"] == "random"
    assert value["rounds"][-1]["er"].keys() == {"er@5", "er@10"}
    assert promoting.KINDS[0] == "none"
