"""Rows taken and put back as opaque items are what torch's indexing gives."""

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from isthmus.data.features import FieldLayout, Layout
from isthmus.models import EmbeddingTable
from isthmus.models.rows import fetch_rows, put_rows, take_rows

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
    table = torch.randn(1 << 20, 2, 3)
    before = table.clone()
    fetch_rows(table, torch.tensor([0, 5, (1 << 20) - 1]))
    assert torch.equal(table, before)


def test_a_table_holds_on_to_no_optimisers_memory():
    table = EmbeddingTable(LAYOUT, 3, std=0.1, rng=np.random.default_rng(0))
    moments = torch.zeros(10, 2, 3)
    table.keep_beside(moments)
    table.fetch(torch.tensor([1, 2]))
    other = copy.deepcopy(table)
    assert torch.equal(other.weight, table.weight)
    assert other._beside is None
    assert pickle.dumps(table)
    del moments
    table.fetch(torch.tensor([1, 2]))
    assert table._beside is not None
    assert table._beside() is None
