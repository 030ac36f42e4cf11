import itertools
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from tests.models.reference import by_torch

from isthmus.data import fit_encoder
from isthmus.models import DeepFMBottom, DeepFMTop, FeatureBatch
from isthmus.models.batch import make_batch
from isthmus.models.deepfm import _Bottom, _Top

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
            weight = bottoms[party].table.weight
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
            lower.append(by_torch(bottoms[party].tower, torch.cat(own)))
        pairs = sum((a * b).sum() for a, b in itertools.combinations(vectors, 2))
        deep = by_torch(top.tower, torch.cat(lower))[0]
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
    split = {p: b.table.weight.grad.to_dense() for p, b in bottoms.items()}
    for bottom in bottoms.values():
        bottom.zero_grad()
    naive_logits(bottoms, top, encoded).square().sum().backward()
    for party, bottom in bottoms.items():
        torch.testing.assert_close(split[party], bottom.table.weight.grad, rtol=1e-4, atol=1e-5)


def test_the_gradient_of_a_lookup_holds_the_touched_rows_and_never_padding():
    bottoms, batches, _ = bottoms_and_batches()
    for party, bottom in bottoms.items():
        table, batch = bottom.table, batches[party]
        (table(batch) ** 2).sum().backward()
        rows = table.weight.grad._indices()[0].tolist()
        assert rows == sorted(set(batch.index.flatten().tolist()) - {0})


def test_lookups_without_a_plan_make_their_own():
    bottoms, batches, _ = bottoms_and_batches()
    for party, bottom in bottoms.items():
        planned, bare = batches[party], replace(batches[party], plan=None)
        found = []
        for batch in (planned, bare):
            bottom.zero_grad()
            (bottom.table(batch) ** 2).sum().backward()
            found.append(bottom.table.weight.grad.to_dense())
        assert torch.equal(*found)


def test_padding_adds_nothing_to_a_set_and_a_set_counts_as_its_mean():
    bottoms, batches, encoded = bottoms_and_batches()
    layout, index, _ = encoded["bob"]
    fields = bottoms["bob"].table(batches["bob"])
    weight = bottoms["bob"].table.weight
    tags = layout.field("tags")
    tokens = index[0, tags.columns]
    assert (tokens != 0).sum() == 3
    torch.testing.assert_close(fields[0, 1], weight[torch.from_numpy(tokens).long()].mean(0))


def test_a_row_plan_groups_every_lookup_once():
    _, batches, encoded = bottoms_and_batches()
    for party, (layout, index, _) in encoded.items():
        plan = batches[party].plan
        fields = np.repeat(np.arange(len(layout.fields)), [f.width for f in layout.fields])
        expected = sorted(
            (int(index[i, c]), i * len(layout.fields) + int(fields[c]))
            for i, c in zip(*np.nonzero(index), strict=True)
        )
        groups = np.split(plan.sources.numpy(), plan.offsets.numpy()[1:])
        found = [
            (row, int(source))
            for row, group in zip(plan.rows.tolist(), groups, strict=True)
            for source in group
        ]
        assert sorted(found) == expected


def test_a_batch_of_padding_alone_has_no_gradient():
    bottoms, batches, _ = bottoms_and_batches()
    nothing = FeatureBatch(torch.zeros_like(batches["bob"].index), batches["bob"].weights)
    bottoms["bob"].table(nothing).sum().backward()
    assert bottoms["bob"].table.weight.grad.to_dense().abs().sum() == 0


@pytest.mark.parametrize("party", ["alice", "bob"])
def test_the_hand_written_gradients_are_right(party):
    bottoms, batches, _ = bottoms_and_batches()
    bottom = bottoms[party]
    fields = bottom.table(batches[party]).detach().double().requires_grad_()
    bottom.double()
    masks = bottom.tower.masks(fields)
    weights = bottom.tower.flat_parameters()
    assert torch.autograd.gradcheck(
        lambda *x: _Bottom.apply(x[0], masks, *x[1:]), (fields, *weights)
    )


@pytest.mark.parametrize("parties", [1, 2, 3])
def test_the_tops_gradients_are_right(parties):
    top = DeepFMTop({f"p{i}": 5 for i in range(parties)}, dim=3, hidden=(4,), seed=9).double()
    cuts = [
        torch.randn(4, width, dtype=torch.float64, requires_grad=True)
        for width in (5, 3, 1)
        for _ in range(parties)
    ]
    masks = top.tower.masks(cuts[0])
    inputs = (*cuts, *top.tower.flat_parameters())
    assert torch.autograd.gradcheck(lambda *x: _Top.apply(parties, masks, *x), inputs)


def test_gradients_can_be_taken_twice():
    bottoms, batches, _ = bottoms_and_batches()
    top = DeepFMTop({"alice": 5, "bob": 5}, dim=3, hidden=(4,), seed=9)
    cuts = {party: bottoms[party](batches[party]) for party in bottoms}
    logits = top(cuts)
    inputs = [tensor for cut in cuts.values() for tensor in cut.values()]
    first = torch.autograd.grad(logits.sum(), inputs, retain_graph=True)
    for one, other in zip(first, torch.autograd.grad(logits.sum(), inputs), strict=True):
        assert torch.equal(one, other)


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


def test_all_bits_of_a_seed_count():
    layout = bottoms_and_batches()[2]["alice"][0]
    low, high = (DeepFMBottom(layout, dim=3, seed=5 + (n << 40)) for n in (0, 1))
    assert not torch.equal(low.table.weight, high.table.weight)
    assert not torch.equal(low.tower.layers[0].weight, high.tower.layers[0].weight)
