import itertools

import numpy as np
import polars as pl
import pytest
import torch

from isthmus.data import fit_encoder
from isthmus.models import DeepFMBottom, DeepFMTop, EmbeddingTable, FeatureBatch, plan_rows
from isthmus.models.batch import make_batch

KINDS = {
    "alice": {"user": "categorical", "age": "numeric"},
    "bob": {"item": "categorical", "tags": {"kind": "multi_hot", "separator": "|"}},
}
TABLES = {
    "alice": pl.DataFrame(
        {"user": ["u", "v", "u", None, "w"], "age": [20.0, 30.0, None, 50.0, 60.0]}
    ),
    "bob": pl.DataFrame(
        {"item": [1, 2, 3, 1, 2], "tags": ["a|b|c", "", "b", "c|a", None]},
        schema={"item": pl.Int64, "tags": pl.String},
    ),
}


def bottoms_and_batches(dim=3):
    bottoms, batches, encoded = {}, {}, {}
    for seed, (party, table) in enumerate(TABLES.items()):
        features = fit_encoder(table, KINDS[party], np.arange(5)).encode(table)
        bottoms[party] = DeepFMBottom(
            features.layout, dim=dim, hidden=(5,), embedding_std=0.5, seed=seed
        )
        index, values = features.gather(np.arange(5))
        batches[party] = make_batch(features.layout, index, values, backward=True)
        encoded[party] = (features.layout, index, values)
    return bottoms, batches, encoded


def naive_logits(bottoms, top, encoded, dim=3):
    """One DeepFM over all fields, written field by field from equations 1 to 4 of the paper."""
    rows = []
    for row in range(5):
        vectors, linear, lower = [], 0.0, []
        for party, (layout, index, values) in encoded.items():
            weight = bottoms[party].embedding.table.weight
            own = []
            for field in layout.fields:
                at = index[row, field.columns]
                tokens = [weight[int(i)] for i in at if i != 0]
                term = torch.stack(tokens).mean(0)
                if field.value_column is not None:
                    term = term * float(values[row, field.value_column])
                own.append(term[:dim])
                linear = linear + term[dim]
            vectors += own
            lower.append(bottoms[party].tower(torch.cat(own)))
        pairs = sum((a * b).sum() for a, b in itertools.combinations(vectors, 2))
        deep = top.out(top.tower(torch.cat(lower)))[0]
        rows.append(linear + pairs + deep)
    return torch.stack(rows)


def test_the_federation_computes_one_deepfm_over_all_fields():
    bottoms, batches, encoded = bottoms_and_batches()
    top = DeepFMTop({"alice": 5, "bob": 5}, dim=3, hidden=(4,), seed=9)
    logits = top({party: bottoms[party](batches[party]) for party in bottoms})
    expected = naive_logits(bottoms, top, encoded)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-6)


def test_its_gradients_are_those_of_one_deepfm():
    bottoms, batches, encoded = bottoms_and_batches()
    top = DeepFMTop({"alice": 5, "bob": 5}, dim=3, hidden=(4,), seed=9)
    top({party: bottoms[party](batches[party]) for party in bottoms}).square().sum().backward()
    split = {p: b.embedding.table.weight.grad.to_dense() for p, b in bottoms.items()}
    for bottom in bottoms.values():
        bottom.zero_grad()
    naive_logits(bottoms, top, encoded).square().sum().backward()
    for party, bottom in bottoms.items():
        torch.testing.assert_close(
            split[party], bottom.embedding.table.weight.grad, rtol=1e-4, atol=1e-5
        )


def test_the_gradient_of_a_lookup_holds_the_touched_rows_and_never_padding():
    table = EmbeddingTable(10, 2, std=1.0, generator=torch.Generator().manual_seed(0))
    index = np.array([[3, 0, 7], [3, 3, 0]], dtype=np.int32)
    scale = torch.arange(12.0).reshape(2, 3, 2)
    (table(torch.from_numpy(index), plan_rows(index)) * scale).sum().backward()
    gradient = table.weight.grad
    assert gradient._indices().tolist() == [[3, 7]]
    dense = table.weight.detach().clone().requires_grad_()
    (dense[torch.from_numpy(index).long()] * scale).sum().backward()
    expected = dense.grad
    expected[0] = 0
    torch.testing.assert_close(gradient.to_dense(), expected)


def test_padding_adds_nothing_to_a_set_and_a_set_counts_as_its_mean():
    bottoms, batches, encoded = bottoms_and_batches()
    layout, index, _ = encoded["bob"]
    fields = bottoms["bob"].embedding(batches["bob"])
    weight = bottoms["bob"].embedding.table.weight
    tags = layout.field("tags")
    tokens = index[0, tags.columns]
    assert (tokens != 0).sum() == 3
    torch.testing.assert_close(fields[0, 1], weight[torch.from_numpy(tokens).long()].mean(0))


@pytest.mark.parametrize("shape", [(1, 1), (4, 3), (50, 7)])
def test_a_row_plan_groups_every_lookup_once(shape):
    index = np.random.default_rng(0).integers(0, 9, shape).astype(np.int32)
    plan = plan_rows(index)
    flat = index.reshape(-1)
    groups = np.split(plan.order.numpy(), plan.offsets.numpy()[1:])
    assert sorted(np.concatenate(groups)) == sorted(np.flatnonzero(flat))
    for row, group in zip(plan.rows.tolist(), groups, strict=True):
        assert set(flat[group]) == {row}


def test_a_batch_of_padding_alone_has_an_empty_plan():
    index = np.zeros((2, 2), dtype=np.int32)
    table = EmbeddingTable(3, 2, std=1.0, generator=torch.Generator())
    table(torch.from_numpy(index), plan_rows(index)).sum().backward()
    assert table.weight.grad.to_dense().abs().sum() == 0


def test_initial_values_depend_on_the_seed_alone():
    first, _, _ = bottoms_and_batches()
    torch.randn(7)
    second, _, _ = bottoms_and_batches()
    for party in first:
        for a, b in zip(first[party].parameters(), second[party].parameters(), strict=True):
            assert torch.equal(a, b)


def test_a_batch_moves_between_devices_whole():
    _, batches, _ = bottoms_and_batches()
    moved = batches["bob"].to(torch.device("cpu"))
    assert isinstance(moved, FeatureBatch)
    assert torch.equal(moved.plan.rows, batches["bob"].plan.rows)
