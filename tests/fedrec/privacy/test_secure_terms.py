"""The numbers of a secure sum that survives dropouts: neighbours, threshold, losses."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.errors import JobError
from isthmus.fedrec.privacy.secure_terms import Rules, Terms, _most


@settings(max_examples=100, deadline=None)
@given(st.integers(3, 400), st.floats(0, 1 / 3), st.floats(0, 1 / 3))
def test_terms_withstand_what_they_say(clients, traitors, lost):
    terms = Rules(traitors, lost).terms(clients)
    assert terms.traitors >= 1
    assert clients - terms.lost >= 3
    assert terms.threshold >= 2 or clients == 3
    # Of all others that may be lost or false: enough answer, and too few are false.
    if terms.neighbours == clients - 1:
        assert terms.traitors < terms.threshold <= terms.neighbours - terms.lost
    else:
        assert terms.neighbours % 2 == 0
        assert _most(clients, terms.traitors, terms.neighbours, 2**-40) < terms.threshold
        assert terms.neighbours - _most(clients, terms.lost, terms.neighbours, 2**-30) == (
            terms.threshold
        )


@pytest.mark.parametrize("terms", [Rules().terms(7), Rules().terms(60)], ids=str)
def test_neighbours_are_each_others_and_shares_go_by_place(terms: Terms):
    for owner in range(terms.clients):
        near = terms.near(owner)
        assert len(set(near)) == terms.neighbours
        assert owner not in near
        for at, holder in enumerate(near, start=1):
            assert owner in terms.near(holder)
            assert terms.index(owner, holder) == at


def test_the_stated_numbers():
    """Those on the page on privacy."""
    assert Rules().terms(943) == Terms(943, 74, 45, 94, 188)
    assert Rules().terms(10_000) == Terms(10_000, 90, 55, 1000, 2000)
    assert Rules().terms(943).two_faced == 16
    assert Rules().terms(10) == Terms(10, 9, 8, 1, 2)
    assert Rules(lost=1 / 3).terms(5) == Terms(5, 4, 3, 1, 1)
    assert Rules(lost=1 / 3).terms(10) == Terms(10, 9, 6, 3, 2)


def test_the_tail_is_that_of_draws():
    """Against counting: 12 others of whom 4 are marked, 6 drawn."""
    drawn = list(combinations(range(12), 6))
    for most in range(5):
        beyond = sum(sum(one < 4 for one in some) > most for some in drawn) / len(drawn)
        assert _most(13, 4, 6, 13 * beyond * 1.001 + 1e-12) <= most
        if most:
            at = sum(sum(one < 4 for one in some) >= most for some in drawn) / len(drawn)
            assert _most(13, 4, 6, 13 * at * 0.999) >= most


@pytest.mark.parametrize("wrong", [{"lost": 0.4}, {"traitors": -0.1}, {"lost": float("nan")}])
def test_rules_out_of_range_are_refused(wrong):
    with pytest.raises(JobError, match="between 0 and 1/3"):
        Rules(**wrong)
    with pytest.raises(JobError, match="2 clients tells"):
        Rules().terms(2)


def test_a_list_that_cuts_the_ring_is_refused():
    rules = Rules(traitors=0.0, lost=1 / 3)
    terms = replace(rules.terms(60), neighbours=8)
    here = np.ones(60, bool)
    here[[*range(4), *range(30, 33)]] = False
    assert terms.in_one_piece(here)
    here[33] = False
    assert not terms.in_one_piece(here)
    # The run over the ring's seam counts as one.
    here[:] = True
    here[[58, 59, 0, 1, 30, 31, 32]] = False
    assert terms.in_one_piece(here)
    here[33] = False
    assert not terms.in_one_piece(here)
