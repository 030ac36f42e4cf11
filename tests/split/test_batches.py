"""The order of an epoch: every row once, the same everywhere, new each time, made in pieces."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.session import Session
from isthmus.split.batches import BLOCK, WINDOW, Batches, EpochOrder, epoch_batches, in_order


def session(me="bob", seed=5):
    return Session(me=me, parties=("alice", "bob"), label_party="bob", seed=seed)


def order(rows, epoch=1, window=64, block=8, **who):
    return EpochOrder(session(**who), rows, epoch, window=window, block=block)


@given(st.integers(1, 700), st.sampled_from([(64, 8), (64, 64), (16, 1)]), st.integers(1, 99))
def test_every_row_comes_once_and_batches_are_whole(count, sizes, batch):
    rows = np.arange(1000, 1000 + count, dtype=np.int32)
    batches = Batches(order(rows, window=sizes[0], block=sizes[1]), batch)
    made = list(batches)
    assert len(made) == len(batches) == -(-count // batch)
    assert sorted(np.concatenate(made).tolist()) == rows.tolist()
    assert all(len(samples) == batch for samples in made[:-1])
    assert all(samples.dtype == np.int64 for samples in made)


@pytest.mark.parametrize("count", [50, 500])
def test_parties_draw_alike_and_epochs_and_seeds_differently(count):
    rows = np.arange(count)
    one = order(rows).between(0, count)
    assert np.array_equal(one, order(rows, me="alice").between(0, count))
    others = [order(rows, epoch=2), order(rows, seed=6)]
    for other in others:
        assert np.mean(one == other.between(0, count)) < 0.1


def test_a_stretch_is_the_same_however_it_is_asked_for():
    batches = Batches(order(np.arange(500)), 30)
    whole = np.concatenate(list(batches))
    backwards = [batches[i] for i in reversed(range(len(batches)))]
    assert np.array_equal(np.concatenate(backwards[::-1]), whole)
    assert np.array_equal(np.concatenate(list(batches[5:11][1:])), whole[180:330])
    assert len(batches[5:11]) == 6
    assert np.array_equal(batches[-1], whole[480:])
    with pytest.raises(IndexError):
        batches[17]


def test_up_to_a_window_the_order_is_one_permutation():
    rows = np.arange(100, 300)
    expected = session().shared_rng("epoch", 4).permutation(rows)
    assert np.array_equal(np.concatenate(list(epoch_batches(session(), rows, 4, 64))), expected)


def test_neighbours_meet_in_a_window_and_are_apart_in_it():
    """A window holds whole blocks, drawn evenly, and within it places are even."""
    count, window, block = 4096, 512, 16
    places = np.zeros((200, count))
    for epoch in range(200):
        drawn = order(np.arange(count), epoch, window, block).between(0, count)
        places[epoch, drawn] = np.arange(count)
    windows = places // window
    assert (windows[:, ::block] == windows[:, block - 1 :: block]).all()
    # 8 windows, 200 epochs: chi-square of 7 degrees of freedom a block, 256 blocks.
    counts = np.stack([(windows[:, ::block] == k).sum(0) for k in range(8)])
    statistic = ((counts - 25) ** 2 / 25).sum(0)
    assert statistic.mean() == pytest.approx(7, abs=1)
    assert np.mean(statistic > 24.3) < 0.02  # 0.1 % expected
    # Two neighbours of a block are in a batch of 64 as often as any two of their window.
    together = places[:, 0::block] // 64 == places[:, 1::block] // 64
    assert together.mean() == pytest.approx(63 / 511, abs=0.01)
    # And two of different blocks as often as any two rows: 63 / 4095.
    apart = places[:, 0:-block:block] // 64 == places[:, block::block] // 64
    assert apart.mean() == pytest.approx(64 / count, abs=0.005)


def test_an_order_of_many_rows_keeps_no_more_than_two_windows():
    long = order(np.arange(5000))
    for samples in Batches(long, 20):
        assert len(samples) == 20
        assert sum(map(len, long._made.values())) <= 2 * 64


def test_the_first_batches_of_an_order_never_change_between_versions():
    # Parties with different releases must draw alike; these numbers are the contract.
    assert order(np.arange(500)).between(0, 6).tolist() == [71, 241, 242, 255, 459, 346]
    assert (WINDOW, BLOCK) == (1 << 20, 1 << 10)


def test_batches_in_order():
    batches = in_order(np.arange(10, dtype=np.int32), 4)
    assert [samples.tolist() for samples in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert batches[0].dtype == np.int64
