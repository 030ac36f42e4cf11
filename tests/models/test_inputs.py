"""Sequences by position, and pre-computed vectors, against plain torch."""

import hashlib

import numpy as np
import pytest
import torch
from tests.split.toy import make_toy

from isthmus.data import FieldLayout, Layout, VectorLayout
from isthmus.models import DeepFMBottom, EmbeddingTable, FieldVectors, hand_written
from isthmus.models.batch import make_batch

L = 4
LAYOUT = Layout(
    fields=(
        FieldLayout("item", "categorical", 0, 1, 1, 6),
        FieldLayout("age", "numeric", 1, 1, 7, 2, 0),
        FieldLayout("tags", "multi_hot", 2, 3, 9, 5),
        FieldLayout("liked", "sequence", 5, L, 1, 0, slots=L, shares="item"),
    ),
    table_rows=14,
    columns=5 + L,
    values=1,
)


def draw(layout=LAYOUT, n=8, seed=0):
    rng = np.random.default_rng(seed)
    index = np.zeros((n, layout.columns), np.int32)
    index[:, 0] = rng.integers(1, 7, n)
    index[:, 1] = 7
    index[:, 2:5] = np.where(rng.random((n, 3)) < 0.5, rng.integers(9, 14, (n, 3)), 0)
    for row, length in enumerate(rng.integers(0, L + 1, n)):
        index[row, 9 - length :] = rng.integers(1, 7, length)
    index[0, 5:], index[1, 5:] = 0, [1, 2, 2, 1]
    values = rng.normal(size=(n, layout.values)).astype(np.float32)
    return index, values


def expected(weight, layout, index, values):
    """Each vector by a lookup and a sum of its own."""
    vectors = []
    for field in layout.fields:
        rows = torch.from_numpy(index[:, field.columns].astype(np.int64))
        found = weight[rows] * (rows != 0).unsqueeze(-1)
        if field.kind == "sequence" and field.slots > 1:
            vectors += found.unbind(1)
        elif field.kind in ("sequence", "multi_hot"):
            vectors.append(found.sum(1) / (rows != 0).sum(1, keepdim=True).clamp(min=1))
        else:
            scale = 1.0 if field.value_column is None else values[:, [field.value_column]]
            vectors.append(found[:, 0] * torch.as_tensor(scale))
    return torch.stack(vectors, 1)


@pytest.mark.parametrize("layout", [LAYOUT, LAYOUT.pooled()], ids=["by position", "pooled"])
def test_values_and_gradients_are_those_of_plain_lookups(layout):
    index, values = draw(layout)
    table = EmbeddingTable(layout, 3, std=0.5, rng=np.random.default_rng(1))
    weight = table.weight.detach().clone().requires_grad_()
    found = table(make_batch(layout, index, values, backward=True))
    wanted = expected(weight, layout, index, values)
    assert found.shape == (8, layout.slots, 3)
    torch.testing.assert_close(found, wanted)
    slope = torch.randn(found.shape, generator=torch.Generator().manual_seed(0))
    found.backward(slope)
    wanted.backward(slope)
    gradient = table.weight.grad.to_dense()
    torch.testing.assert_close(gradient, weight.grad)
    assert not gradient[0].any(), "padding has a gradient"
    # The way without a prepared plan, and the one by hand.
    unplanned = make_batch(layout, index, values, backward=False)
    table.weight.grad = None
    table(unplanned).backward(slope)
    torch.testing.assert_close(table.weight.grad.to_dense(), weight.grad)
    table.weight.grad = None
    vectors, back = table.run(make_batch(layout, index, values, backward=True))
    back(slope)
    torch.testing.assert_close(vectors, wanted)
    torch.testing.assert_close(table.weight.grad.to_dense(), weight.grad)


def test_a_sequence_as_a_set_is_a_multi_hot_field():
    fields = list(LAYOUT.pooled().fields)
    fields[3] = FieldLayout("liked", "multi_hot", 5, L, 1, 0)
    as_set = Layout(tuple(fields), 14, 5 + L, 1)
    index, values = draw()
    table = EmbeddingTable(LAYOUT.pooled(), 3, std=0.5, rng=np.random.default_rng(1))
    other = EmbeddingTable(as_set, 3, std=0.5, rng=np.random.default_rng(1))
    batches = [make_batch(one, index, values, backward=True) for one in (LAYOUT.pooled(), as_set)]
    assert torch.equal(batches[0].plan.weights, batches[1].plan.weights)
    assert torch.equal(table(batches[0]), other(batches[1]))


def test_only_sequences_by_position_need_no_weights():
    layout = Layout((LAYOUT.fields[0], FieldLayout("s", "sequence", 1, 2, 7, 3, slots=2)), 10, 3, 0)
    index, values = np.array([[1, 0, 8]], np.int32), np.empty((1, 0), np.float32)
    assert make_batch(layout, index, values, backward=True).weights is None
    assert make_batch(layout.pooled(), index, values, backward=True).weights is not None


@pytest.mark.parametrize("cut", [3, 5])
def test_the_parts_of_a_batch_add_up_to_its_gradient(cut):
    index, values = draw()
    table = EmbeddingTable(LAYOUT, 3, std=0.5, rng=np.random.default_rng(1))
    table(make_batch(LAYOUT, index, values, backward=True)).square().sum().backward()
    whole = table.weight.grad.to_dense()
    table.weight.grad = None
    for part in (slice(None, cut), slice(cut, None)):
        table(
            make_batch(LAYOUT, index[part], values[part], backward=True)
        ).square().sum().backward()
    torch.testing.assert_close(table.weight.grad.to_dense(), whole)


VECTORS = (VectorLayout("poster", 1, 5), VectorLayout("text", 6, 2))


def test_vectors_are_linear_functions_behind_the_table():
    layout = Layout(LAYOUT.fields, 14, 5 + L, 8, VECTORS)
    index, values = draw(layout)
    made = FieldVectors(layout, 3, std=0.5, rng=np.random.default_rng(1))
    found = made(make_batch(layout, index, values, backward=True))
    assert found.shape == (8, layout.gives, 3)
    torch.testing.assert_close(found[:, :-2], expected(made.table.weight, layout, index, values))
    for slot, one in ((-2, VECTORS[0]), (-1, VECTORS[1])):
        given = torch.from_numpy(values[:, one.start : one.start + one.width])
        torch.testing.assert_close(found[:, slot], made.linear[slot](given))
    assert 0.1 < found[:, -2:].std() < 1.0


def test_a_bottom_of_vectors_alone_learns_by_autograd():
    layout = Layout((), 1, 0, 7, (VectorLayout("poster", 0, 5), VectorLayout("text", 5, 2)))
    bottom = DeepFMBottom(layout, dim=3, hidden=(4,), seed=1)
    assert hand_written(bottom) is None
    values = np.random.default_rng(0).normal(size=(8, 7)).astype(np.float32)
    batch = make_batch(layout, np.empty((8, 0), np.int32), values, backward=True)
    cut = bottom(batch.to(torch.device("cpu")))
    sum(one.sum() for one in cut.values()).backward()
    assert all(p.grad is not None and p.grad.any() for p in bottom.table.parameters())


def test_deepfm_starts_as_it_always_did():
    """What was published was measured with these initial values."""
    toy, found = make_toy(), []
    for module in (toy.bottom("alice"), toy.bottom("bob"), toy.top()):
        digest = hashlib.sha256()
        for name, value in module.state_dict().items():
            digest.update(name.encode() + value.numpy().tobytes())
        found.append(digest.hexdigest()[:16])
    assert found == ["edbee9c83729a041", "b9777f2a8eb69c7b", "1c0e9743c5711661"]
    assert hand_written(toy.bottom("bob")) is not None
