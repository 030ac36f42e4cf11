import torch
from tests.models.fields import PARTIES, assert_same_network, batch_of, features_of
from tests.models.reference import by_torch

from isthmus.models.halves import BottomOptions, TopOptions
from isthmus.models.wide_deep import WideDeepBottom, WideDeepTop


def make():
    bottoms = {
        party: WideDeepBottom(f.layout, BottomOptions(3, (5,), embedding_std=0.5, seed=i))
        for i, (party, f) in enumerate(features_of().items())
    }
    return bottoms, WideDeepTop(dict.fromkeys(PARTIES, 5), TopOptions((4,), seed=9))


def test_the_federation_computes_one_network_over_all_fields():
    bottoms, top = make()

    def naive(fields):
        wide = sum(f[..., -1].sum(1) for f in fields.values())
        lower = [by_torch(bottoms[p].tower, f[..., :-1].flatten(1)) for p, f in fields.items()]
        return wide + by_torch(top.tower, torch.cat(lower, 1))[:, 0]

    assert_same_network(bottoms, top, naive)


def test_only_the_tower_and_one_number_cross():
    bottoms, top = make()
    features = features_of()
    for party, bottom in bottoms.items():
        cut = bottom(batch_of(features[party]))
        assert {name: tuple(t.shape[1:]) for name, t in cut.items()} == top.expects[party]
        assert set(cut) == {"deep", "first"}


def test_it_builds_for_the_label_party_alone():
    bottoms, _ = make()
    top = WideDeepTop({"bob": 5}, TopOptions((4,)))
    assert top({"bob": bottoms["bob"](batch_of(features_of()["bob"]))}).shape == (5,)
