"""Attention over histories, against formulas written out item by item."""

import numpy as np
import pytest
import torch

from isthmus.models.attention import Interests, TargetAttention, TransformerBlock
from isthmus.models.linear_encoder import LinearEncoder

WIDTH, LENGTH = 6, 7
ENCODERS = [TransformerBlock, LinearEncoder]


def generator(seed=0):
    return np.random.default_rng(seed)


def history(counts, length=LENGTH, seed=1):
    """Items with `counts` real ones in each row, padding in front."""
    torch_rng = torch.Generator().manual_seed(seed)
    x = torch.randn(len(counts), length, WIDTH, generator=torch_rng)
    mask = torch.arange(length) >= length - torch.tensor(counts)[:, None]
    return x, mask


def test_the_activation_unit_is_the_paper_s_sum_over_the_items():
    unit = TargetAttention(WIDTH, generator())
    items, mask = history([0, 1, 4, LENGTH])
    query = torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(2))
    for row in range(4):
        total = torch.zeros(WIDTH)
        for item, there in zip(items[row], mask[row], strict=True):
            if there:
                pair = torch.cat([item, item * query[row]])
                inside = unit.of_items(pair) + unit.of_candidate(query[row])
                inside = torch.where(inside > 0, inside, unit.slope * inside)
                total = total + unit.weigh(inside) * item
        torch.testing.assert_close(unit(query, items, mask)[row], total / LENGTH**0.5)


def test_a_full_history_matters():
    """SecretFlow's DIN masks the items that are there: a full history adds exactly nothing."""
    unit = TargetAttention(WIDTH, generator())
    items, mask = history([LENGTH])
    query = torch.ones(1, WIDTH)
    full = unit(query, items, mask)
    assert full.abs().max() > 0.1
    changed = items.clone()
    changed[0, 3] += 1.0
    assert (unit(query, changed, mask) - full).abs().max() > 0.01


def test_the_candidate_matters():
    unit = TargetAttention(WIDTH, generator())
    items, mask = history([4])
    query = torch.ones(1, WIDTH)
    assert (unit(query, items, mask) - unit(-query, items, mask)).abs().max() > 1e-3


@pytest.mark.parametrize("make", [*ENCODERS, Interests, TargetAttention])
def test_what_stands_in_the_padding_changes_nothing(make):
    x, mask = history([0, 1, 4, LENGTH])
    other = torch.where(mask.unsqueeze(-1), x, 1e3 * torch.ones_like(x))
    run = _module(make)
    torch.testing.assert_close(run(x, mask), run(other, mask), rtol=0, atol=0)


@pytest.mark.parametrize("make", [*ENCODERS, Interests, TargetAttention])
def test_a_history_without_items_gives_zeros_and_finite_gradients(make):
    x, mask = history([0, 2])
    x.requires_grad_()
    out = _module(make)(x, mask)
    assert torch.equal(out[0], torch.zeros_like(out[0]))
    out.square().sum().backward()
    assert torch.isfinite(x.grad).all()
    assert torch.equal(x.grad[0], torch.zeros_like(x.grad[0]))
    assert torch.equal(x.grad[1, : LENGTH - 2], torch.zeros(LENGTH - 2, WIDTH))
    assert x.grad[1, LENGTH - 2 :].abs().min() > 0


@pytest.mark.parametrize("make", ENCODERS)
def test_more_padding_in_front_changes_nothing(make):
    x, mask = history([3, LENGTH])
    longer = torch.cat([torch.ones(2, 20, WIDTH), x], 1)
    there = torch.cat([torch.zeros(2, 20, dtype=torch.bool), mask], 1)
    run = _module(make)
    torch.testing.assert_close(run(longer, there)[:, 20:], run(x, mask))


@pytest.mark.parametrize("make", ENCODERS)
def test_the_last_item_knows_the_first(make):
    x, mask = history([LENGTH])
    changed = x.clone()
    changed[0, 0, 0] += 1.0
    run = _module(make)
    assert (run(changed, mask)[0, -1] - run(x, mask)[0, -1]).abs().max() > 1e-5


@pytest.mark.parametrize("make", ENCODERS)
def test_one_item_alone(make):
    x, mask = history([1], length=1)
    out = _module(make)(x, mask)
    assert out.shape == (1, 1, WIDTH)
    assert torch.isfinite(out).all()
    assert out.abs().max() > 0


@pytest.mark.parametrize("make", ENCODERS)
def test_dropout_and_initial_values_come_from_the_generator(make):
    x, mask = history([LENGTH, 3])
    runs = [make(WIDTH, 2, 0.5, generator(seed))(x, mask) for seed in (0, 0, 1)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


@pytest.mark.parametrize("make", ENCODERS)
def test_heads_must_share_the_width(make):
    with pytest.raises(ValueError, match="cannot be shared by 4 heads"):
        make(WIDTH, 4, 0.0, generator())


def test_the_block_is_torch_s_own_attention():
    block = TransformerBlock(WIDTH, 2, 0.0, generator())
    x, mask = history([2, LENGTH])
    theirs = torch.nn.MultiheadAttention(WIDTH, 2, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(block.reads.weight)
        theirs.in_proj_bias.zero_()
        theirs.out_proj.weight.copy_(block.mixes.weight)
        theirs.out_proj.bias.copy_(block.mixes.bias)
    mixed = theirs(x, x, x, key_padding_mask=~mask, need_weights=False)[0]
    y = block.norm(x + mixed)
    inside = torch.nn.functional.leaky_relu(block.feed.up(y))
    z = block.last_norm(y + block.feed.down(inside)) * mask.unsqueeze(-1)
    torch.testing.assert_close(block(x, mask), z)


def test_interests_are_means_of_the_items_weighted_by_a_softmax():
    part = Interests(WIDTH, 3, LENGTH, generator())
    with torch.no_grad():
        part.recency.copy_(torch.linspace(-1, 1, LENGTH)[:, None].expand(-1, 3))
    items, mask = history([4])
    real = items[0, -4:]
    scores = part.scores(torch.tanh(part.inside(real))) + part.recency[-4:]
    expected = torch.softmax(scores, 0).T @ real
    torch.testing.assert_close(part(items, mask)[0], expected)


def _module(make):
    if make is Interests:
        return Interests(WIDTH, 3, LENGTH, generator())
    if make is TargetAttention:
        unit = TargetAttention(WIDTH, generator())
        return lambda x, mask: unit(torch.ones(len(x), WIDTH), x, mask)
    return make(WIDTH, 2, 0.0, generator())
