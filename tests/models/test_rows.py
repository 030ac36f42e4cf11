"""Rows taken and put back as opaque items are what torch's indexing gives."""

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from isthmus.data.features import FieldLayout, Layout
from isthmus.models import EmbeddingTable, FeatureBatch
from isthmus.models.rows import fetch_rows, gather_rows, put_rows, take_rows

LAYOUT = Layout((FieldLayout("a", "categorical", 0, 1, 1, 9),), 10, 1, 0)


@given(st.lists(st.integers(0, 19), unique=True), st.integers(1, 5), st.booleans())
def test_rows_are_taken_and_put_back(places, width, contiguous):
    table = torch.randn(20, width + 1)
    table = table[:, :width].contiguous() if contiguous else table[:, :width]
    rows = torch.tensor(places, dtype=torch.int64)
    expected, new = table.clone(), torch.randn(len(places), width)
    expected[rows] = new
    assert torch.equal(take_rows(table, rows), table[rows])
    put_rows(table, rows, new)
    assert torch.equal(table, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_taken_is_a_copy(dtype):
    table = torch.ones(4, 3, dtype=dtype)
    take_rows(table, torch.tensor([1])).zero_()
    assert bool((table == 1).all())


def test_autograd_sees_that_a_table_has_changed():
    weight = torch.nn.Parameter(torch.ones(4, 3))
    loss = weight.square().sum()
    put_rows(weight, torch.tensor([0]), torch.zeros(1, 3))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_fetching_changes_nothing():
    table = torch.randn(1 << 20, 6)
    before = table.clone()
    fetch_rows(table, torch.tensor([0, 5, (1 << 20) - 1]))
    assert torch.equal(table, before)


def test_gathered_rows_are_what_taking_gives():
    table, rows = torch.randn(50, 17), torch.tensor([0, 3, 7, 49])
    assert torch.equal(gather_rows(table, rows), table[rows])


class Keeper:
    """Counts what a table asks of it."""

    def __init__(self):
        self.asked = []

    def fetch(self, rows):
        self.asked.append(("fetch", rows.tolist()))

    def look_up(self, rows):
        self.asked.append(("look up", rows.tolist()))

    def settle(self):
        self.asked.append("settle")


def make_table():
    return EmbeddingTable(LAYOUT, 3, std=0.1, rng=np.random.default_rng(0))


def test_a_table_holds_on_to_no_optimiser():
    table, keeper = make_table(), Keeper()
    table.keep(keeper)
    table.fetch(torch.tensor([1, 2]))
    assert keeper.asked == [("fetch", [1, 2])]
    other = copy.deepcopy(table)
    assert torch.equal(other.weight, table.weight)
    assert other._keeper is None
    assert pickle.dumps(table)
    del keeper
    table.fetch(torch.tensor([1, 2]))
    assert table._keeper is not None
    assert table._keeper() is None


@pytest.mark.parametrize(
    "read",
    [
        lambda table: table.weight,
        lambda table: table.state_dict(),
        lambda table: torch.nn.Sequential(table).state_dict(),
        lambda table: table.load_state_dict({"weight": torch.zeros(10, 3)}),
        copy.deepcopy,
        lambda table: table(FeatureBatch(torch.tensor([[1]], dtype=torch.int32), None)),
    ],
)
def test_who_reads_a_table_or_writes_it_has_its_updates_made_before(read):
    table, keeper = make_table(), Keeper()
    table.keep(keeper)
    with torch.no_grad():
        read(table)
    assert "settle" in keeper.asked


def test_a_lookup_that_is_trained_asks_for_its_rows_alone():
    table, keeper = make_table(), Keeper()
    table.keep(keeper)
    batch = FeatureBatch(torch.tensor([[4], [2], [4]], dtype=torch.int32), None)
    table(batch)
    table.run(batch)
    assert keeper.asked == [("look up", [2, 4])] * 2
