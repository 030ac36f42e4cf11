import numpy as np
import pytest
import torch
from tests.models.fields import PARTIES, assert_same_network, batch_of, features_of
from tests.models.reference import by_torch

from isthmus.models.dcn import Crosses, DcnBottom, DcnTop, cross_width, recursion
from isthmus.models.halves import BottomOptions, TopOptions


def make(layers=3, rank=2):
    sizes = {"layers": layers, "rank": rank}
    bottoms = {
        party: DcnBottom(f.layout, BottomOptions(3, (5,), embedding_std=0.5, seed=i), **sizes)
        for i, (party, f) in enumerate(features_of().items())
    }
    generator = torch.Generator().manual_seed(0)
    for bottom in bottoms.values():
        with torch.no_grad():
            bottom.crosses.bias.normal_(generator=generator)
    return bottoms, DcnTop(dict.fromkeys(PARTIES, 5), TopOptions((4,), seed=9), **sizes)


def cross_network(x, parts):
    """The paper's cross layers over all inputs: x_l = x_0 * (U V^T x + b) + x, then w^T x_L."""
    u, v, bias, weight = (
        torch.cat([getattr(part, name) for part in parts]) for name in ("u", "v", "bias", "weight")
    )
    rank = parts[0].rank
    before = x
    for layer in range(parts[0].layers):
        at = slice(layer * rank, (layer + 1) * rank)
        before = x * (before @ v[:, at] @ u[:, at].T + bias[:, layer]) + before
    return (before @ weight)[:, 0]


@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_the_federation_computes_one_dcn_over_all_fields(layers):
    bottoms, top = make(layers)

    def naive(fields):
        own = {p: f[..., :-1].flatten(1) for p, f in fields.items()}
        crossed = cross_network(torch.cat(list(own.values()), 1), [bottoms[p].crosses for p in own])
        deep = by_torch(top.tower, torch.cat([by_torch(bottoms[p].tower, own[p]) for p in own], 1))
        return crossed + deep[:, 0] + sum(f[..., -1].sum(1) for f in fields.values())

    assert_same_network(bottoms, top, naive)


@pytest.mark.parametrize("parties", [1, 2, 5])
@pytest.mark.parametrize(("layers", "rank"), [(1, 3), (2, 4), (5, 2)])
def test_it_does_not_matter_how_the_inputs_are_shared_out(parties, layers, rank):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(7, 20, generator=generator, dtype=torch.float64)
    whole = Crosses(20, layers, rank, np.random.default_rng(0)).double()
    with torch.no_grad():
        whole.bias.normal_(generator=generator)
    total = torch.zeros(7, cross_width(layers, rank), dtype=torch.float64)
    constant = torch.zeros(7, 1, dtype=torch.float64)
    for at in torch.arange(20).chunk(parties):
        part = Crosses(len(at), layers, rank, np.random.default_rng(1)).double()
        for name in ("u", "v", "bias", "weight"):
            getattr(part, name).data = getattr(whole, name).data[at]
        cross, c = part(x[:, at])
        total, constant = total + cross, constant + c
    expected = cross_network(x, [whole])
    torch.testing.assert_close((recursion(total, layers, rank) + constant)[:, 0], expected)


def test_what_crosses_is_as_wide_as_the_page_says():
    bottoms, top = make(layers=3, rank=2)
    features = features_of()
    assert cross_width(3, 2) == 3 * 4 + 12
    for party, bottom in bottoms.items():
        cut = bottom(batch_of(features[party]))
        assert {name: tuple(t.shape[1:]) for name, t in cut.items()} == top.expects[party]


def test_a_cross_between_the_parties_is_there():
    bottoms, top = make(layers=1)
    features = features_of()
    cuts = {p: b(batch_of(features[p])) for p, b in bottoms.items()}
    own = cuts["bob"]["cross"].detach().requires_grad_()

    def slope(other):
        cut = {"alice": cuts["alice"] | {"cross": other}, "bob": cuts["bob"] | {"cross": own}}
        return torch.autograd.grad(top(cut).sum(), own)[0]

    other = cuts["alice"]["cross"]
    assert not torch.allclose(slope(other), slope(2 * other))


def test_it_builds_for_the_label_party_alone():
    bottoms, _ = make()
    top = DcnTop({"bob": 5}, TopOptions((4,)), layers=3, rank=2)
    assert top({"bob": bottoms["bob"](batch_of(features_of()["bob"]))}).shape == (5,)
