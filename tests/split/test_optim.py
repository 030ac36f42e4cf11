"""The optimiser of the rows: the steps of the paper, on what a batch touches alone."""

import numpy as np
import pytest
import torch
from tests.split.toy import make_toy

from isthmus.split import FeatureData, TrainOptions
from isthmus.split.optim import PartyOptimizer, RowAdam


def sparse(rows, values, size):
    return torch.sparse_coo_tensor(
        torch.tensor([rows]), values, size, is_coalesced=True, check_invariants=False
    )


def walk(make, steps=30, size=(12, 5), dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    weight = torch.nn.Parameter(torch.randn(size, generator=generator).to(dtype))
    optimizer = make(weight)
    for _ in range(steps):
        rows = torch.randperm(size[0], generator=generator)[:4].sort()[0].tolist()
        values = torch.randn(4, size[1], generator=generator).to(dtype)
        weight.grad = sparse(rows, values, size)
        optimizer.step()
    return weight.detach(), optimizer


def test_the_steps_are_those_of_sparse_adam():
    ours, _ = walk(lambda w: RowAdam([w], lr=0.01))
    theirs, _ = walk(lambda w: torch.optim.SparseAdam([w], lr=0.01))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


def test_decay_is_added_to_the_gradient_of_touched_rows():
    weight = torch.nn.Parameter(torch.ones(3, 2))
    optimizer = RowAdam([weight], lr=0.1, weight_decay=0.5)
    weight.grad = sparse([1], torch.zeros(1, 2), (3, 2))
    optimizer.step()
    torch.testing.assert_close(optimizer.moments[0][1, 0], torch.full((2,), 0.05))
    torch.testing.assert_close(weight.detach()[1], torch.full((2,), 0.9))


def test_rows_that_no_batch_touches_stand_still():
    weight = torch.nn.Parameter(torch.randn(6, 3))
    before = weight.detach().clone()
    optimizer = RowAdam([weight], lr=0.1)
    weight.grad = sparse([1, 4], torch.ones(2, 3), (6, 3))
    optimizer.step()
    moved = (weight.detach() != before).any(1).tolist()
    assert moved == [False, True, False, False, True, False]
    assert optimizer.moments[0].any(dim=2).any(dim=1).tolist() == moved
    assert weight.grad is None


def test_a_table_of_other_numbers_takes_the_same_steps():
    ours, _ = walk(lambda w: RowAdam([w], lr=0.01))
    weight, _ = walk(lambda w: RowAdam([w], lr=0.01), dtype=torch.float64)
    torch.testing.assert_close(weight.float(), ours, rtol=1e-4, atol=1e-6)


def test_going_on_from_a_saved_state_changes_nothing():
    weight, optimizer = walk(lambda w: RowAdam([w], lr=0.01))
    again = torch.nn.Parameter(weight.clone())
    other = RowAdam([again], lr=0.01)
    for name, tensor in other.tensors().items():
        tensor.copy_(optimizer.tensors()[name])
    values = torch.ones(2, 5)
    for parameter, one in ((optimizer.parameters[0], optimizer), (again, other)):
        parameter.grad = sparse([0, 7], values, (12, 5))
        one.step()
    assert torch.equal(again, optimizer.parameters[0])


def test_the_state_of_a_table_is_saved_without_a_copy():
    toy = make_toy(50)
    bottom = toy.bottom("alice")
    optimizer = PartyOptimizer(bottom, TrainOptions())
    saved = optimizer.tensors()["rows.moments.0"]
    assert saved.is_contiguous()
    assert saved.shape == (len(bottom.table.weight), 2, bottom.table.weight.shape[1])
    assert saved.data_ptr() == optimizer._parts["rows"].moments[0].data_ptr()


def test_once_a_table_is_known_the_next_batch_fetches_its_rows():
    toy = make_toy(50)
    bottom, data = toy.bottom("bob"), FeatureData(toy.features["bob"])
    fetched = []
    bottom.table.fetch = fetched.append
    samples = np.arange(8)
    first = data.batch(samples, backward=True)
    assert not fetched
    bottom(first)
    second = data.batch(samples, backward=True)
    assert [rows.tolist() for rows in fetched] == [second.plan.rows.tolist()]
    data.batch(samples, backward=False)
    assert len(fetched) == 1


@pytest.mark.parametrize("factor", [0.0, 0.5])
def test_the_rate_is_multiplied_by_the_factor(factor):
    weight = torch.nn.Parameter(torch.ones(2, 1))
    optimizer = RowAdam([weight], lr=0.1)
    weight.grad = sparse([0], torch.ones(1, 1), (2, 1))
    optimizer.step(factor)
    assert weight[0].item() == pytest.approx(1.0 - 0.1 * factor)
