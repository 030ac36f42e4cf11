"""The cut by time holds the last samples out, of all or of each group."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.data import time_split
from isthmus.data.split import split_samples
from isthmus.data.time_split import part_sizes, parts_by_time, parts_of, split_of_parts

FRACTIONS = st.sampled_from([(0.8, 0.1, 0.1), (0.72, 0.08, 0.2), (0.5, 0.0, 0.5), (0.6, 0.2, 0.2)])
TIMES = st.lists(st.integers(0, 30), min_size=1, max_size=60)


@given(TIMES, FRACTIONS)
def test_no_training_sample_is_later_than_a_held_out_one(times, fractions):
    time = np.array(times, dtype=float)
    parts = parts_by_time(time, fractions)
    assert tuple(np.bincount(parts, minlength=3)) == part_sizes(len(time), fractions)
    for early, late in ((0, 1), (1, 2), (0, 2)):
        if (parts == early).any() and (parts == late).any():
            assert time[parts == early].max() <= time[parts == late].min()


@given(TIMES, FRACTIONS, st.data())
def test_within_each_group_the_last_are_held_out(times, fractions, data):
    time = np.array(times, dtype=float)
    group = np.array(data.draw(st.lists(st.integers(0, 5), min_size=len(time), max_size=len(time))))
    parts = parts_by_time(time, fractions, group)
    assert tuple(np.bincount(parts, minlength=3)) == part_sizes(len(time), fractions)
    for one in np.unique(group):
        mine, when = parts[group == one], time[group == one]
        order = np.argsort(when, kind="stable")
        assert (np.diff(mine[order].astype(int)) >= 0).all()


def test_groups_of_one_size_are_cut_alike():
    time = np.tile(np.arange(10.0), 7)
    group = np.repeat(np.arange(7), 10)
    parts = parts_by_time(time, (0.8, 0.1, 0.1), group)
    assert (parts.reshape(7, 10) == [0] * 8 + [1, 2]).all()


@pytest.mark.parametrize("chunk", [7, 1 << 20])
def test_parts_and_split_say_the_same(monkeypatch, chunk):
    monkeypatch.setattr(time_split, "_CHUNK", chunk)
    split = split_samples(100, 3, (0.72, 0.08, 0.2))
    again = split_of_parts(parts_of(split, 100))
    for a, b in zip(
        (split.train, split.valid, split.test), (again.train, again.valid, again.test), strict=True
    ):
        assert a.tolist() == b.tolist()
        assert a.dtype == b.dtype
