import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.data import split, split_samples
from isthmus.errors import JobError


@given(
    st.integers(0, 300),
    st.integers(-(2**70), 2**70),
    st.sampled_from([(0.8, 0.1, 0.1), (0.8, 0.0, 0.2), (1.0, 0.0, 0.0), (0.5, 0.5, 0.0)]),
)
def test_parts_are_disjoint_whole_and_of_the_rounded_sizes(n, seed, fractions):
    cut = split_samples(n, seed, fractions)
    together = np.concatenate([cut.train, cut.valid, cut.test])
    assert sorted(together.tolist()) == list(range(n))
    assert len(cut.train) == round(n * fractions[0])
    assert len(cut.train) + len(cut.valid) == round(n * (fractions[0] + fractions[1]))
    assert all(part.dtype == np.int32 for part in (cut.train, cut.valid, cut.test))
    assert all((np.diff(part) > 0).all() for part in (cut.train, cut.valid, cut.test))


def test_the_cut_never_changes_between_versions():
    # Two parties with different releases must cut alike; these numbers are the contract.
    cut = split_samples(20, 7, (0.6, 0.2, 0.2))
    assert cut.valid.tolist() == [0, 4, 5, 17]
    assert cut.test.tolist() == [6, 11, 13, 14]


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_the_cut_does_not_depend_on_how_many_samples_are_looked_at_together(monkeypatch, chunk):
    whole = split_samples(500, 3, (0.7, 0.2, 0.1))
    monkeypatch.setattr(split, "_CHUNK", chunk)
    pieces = split_samples(500, 3, (0.7, 0.2, 0.1))
    for name in ("train", "valid", "test"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(pieces, name))


def test_the_cut_takes_little_more_memory_than_its_result():
    tracemalloc.start()
    cut = split_samples(4_000_000, 1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    result = sum(part.nbytes for part in (cut.train, cut.valid, cut.test))
    assert result == 16_000_000
    assert peak < result + 64_000_000


def test_seeds_cut_differently_and_evenly():
    a, b = split_samples(100_000, 1), split_samples(100_000, 2)
    common = len(np.intersect1d(a.test, b.test))
    assert 850 < common < 1150
    halves = np.count_nonzero(a.test < 50_000)
    assert 4_800 < halves < 5_200


@pytest.mark.parametrize(
    "fractions", [(0.8, 0.1, 0.2), (1.1, -0.1, 0.0), (0.0, 0.5, 0.5), (float("nan"), 0.5, 0.5)]
)
def test_fractions_that_make_no_sense_are_refused(fractions):
    with pytest.raises(JobError):
        split_samples(10, 1, fractions)
