"""Discrete normal noise against its law, its shares, and the account of it."""

import math

import numpy as np
import pytest

from isthmus.errors import JobError
from isthmus.fedrec.privacy import Defences
from isthmus.fedrec.privacy.accounting import epsilon_concentrated, epsilon_of
from isthmus.fedrec.privacy.discrete import FINEST, _below, gaussian, honest, share
from isthmus.fedrec.privacy.secure_terms import SHARDS


@pytest.mark.parametrize("deviation", [1, 2, 5])
def test_small_deviations_follow_the_law_number_by_number(deviation):
    found = gaussian(deviation, 60_000, np.random.default_rng(deviation).bytes)
    values = np.arange(-6 * deviation, 6 * deviation + 1)
    law = np.exp(-(values**2) / (2 * deviation**2))
    expected = len(found) * law / law.sum()
    counted = np.array([(found == value).sum() for value in values])
    likely = expected > 5
    square = ((counted - expected) ** 2 / expected)[likely].sum()
    # Of so many degrees of freedom chi squared is this large once in a million.
    freedom = likely.sum() - 1
    assert square < freedom + 5 * math.sqrt(2 * freedom) + 12
    assert found.var() == pytest.approx((values**2 * law).sum() / law.sum(), rel=0.03)


def test_large_deviations_are_normal_and_not_those_of_a_seed():
    width = 1 << 20
    found = gaussian(width, 50_000)
    assert found.std() == pytest.approx(width, rel=0.02)
    for away, outside in ((1, 0.3173), (2, 0.0455), (3, 0.0027)):
        assert (np.abs(found) > away * width).mean() == pytest.approx(outside, abs=0.01)
    assert not np.array_equal(found, gaussian(width, 50_000))


def test_whole_numbers_below_a_bound_come_alike():
    bits = np.random.default_rng(0).bytes
    found = _below(np.full(30_000, 3), bits)
    assert np.bincount(found).min() > 9_700
    great = _below(np.full(1000, 1 << 62), bits)
    assert great.max() > 1 << 61
    assert great.min() >= 0


def test_values_are_rounded_and_come_out_again_but_for_the_noise():
    terms = SHARDS.terms(5)
    own = share(2.0**31, 4.0, 1000, terms)
    assert own.coarse > 1
    values = np.linspace(-(2.0**40), 2.0**40, 4000)
    found = own.added(values)
    assert (found % own.coarse == 0).all()
    apart = found - values
    assert apart.std() == pytest.approx(own.coarse * own.deviation, rel=0.05)


@pytest.mark.parametrize("shards", [3, 5, 10, 30])
@pytest.mark.parametrize("multiplier", [0.5, 4.0])
def test_the_fewest_honest_shards_make_noise_enough_for_what_rounding_adds(shards, multiplier):
    terms, sensitivity, numbers = SHARDS.terms(shards), 2.0**31, 50_000
    own = share(sensitivity, multiplier, numbers, terms)
    left = terms.clients - terms.lost - terms.traitors
    assert honest(terms) == left > 0
    moved = sensitivity + own.coarse * math.sqrt(numbers)
    there = own.coarse * own.deviation * math.sqrt(left)
    assert multiplier * moved <= there < 1.01 * multiplier * moved


def test_noise_that_is_out_of_range_is_told():
    with pytest.raises(JobError, match="out of range"):
        share(FINEST / 2, 1.0, 1, SHARDS.terms(3))


def test_the_account_by_concentrated_privacy():
    # Of one round at multiplier 1, rho = 1/2, by trying orders one by one.
    orders = np.linspace(1.01, 50, 200_000)
    tail = np.log(1e5) + orders * np.log1p(-1 / orders) - np.log(orders - 1)
    assert epsilon_concentrated(1.0) == pytest.approx(
        (orders / 2 + tail / (orders - 1)).min(), rel=1e-4
    )
    for multiplier, rounds in ((0.5, 1), (2.0, 10), (5.0, 100)):
        exact = epsilon_of(multiplier, rounds)
        assert exact < epsilon_concentrated(multiplier, rounds) < 1.25 * exact
    assert epsilon_concentrated(0.0) == math.inf
    assert epsilon_concentrated(0.01) == math.inf


def test_discrete_noise_is_that_of_secure_sums_between_devices():
    with pytest.raises(JobError, match="that of a secure sum"):
        Defences(clip=1.0, noise=1.0, discrete=True)
    one = Defences(secure_sum=True, clip=1.0, noise=4.0, discrete=True)
    assert one.epsilon(10) == epsilon_concentrated(2.0, 10)
    with pytest.raises(JobError, match="not in a simulation"):
        one.protect(None)
