"""Wide & Deep, DCN-V2 and AutoInt split are the same networks pooled."""

import pytest
from tests.split.zoo import assert_split_equals_pooled, logits_alone, make_zoo_toy

from isthmus.models.autoint import AutoIntBottom, AutoIntTop
from isthmus.models.dcn import DcnBottom, DcnTop
from isthmus.models.halves import BottomOptions, TopOptions
from isthmus.models.wide_deep import WideDeepBottom, WideDeepTop

NETWORKS = {
    "wide_deep": (WideDeepBottom, WideDeepTop, {}),
    "dcn of one layer": (DcnBottom, DcnTop, {"layers": 1, "rank": 4}),
    "dcn of three layers": (DcnBottom, DcnTop, {"layers": 3, "rank": 2}),
    "autoint": (AutoIntBottom, AutoIntTop, {"heads": 2, "layers": 2, "width": 4, "tokens": 3}),
}
every_network = pytest.mark.parametrize("network", NETWORKS)


def factory(network):
    bottom, top, sizes = NETWORKS[network]

    def make(name, given):
        if name == "top":
            return top(dict.fromkeys(given, 5), TopOptions((8,), seed=7), **sizes)
        options = BottomOptions(4, (8, 5), embedding_std=0.3, seed=len(name))
        return bottom(given, options, **sizes)

    return make


@every_network
def test_split_equals_pooled(network):
    # Sequences are sets to these networks.
    assert_split_equals_pooled(make_zoo_toy().pooled(), factory(network))


@every_network
def test_the_label_party_alone(network):
    assert logits_alone(make_zoo_toy().pooled(), factory(network)).isfinite().all()
