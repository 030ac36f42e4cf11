"""Aggregations in the clear: the same numbers and gradients as by hand, and clear refusals."""

import pytest
import torch
from tests.split.toy import PARTIES, make_toy

from isthmus.errors import JobError, ShapeMismatch
from isthmus.models import DeepFMTop
from isthmus.session import Session
from isthmus.split import TrainOptions, train_pooled
from isthmus.split.aggregation import (
    RULES,
    TOGETHER,
    AggregatedTop,
    Aggregation,
    Concat,
    Max,
    Mean,
    Sum,
    make_rule,
)

OPTIONS = TrainOptions(batch_size=64, epochs=2, learning_rate=0.02, patience=0, device="cpu")


def tensors(*shape, parties=3, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    names = ("alice", "bob", "carol", "dave", "eve")[:parties]
    return {
        name: torch.randn(shape, generator=generator, dtype=dtype).requires_grad_()
        for name in names
    }


def test_the_rules_are_what_they_say():
    given = tensors(4, 3)
    a, b, c = given.values()
    assert torch.equal(make_rule("concat", width=3)("x", given), torch.cat([a, b, c], 1))
    assert torch.equal(make_rule("sum", width=3)("x", given), a + b + c)
    assert torch.allclose(make_rule("mean", width=3)("x", given), (a + b + c) / 3)
    assert torch.equal(make_rule("max", width=3)("x", given), a.maximum(b).maximum(c))
    attention = make_rule("attention", width=3, seed=1)
    v, w = attention.inner, attention.outer
    scores = torch.stack([w(torch.tanh(v(x)))[:, 0] for x in (a, b, c)], 1)
    weights = scores.exp() / scores.exp().sum(1, keepdim=True)
    expected = weights[:, :1] * a + weights[:, 1:2] * b + weights[:, 2:] * c
    assert torch.allclose(attention("x", given), expected, atol=1e-6)


@pytest.mark.parametrize("kind", RULES)
@pytest.mark.parametrize("parties", [1, 2, 5])
@pytest.mark.parametrize("shape", [(3, 4), (3, 2, 2)])
def test_the_gradients_are_exact(kind, parties, shape):
    given = tensors(*shape, parties=parties, dtype=torch.float64)
    rule = make_rule(kind, width=4).double()

    def apply(*values):
        return rule("x", dict(zip(given, values, strict=True)))

    assert torch.autograd.gradcheck(apply, tuple(given.values()))


def test_equal_parties_share_the_gradient_of_the_maximum():
    a, b = torch.ones(2, 2, requires_grad=True), torch.ones(2, 2, requires_grad=True)
    Max()("x", {"a": a, "b": b}).sum().backward()
    assert torch.equal(a.grad + b.grad, torch.ones(2, 2))


def test_attention_learns():
    rule = make_rule("attention", width=3)
    rule("x", tensors(4, 3)).square().sum().backward()
    assert rule.inner.weight.grad.abs().sum() > 0
    assert rule.outer.weight.grad.abs().sum() > 0
    assert torch.equal(
        make_rule("attention", width=3, seed=5).inner.weight,
        make_rule("attention", width=3, seed=5).inner.weight,
    )


@pytest.mark.parametrize("kind", RULES)
def test_other_shapes_are_refused_by_party_tensor_and_shapes(kind):
    given = tensors(4, 3) | {"dave": torch.zeros(5, 3)}
    with pytest.raises(ShapeMismatch, match=r"dave's 'deep' is \[5, 3\], alice's is \[4, 3\]"):
        make_rule(kind, width=3)("deep", given)


def test_only_concatenation_takes_other_widths():
    given = tensors(4, 3) | {"dave": torch.zeros(4, 2)}
    assert Concat()("deep", given).shape == (4, 11)
    with pytest.raises(ShapeMismatch, match=r"dave's 'deep' is \[4, 2\]"):
        Sum()("deep", given)
    with pytest.raises(ShapeMismatch, match="two dimensions"):
        Concat()("deep", tensors(4))


def test_attention_of_another_width_is_refused():
    with pytest.raises(ShapeMismatch, match=r"alice's 'deep' is \[4, 3\].*made for 5"):
        make_rule("attention", width=5)("deep", tensors(4, 3))


def test_an_unknown_rule_is_refused():
    with pytest.raises(JobError, match="no aggregation 'median'"):
        make_rule("median", width=1)


def test_parties_with_other_tensors_are_refused():
    cuts = {"alice": {"deep": torch.zeros(2, 3)}, "bob": {"shallow": torch.zeros(2, 3)}}
    with pytest.raises(ShapeMismatch, match=r"bob's cut has the tensors \['shallow'\]"):
        Aggregation(Sum())(cuts)
    with pytest.raises(ShapeMismatch, match="alice's cut has a tensor 'deep'"):
        Aggregation({"first": Sum()})({"alice": cuts["alice"]})
    with pytest.raises(ShapeMismatch, match="no party whose 'x'"):
        Sum()("x", {})


def test_a_top_says_which_party_is_missing():
    top = AggregatedTop(DeepFMTop({TOGETHER: 6}, dim=4), ("alice", "bob"), Aggregation(Sum()))
    with pytest.raises(ShapeMismatch, match=r"\['bob'\], which are not here"):
        top({"alice": {}})


def test_a_top_that_does_not_sum_takes_no_sum():
    top = AggregatedTop(DeepFMTop({TOGETHER: 6}, dim=4), ("alice", "bob"), Aggregation(Mean()))
    with pytest.raises(ShapeMismatch, match="no secure sum"):
        top({TOGETHER: {}})


def trained(toy, top):
    losses = []

    def loss(logits, labels):
        value = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
        losses.append(value.item())
        return value

    session = Session(me="bob", parties=PARTIES, label_party="bob", seed=toy.seed)
    train_pooled(
        session,
        split=toy.split,
        bottoms={party: toy.bottom(party) for party in PARTIES},
        data={party: toy.data(party) for party in PARTIES},
        top=top,
        labels=toy.labels,
        loss=loss,
        options=OPTIONS,
    )
    return losses


def test_deepfm_with_concatenated_deep_and_summed_terms_is_deepfm():
    toy = make_toy()
    rules = {"deep": Concat(), "sum": Sum(), "first": Sum()}
    inner = DeepFMTop({TOGETHER: 12}, dim=4, hidden=(8,), seed=toy.seed)
    top = AggregatedTop(inner, PARTIES, Aggregation(rules))
    assert trained(toy, top) == pytest.approx(trained(toy, toy.top()), rel=1e-5)


@pytest.mark.parametrize("kind", RULES)
def test_every_rule_trains_deepfm(kind):
    toy = make_toy()
    rules = {"deep": make_rule(kind, width=6), "sum": Sum(), "first": Sum()}
    width = 12 if kind == "concat" else 6
    inner = DeepFMTop({TOGETHER: width}, dim=4, hidden=(8,), seed=toy.seed)
    losses = trained(toy, AggregatedTop(inner, PARTIES, Aggregation(rules)))
    assert sum(losses[-7:]) < sum(losses[:7])
