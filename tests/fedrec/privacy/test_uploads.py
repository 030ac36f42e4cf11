"""Guards of honest clients: bounds, noise, pseudo-items; what they change and what they leave."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fedrec.conftest import made_up

from isthmus.errors import JobError
from isthmus.fedrec import Tables, Uploads, make_task, protocol, recipe
from isthmus.fedrec.privacy import Defences, LocalNoise, NormBound, PseudoItems
from isthmus.fedrec.privacy.noise import whole_tables

RULES = protocol("full-ranking")
QUICK = {"epochs": 2, "batch": 16, "dim": 4}


class Kept:
    """Keeps what it sees."""

    def __init__(self):
        self.seen = []

    def __call__(self, uploads, number):
        self.seen.append(uploads)
        return uploads


def trained(task, number=1, name="fedavg", sets=QUICK):
    """The uploads of a round's clients, all in one."""
    kept = Kept()
    method = recipe(name, None, sets).build(replace(task, guards=(*task.guards, kept)))
    for one in range(1, number + 1):
        kept.seen.clear()
        method.round(one, lambda clients, score: None)
    (uploads,) = kept.seen
    return uploads


@pytest.fixture
def task():
    return make_task(made_up(clients=12, items=60), RULES, 4)


def changes(uploads):
    owner = np.repeat(np.arange(len(uploads.clients)), np.diff(uploads.indptr))
    of = uploads.starts.of[uploads.clients][owner]
    return owner, uploads.rows.astype(float) - uploads.starts.items[of, uploads.items]


def sizes(uploads):
    """The 2-norms of clients' whole changes."""
    owner, change = changes(uploads)
    rows = np.bincount(owner, weights=(change**2).sum(axis=1), minlength=len(uploads.clients))
    of = uploads.starts.of[uploads.clients]
    return np.sqrt(rows + ((uploads.network - uploads.starts.network[of]) ** 2).sum(axis=1))


def by_hand(rows, network=((0.0, 0.0),)):
    starts = Tables(np.ones((1, 3, 2), np.float32), np.zeros((1, 2), np.float32), np.zeros(1, int))
    return Uploads(
        np.array([0]), np.array([0, len(rows)]), np.arange(len(rows), dtype=np.int32),
        np.array(rows, np.float32) + 1, np.array(network, np.float32), np.ones(1), starts,
        np.zeros((1, 2), np.float32), np.ones(len(rows), np.int32), np.zeros(1, np.float32),
    )  # fmt: skip


def test_a_bound_by_hand():
    whole = NormBound(whole=5.0)(by_hand([[6.0, 0.0], [0.0, 8.0]]), 1)
    np.testing.assert_allclose(whole.rows - 1, [[3.0, 0.0], [0.0, 4.0]], rtol=1e-6)
    row = NormBound(row=6.0)(by_hand([[6.0, 0.0], [0.0, 8.0]]), 1)
    np.testing.assert_allclose(row.rows - 1, [[6.0, 0.0], [0.0, 6.0]], rtol=1e-6)
    net = NormBound(whole=5.0)(by_hand([[6.0, 0.0]], [[8.0, 0.0]]), 1)
    np.testing.assert_allclose(net.rows - 1, [[3.0, 0.0]], rtol=1e-6)
    np.testing.assert_allclose(net.network, [[4.0, 0.0]], rtol=1e-6)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(*[st.floats(-50, 50, width=32)] * 2), min_size=0, max_size=3),
    st.floats(0.1, 60),
    st.floats(0.1, 60),
)
def test_a_bound_holds_and_leaves_alone_what_is_within(rows, whole, row):
    before = by_hand(np.array(rows, np.float32).reshape(-1, 2))
    after = NormBound(whole, row)(before, 1)
    assert sizes(after)[0] <= whole * (1 + 1e-5) + 1e-4
    assert (np.linalg.norm(changes(after)[1], axis=1) <= row * (1 + 1e-5) + 1e-4).all()
    if sizes(before)[0] < whole and (np.linalg.norm(changes(before)[1], axis=1) < row).all():
        np.testing.assert_array_equal(after.rows, before.rows)


def test_a_bound_must_be_above_zero():
    with pytest.raises(JobError, match="above 0"):
        NormBound(whole=0.0)


def test_noise_is_on_every_number_of_the_whole_table_and_hides_the_weight(task):
    plain = trained(task)
    sent = LocalNoise(task, clip=0.5, noise=3.0)(plain, 1)
    count, items = len(plain.clients), task.population.items
    np.testing.assert_array_equal(np.diff(sent.indptr), np.full(count, items))
    np.testing.assert_array_equal(sent.items, np.tile(np.arange(items), count))
    assert (sent.weight == 1).all()
    clipped = NormBound(whole=0.5)(plain, 1)
    assert sizes(clipped).max() <= 0.5 * (1 + 1e-5)
    noise = sent.rows.reshape(count, items, -1) - whole_tables(clipped)
    assert (noise != 0).all()
    assert noise.std() == pytest.approx(1.5, rel=0.05)
    assert abs(noise.mean()) < 5 * 1.5 / math.sqrt(noise.size)
    touched = np.zeros((count, items), bool)
    owner = np.repeat(np.arange(count), np.diff(plain.indptr))
    touched[owner, plain.items] = True
    assert noise[touched].std() == pytest.approx(noise[~touched].std(), rel=0.1)


def test_noise_differs_from_round_to_round_and_client_to_client(task):
    plain, guard = trained(task), LocalNoise(task, clip=1.0, noise=1.0)
    one, two = (guard(plain, number).rows.reshape(12, -1) for number in (1, 2))
    assert np.abs(np.corrcoef(one - two)[0, 1:]).max() < 0.3
    assert (one != two).all()


def test_noise_reaches_the_network(task):
    sent = trained(task, name="fedavg", sets=QUICK | {"dim": 8})
    wide = replace(sent, network=np.zeros((12, 50), np.float32),
                   starts=replace(sent.starts, network=np.zeros((1, 50), np.float32)))  # fmt: skip
    noised = LocalNoise(task, clip=1.0, noise=2.0)(wide, 1)
    assert noised.network.std() == pytest.approx(2.0, rel=0.15)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.integers(0, 1000), st.sampled_from(["popularity", "even"]))
def test_pseudo_items_are_of_others_and_stay(each, seed, by):
    task = make_task(made_up(clients=6, items=25), RULES, seed)
    guard = PseudoItems(task, each, by=by)
    everybody = np.arange(6)
    found = guard.lists(everybody, 1)
    for client in range(6):
        own, pseudo = task.population.train.of(client), found.of(client)
        assert not set(own) & set(pseudo)
        assert len(set(pseudo)) == len(pseudo) == min(each * len(own), 25 - len(own))
        assert (np.diff(pseudo) > 0).all()
    later = guard.lists(everybody, 7)
    np.testing.assert_array_equal(found.items, later.items)
    some = np.array([1, 4])
    np.testing.assert_array_equal(guard.lists(some, 3).items, found.take(some).items)


def test_fresh_pseudo_items_change(task):
    guard = PseudoItems(task, 2, kept=False)
    one, two = (guard.lists(np.arange(12), number) for number in (1, 2))
    assert any(set(one.of(client)) != set(two.of(client)) for client in range(12))


def test_popular_items_are_drawn_more_often():
    task = make_task(made_up(clients=80, items=60, least=4, most=8), RULES, 1)
    counts = np.bincount(task.population.train.items, minlength=60)
    drawn = np.bincount(PseudoItems(task, 2).lists(np.arange(80), 1).items, minlength=60)
    even = np.bincount(PseudoItems(task, 2, by="even").lists(np.arange(80), 1).items, minlength=60)
    assert np.corrcoef(counts, drawn)[0, 1] > 0.7 > np.corrcoef(counts, even)[0, 1]


def test_a_pseudo_item_changes_as_a_mixture_of_two_training_items(task):
    plain = trained(task)
    guard = PseudoItems(task, 2)
    sent = guard(plain, 1)
    lists = guard.lists(plain.clients, 1)
    owner, change = changes(sent)
    before, was = changes(plain)
    for place, client in enumerate(plain.clients):
        items = sent.items[owner == place]
        assert (np.diff(items) > 0).all()
        pseudo = np.isin(items, lists.of(place))
        assert pseudo.sum() == len(lists.of(place))
        mine = plain.items[before == place]
        np.testing.assert_array_equal(
            sent.rows[owner == place][~pseudo],
            plain.rows[before == place][~np.isin(mine, lists.of(place))],
        )
        liked = was[before == place][np.isin(mine, task.population.train.of(int(client)))]
        for one in change[owner == place][pseudo]:
            assert on_a_segment(one, liked)


def on_a_segment(point, ends):
    for first in ends:
        for second in ends:
            line = second - first
            part = line @ (point - first) / max(line @ line, 1e-30)
            if np.abs(first + np.clip(part, 0, 1) * line - point).max() < 1e-5:
                return True
    return False


@pytest.mark.parametrize(
    "defences",
    [
        Defences(pseudo_items=3),
        Defences(pseudo_items=2, pseudo_fresh=True),
        Defences(clip=1.0, noise=0.5),
        Defences(secure_sum=True),
        Defences(secure_sum=True, clip=1.0, noise=0.5),
        Defences(clip=1.0, clip_rows=0.2),
    ],
    ids=repr,
)
def test_defences_do_not_depend_on_chunks_or_threads(defences):
    data, found = made_up(clients=14, items=50), []
    for memory, threads in ((1 << 30, 1), (4000, 1), (4000, 3)):
        task = make_task(data, RULES, 3, threads=threads, memory=memory)
        method = recipe("fedavg", None, QUICK).build(defences.protect(task))
        reports = [method.round(number, lambda clients, score: None) for number in (1, 2)]
        found.append((method.shared.items, [one.up for one in reports]))
    for items, up in found[1:]:
        np.testing.assert_array_equal(items, found[0][0])
        assert up == found[0][1]


def test_a_shard_draws_what_the_whole_would(task):
    """On a device a guard is built from the shard's task: it must send the same."""
    plain, some = trained(task), np.array([3, 4, 9])
    part = task.part(some)
    whole = PseudoItems(task, 2, by="even").lists(some, 1)
    np.testing.assert_array_equal(
        PseudoItems(part, 2, by="even").lists(np.arange(3), 1).items, whole.items
    )
    assert len(plain.clients) == 12
