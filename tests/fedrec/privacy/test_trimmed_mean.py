"""Robust averaging against a hand-computed case and a hostile client."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fedrec.conftest import made_up

from isthmus.errors import JobError
from isthmus.fedrec import Shared, Tables, Uploads, make_task, protocol, recipe
from isthmus.fedrec.algorithms.trimmed_mean import Robust, Settings, middle
from isthmus.fedrec.privacy import NormBound

START = Shared(np.ones((3, 1), np.float32), np.zeros(1, np.float32))


def sent(first, last, values):
    """Clients `first` to `last` - 1: all touch item 0, client 0 touches item 2 as well."""
    indptr, items, rows = [0], [], []
    for client in range(first, last):
        items += [0] + ([2] if client == 0 else [])
        rows += [values[client]] + ([5.0] if client == 0 else [])
        indptr.append(len(items))
    count = last - first
    return Uploads(
        np.arange(first, last), np.array(indptr), np.array(items, np.int32),
        np.array(rows, np.float32)[:, None], np.array(values[first:last], np.float32)[:, None],
        np.arange(1.0, count + 1), Tables.shared(START, 5), np.zeros((count, 1), np.float32),
        np.ones(len(items), np.int32), np.zeros(count, np.float32),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "wanted", "alone"),
    [
        (Settings(trim=0.2, over="touched"), (2.0 + 3.0 + 4.0) / 3, 5.0),
        (Settings(trim=0.0, over="touched"), (1.0 + 2.0 + 3.0 + 4.0 + 100.0) / 5, 5.0),
        (Settings(middle="median", over="touched"), 3.0, 5.0),
        # The row that client 0 alone moved, by 4, among five: 0 0 0 0 4.
        (Settings(trim=0.2), (2.0 + 3.0 + 4.0) / 3, 1.0),
        (Settings(trim=0.0), (1.0 + 2.0 + 3.0 + 4.0 + 100.0) / 5, 1.0 + 4.0 / 5),
        (Settings(middle="median"), 3.0, 1.0),
    ],
)
def test_by_hand(settings, wanted, alone):
    values = [4.0, 100.0, 1.0, 3.0, 2.0]
    chunks = [sent(0, 2, values), sent(2, 5, values)]
    found = Robust(settings).aggregate(START, iter(chunks))
    np.testing.assert_allclose(found.items[:, 0], [wanted, 1.0, alone], rtol=1e-6)
    np.testing.assert_allclose(found.network, [wanted], rtol=1e-6)


def touching(changes, clients):
    """As many clients, of which the first ones move item 1, from 1, by these."""
    some = len(changes)
    return Uploads(
        np.arange(clients), np.minimum(np.arange(clients + 1), some), np.ones(some, np.int32),
        (1 + np.array(changes, np.float32))[:, None], np.zeros((clients, 1), np.float32),
        np.ones(clients), Tables.shared(START, clients), np.zeros((clients, 1), np.float32),
        np.ones(some, np.int32), np.zeros(clients, np.float32),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "trim", "wanted"),
    [
        # -3 -2 0 0 0 0 1 2 4 9, two off either end: 0 0 0 0 1 2.
        ([4.0, -3.0, 1.0, 9.0, 2.0, -2.0], 0.2, 3.0 / 6),
        # One off either end: -2 0 0 0 0 1 2 4.
        ([4.0, -3.0, 1.0, 9.0, 2.0, -2.0], 0.1, 5.0 / 8),
        # Two of ten move a row that nobody else touches: it stays.
        ([7.0, 7.0], 0.2, 0.0),
        ([-7.0, -7.0], 0.2, 0.0),
        # Three do, and one counts.
        ([7.0, 7.0, 7.0], 0.2, 7.0 / 6),
        # All moved it; changes of 0 that were sent are zeros like others.
        ([0.0] * 5 + [1.0] * 5, 0.4, 0.5),
        ([-1.0] * 6 + [5.0] * 4, 0.3, (-3.0 + 5.0) / 4),
    ],
)
def test_clients_that_did_not_touch_a_row_count_as_zeros(changes, trim, wanted):
    found = Robust(Settings(trim=trim)).aggregate(START, iter([touching(changes, 10)]))
    np.testing.assert_allclose(found.items[:, 0], [1.0, 1.0 + wanted, 1.0], rtol=1e-6)


@given(
    st.integers(1, 12).flatmap(
        lambda n: st.tuples(st.just(n), st.lists(st.floats(-9, 9, width=16), max_size=n))
    ),
    st.sampled_from([0.0, 0.1, 0.3, 0.45]),
    st.booleans(),
)
def test_over_all_is_the_mean_of_the_whole_column(case, trim, median):
    clients, changes = case
    middle_of = "median" if median else "trimmed"
    some = Robust(Settings(trim=trim, middle=middle_of))
    found = some.aggregate(START, iter([touching(changes, clients)]))
    sent = np.float32(1) + np.array(changes, np.float32) - np.float64(1)
    whole = np.concatenate([sent, np.zeros(clients - len(changes))])[:, None]
    wanted = middle(whole, trim, median=median)
    np.testing.assert_allclose(found.items[1], 1 + wanted, atol=1e-5)


@pytest.mark.parametrize("hostile", [0, 1, 2])
def test_fewer_hostile_clients_than_trim_stay_within_what_honest_ones_sent(hostile):
    honest = [0.1, -0.2, 0.3]
    changes = honest + [50.0] * hostile
    found = Robust(Settings(trim=0.2)).aggregate(START, iter([touching(changes, 10)]))
    assert -0.2 <= found.items[1, 0] - 1 <= 0.3
    rows = Robust(Settings(trim=0.2, over="touched"))
    assert (rows.aggregate(START, iter([touching(changes, 10)])).items[1, 0] > 10) == (hostile > 0)


def test_an_even_median_is_between_the_two_in_the_middle():
    values = [4.0, 100.0, 1.0, 3.0]
    found = Robust(Settings(middle="median", over="touched")).aggregate(
        START, iter([sent(0, 4, values)])
    )
    assert found.items[0, 0] == pytest.approx(3.5)
    assert middle(np.array(values)[:, None], 0.0, median=True) == pytest.approx([3.5])


def test_nobody_came():
    assert Robust(Settings()).aggregate(START, iter([])) is START


class Hostile:
    """A guard: two clients send the whole table at 1000."""

    def __init__(self, items):
        self.items = items

    def __call__(self, uploads, number):
        rows = uploads.rows.copy()
        for place in np.flatnonzero(uploads.clients < 2):
            rows[uploads.indptr[place] : uploads.indptr[place + 1]] = 1000
        return replace(uploads, rows=rows)


@pytest.mark.parametrize(
    ("name", "sets", "guards", "bound"),
    [
        ("row-wise", {}, (), np.inf),
        ("trimmed-mean", {"trim": 0.2}, (), 10),
        ("trimmed-mean", {"trim": 0.2, "over": "touched"}, (), 10),
        ("trimmed-mean", {"middle": "median", "over": "touched"}, (), 10),
        ("row-wise", {}, (NormBound(whole=3.0),), 10),
    ],
)
def test_hostile_clients_move_items_that_many_touch_only_where_nothing_is_done(
    name, sets, guards, bound
):
    task = make_task(made_up(clients=60, items=12, least=6, most=9), protocol("full-ranking"), 1)
    task = replace(task, guards=(Hostile(12), *guards))
    method = recipe(name, None, {"dim": 4, "epochs": 1} | sets).build(task)
    method.round(1, lambda clients, score: None)
    largest = np.abs(method.shared.items).max()
    assert largest < bound
    if bound == np.inf:
        assert largest > 20


@pytest.mark.parametrize("trim", [-0.1, 0.5])
def test_settings_are_checked(trim):
    with pytest.raises(JobError, match="trim"):
        recipe("trimmed-mean", None, {"trim": trim})
