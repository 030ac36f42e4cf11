"""Sums of shares (GF-CF, FedCIA's model-free form) and of gradients (FCF): which can be."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fedrec.conftest import made_up
from tests.fedrec.devices.conftest import HONEST

from isthmus.errors import BadMessage
from isthmus.fedrec import make_task
from isthmus.fedrec.algorithms._one_round import diagonal
from isthmus.fedrec.algorithms.gfcf import ONE, shares_sum, summed
from isthmus.fedrec.devices.one_round import _Counted
from isthmus.fedrec.devices.wire import Answer

ITEMS = 15
TOTAL = Answer(kind="total", number=1, last=True)


def task_of(clients=6, seed=3):
    return make_task(made_up(clients=clients, items=ITEMS, seed=seed), HONEST[0], 0)


def test_shares_add_up_over_parts_of_the_clients():
    task, half = task_of(), np.arange(3)
    parts = [shares_sum(task.part(some)).mine() for some in (half, half + 3)]
    assert np.array_equal(parts[0] + parts[1], shares_sum(task).mine())
    shares, counts = summed(task)
    wanted = np.zeros((ITEMS, ITEMS))
    for client in range(6):
        own = task.population.train.of(client)
        wanted[np.ix_(own, own)] += 1 / len(own)
    np.testing.assert_allclose(shares, wanted, atol=6 / ONE)
    np.testing.assert_allclose(shares.sum(axis=0), counts, atol=1e-7)


@given(seed=st.integers(0, 20), clients=st.integers(1, 8), at=st.integers(0, 134), bit=st.data())
def test_shares_that_no_clients_can_have_are_refused(seed, clients, at, bit):
    one = shares_sum(task_of(clients, seed))
    words = one.mine()
    assert one.possible(words, clients)
    assert not one.possible(words, 0)
    # What rounding leaves open is below a millionth of a share.
    changed = words.copy()
    changed[at] ^= np.uint64(1 << bit.draw(st.integers(14 if at < 120 else 0, 63)))
    assert not one.possible(changed, clients)


def test_shares_of_another_form_are_refused():
    one = shares_sum(task_of())
    words = one.mine()
    _Counted(one, 6).add(TOTAL, {"words": words})
    more = words.copy()
    more[diagonal(ITEMS)[0]] += np.uint64(1 << 32)
    for wrong in (words[:-1], words.view(np.int64), words.reshape(-1, 1), more, ~words):
        with pytest.raises(BadMessage):
            _Counted(one, 6).add(TOTAL, {"words": wrong})
