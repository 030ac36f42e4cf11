"""Shares of one-hot bins times numbers: exact sums, and nothing to see on either side."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.crypto import ggm
from isthmus.crypto.onehot import Dealer, Holder, Layout, Round


def joined(layout, codes, keep=(1 << 30, 1 << 30), chunk=7):
    """Both sides after set-up, the oblivious transfers done by hand."""
    dealer, holder = Dealer(layout, len(codes), keep[0]), Holder(layout, codes, keep[1])
    for start in range(0, len(codes), chunk):
        some = slice(start, min(start + chunk, len(codes)))
        messages, choices = dealer.messages(some), holder.choices(some)
        holder.learn(some, messages[np.arange(len(messages)), choices.astype(int)])
    return dealer, holder


def difference(dealer, holder, which, rows):
    return (holder.sums(which, rows) - dealer.sums(which, rows)).view(np.int64)


def by_hand(layout, codes, numbers, rows, columns):
    out = []
    for column in columns:
        sums = np.zeros((layout.widths[column], 2), np.int64)
        np.add.at(sums, codes[rows, column], numbers[rows])
        out.append(sums)
    return np.concatenate(out)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_shares_of_sums_add_up_exactly(data):
    widths = tuple(data.draw(st.lists(st.integers(2, 40), min_size=1, max_size=6)))
    rows = data.draw(st.integers(1, 60))
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    keep = data.draw(st.tuples(*[st.sampled_from([0, 5000, 1 << 30])] * 2))
    columns = data.draw(st.sets(st.integers(0, len(widths) - 1), min_size=1))
    layout = Layout(widths)
    codes = np.stack([rng.integers(0, width, rows) for width in widths], axis=1).astype(np.int16)
    dealer, holder = joined(layout, codes, keep)
    numbers = rng.integers(-(2**62), 2**62, (rows, 2))
    everything = len(columns) == len(widths)
    which = Round(data.draw(st.integers(0, 2**40)), None if everything else tuple(sorted(columns)))
    used = np.flatnonzero(rng.random(rows) < 0.8)
    holder.begin(which)
    holder.take(which, used, dealer.masked(which, used, numbers[used].view(np.uint64)))
    np.testing.assert_array_equal(
        (holder.taken() - dealer.dealt(which)).view(np.int64),
        by_hand(layout, codes, numbers, used, sorted(columns)),
    )
    some = used[rng.random(len(used)) < 0.5]
    np.testing.assert_array_equal(
        difference(dealer, holder, which, some),
        by_hand(layout, codes, numbers, some, sorted(columns)),
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 70), st.integers(0, 10**6))
def test_a_punctured_tree_has_all_leaves_but_one(leaves, seed):
    rng = np.random.default_rng(seed)
    roots = rng.integers(0, 2**64, (9, 2), dtype=np.uint64)
    codes = rng.integers(0, leaves, 9)
    whole, sums = ggm.expanded(roots, leaves)
    whole = whole.copy()
    assert whole.shape == (leaves, 9, 2)
    assert len(np.unique(whole[..., 0])) == 9 * leaves
    beside = 1 - ggm.path(codes, leaves).astype(int)
    chosen = np.take_along_axis(sums, beside[:, None, :, None], axis=1)[:, 0]
    found, beside = ggm.punctured(codes, chosen, leaves)
    np.testing.assert_array_equal(ggm.around(codes, beside, leaves), found)
    np.testing.assert_array_equal(ggm.all_leaves(roots, leaves), whole)
    own = np.arange(leaves)[:, None] == codes
    np.testing.assert_array_equal(found[~own], whole[~own])
    assert (found[own] != whole[own]).all()


def test_the_other_message_is_needed_for_the_own_leaf():
    """What a receiver gets is the sum that its path does not take, on every level."""
    layout = Layout((8,))
    codes = np.array([[0], [7], [5]], np.int16)
    holder = Holder(layout, codes)
    np.testing.assert_array_equal(
        holder.choices(slice(0, 3)).reshape(3, 3), [[1, 1, 1], [0, 0, 0], [0, 1, 0]]
    )


def test_masked_numbers_look_random_whatever_they_are():
    layout = Layout((4, 9))
    rows = np.arange(3000)
    dealer, _ = joined(layout, np.zeros((3000, 2), np.int16), chunk=1000)
    zeros = np.zeros((3000, 2), np.uint64)
    one, two = (dealer.masked(Round(number), rows, zeros) for number in range(2))
    assert not (one == two).any()
    for masked in (one, two, one ^ two):
        counts = np.bincount(masked.reshape(-1).view(np.uint8), minlength=256)
        expected = counts.sum() / 256
        # 255 degrees of freedom: above 400 once in 10^8 times.
        assert ((counts - expected) ** 2 / expected).sum() < 400


def test_there_are_no_masks_before_the_set_up():
    layout, codes = Layout((4, 9)), np.zeros((20, 2), np.int16)
    dealer, holder = Dealer(layout, 20), Holder(layout, codes)
    dealer.messages(slice(0, 10))
    with pytest.raises(ValueError, match="10 of 20 rows"):
        dealer.masked(Round(0), np.arange(5), np.zeros((5, 2), np.uint64))
    with pytest.raises(ValueError, match="0 of 20 rows"):
        holder.sums(Round(0), np.arange(5))
    for again in (slice(0, 10), slice(11, 20), slice(10, 21)):
        with pytest.raises(ValueError, match="after 10"):
            dealer.messages(again)


def test_a_row_of_another_round_is_not_the_same():
    layout, codes = Layout((5, 3)), np.zeros((50, 2), np.int16)
    dealer, holder = joined(layout, codes)
    rows, numbers = np.arange(50), np.ones((50, 2), np.uint64)
    holder.begin(Round(0))
    holder.take(Round(0), rows, dealer.masked(Round(0), rows, numbers))
    assert (difference(dealer, holder, Round(0), rows)[0] == 50).all()
    assert not (difference(dealer, holder, Round(1), rows) == 50).any()


def test_what_is_kept_stays_within_the_budget():
    layout, codes = Layout((32,) * 4), np.zeros((100, 4), np.int16)
    dealer, holder = joined(layout, codes, (100_000, 50_000))
    assert 50_000 < dealer.kept_bytes <= 100_000
    assert 0 < holder.kept_bytes <= 50_000


@pytest.mark.parametrize("widths", [(), (1,), (3, 0)])
def test_a_layout_needs_two_bins_a_column(widths):
    with pytest.raises(ValueError, match="two bins"):
        Layout(widths)


@pytest.mark.parametrize("codes", [[[0, 3]], [[-1, 0]], [[0]]])
def test_bins_beyond_the_layout_are_refused(codes):
    with pytest.raises(ValueError, match="bins"):
        Holder(Layout((2, 3)), np.array(codes, np.int16))


def test_masks_are_used_once():
    dealer, _ = joined(Layout((2, 3)), np.zeros((10, 2), dtype=np.int64))
    numbers = np.zeros((4, 2), dtype=np.uint64)
    dealer.masked(Round(0), np.arange(4), numbers)
    dealer.masked(Round(0), np.arange(4, 8), numbers)
    dealer.masked(Round(1), np.arange(4), numbers)
    with pytest.raises(ValueError, match="a second time"):
        dealer.masked(Round(0), np.arange(6, 10), numbers)
