"""Numbers in the ring: rounding, range, and sums that cannot be."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.errors import BadMessage, JobError, NotFinite
from isthmus.split.aggregation import FixedPoint


def encoded(ring, values):
    words = np.empty(np.shape(values), ring.dtype)
    return words, ring.encode(np.asarray(values, np.float32), words)


@settings(max_examples=60, deadline=None)
@given(
    parties=st.integers(2, 9),
    ring=st.sampled_from([(32, 18), (32, 8), (64, 32), (64, 20)]),
    seed=st.integers(0, 2**32),
    scale=st.floats(1e-6, 1.0),
)
def test_a_sum_is_right_to_half_a_step_a_party(parties, ring, seed, scale):
    ring = FixedPoint(parties, *ring)
    rng = np.random.default_rng(seed)
    values = (rng.uniform(-1, 1, (parties, 20)) * ring.limit * scale).astype(np.float32)
    words = [encoded(ring, row) for row in values]
    assert not sum(clipped for _, clipped in words)
    exact = values.astype(np.float64).sum(0)
    total = ring.decode(sum(row for row, _ in words))
    assert total.dtype == np.float32
    assert (np.abs(total - exact) <= ring.bound + np.abs(exact) * 2**-24).all()


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("parties", [2, 3, 4, 7])
def test_the_limits_of_all_parties_together_fit(bits, parties):
    ring = FixedPoint(parties, bits)
    for sign in (1, -1):
        words, clipped = encoded(ring, [sign * ring.limit])
        assert clipped == 0
        total = ring.decode((words * parties).astype(ring.dtype))
        assert total[0] == pytest.approx(sign * ring.limit * parties, rel=1e-6)


def test_what_is_beyond_the_limit_is_clipped_and_counted():
    ring = FixedPoint(2)
    assert ring.limit == 2048
    values = [1e30, -1e30, 3e38, 2048.25, 2048.0, -2047.5, 0.0]
    words, clipped = encoded(ring, values)
    assert clipped == 4
    expected = [2048, -2048, 2048, 2048, 2048, -2047.5, 0]
    np.testing.assert_array_equal(ring.decode(words), expected)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused(bad):
    for values in ([1.0, bad], [bad, 1e30], [bad]):
        with pytest.raises(NotFinite, match="NaN or infinity"):
            encoded(FixedPoint(2), values)


def test_nothing_is_a_sum_too():
    words, clipped = encoded(FixedPoint(2), np.empty((0, 3)))
    assert clipped == 0
    assert FixedPoint(2).decode(words).shape == (0, 3)


@pytest.mark.parametrize("bits", [32, 64])
def test_a_sum_out_of_range_is_noticed(bits):
    ring = FixedPoint(3, bits)
    middle = np.array([1, 0], ring.dtype) << (bits - 1)
    for total in (middle, middle - 1, ring.dtype.type(1) << ring.dtype.type(bits - 2) + middle[1:]):
        with pytest.raises(BadMessage, match="do not cancel"):
            ring.decode(np.asarray(total + ring.dtype.type(4), ring.dtype))


@pytest.mark.parametrize("arguments", [(1,), (2, 16), (2, 32, -1), (2, 32, 30), (5, 32, 28)])
def test_rings_that_make_no_sense_are_refused(arguments):
    with pytest.raises(JobError, match=r"no fixed point|fits in"):
        FixedPoint(*arguments)


def test_the_figures_of_the_documentation():
    assert FixedPoint(2).step == 2**-18
    assert [FixedPoint(n).limit for n in (2, 4)] == [2048, 1024]
    assert FixedPoint(4, 64, 32).limit == 2**28
    assert FixedPoint(4).bound == 2**-17
