import pytest
import torch
from tests.models.fields import PARTIES, assert_same_network, batch_of, features_of
from tests.models.reference import by_torch

from isthmus.models.autoint import AutoIntBottom, AutoIntTop
from isthmus.models.halves import BottomOptions, TopOptions

SIZES = {"heads": 2, "layers": 2, "width": 6, "tokens": 3}


def make(**changed):
    sizes = SIZES | changed
    bottoms = {
        party: AutoIntBottom(f.layout, BottomOptions(4, (5,), embedding_std=0.5, seed=i), **sizes)
        for i, (party, f) in enumerate(features_of().items())
    }
    return bottoms, AutoIntTop(dict.fromkeys(PARTIES, 5), TopOptions((4,), seed=9), **sizes)


def attend(layer, rows):
    """One interacting layer on a list of vectors, written from the paper head by head."""
    width = layer.queries.shape[1] // layer.heads
    found = []
    for e in rows:
        heads = []
        for head in range(layer.heads):
            at = slice(head * width, (head + 1) * width)
            q, k, v = (w[:, at] for w in (layer.queries, layer.keys, layer.values))
            scores = torch.stack([(e @ q) @ (other @ k) for other in rows])
            mix = torch.softmax(scores, 0)
            heads.append(sum(a * (other @ v) for a, other in zip(mix, rows, strict=True)))
        found.append(torch.relu(torch.cat(heads) + e @ layer.residual))
    return found


def tokens_of(bottom, vectors):
    rows = list(vectors)
    for layer in bottom.attention:
        rows = attend(layer, rows)
    tokens = []
    for z in bottom.seeks:
        mix = torch.softmax(torch.stack([z @ e for e in rows]), 0)
        tokens.append(sum(a * e for a, e in zip(mix, rows, strict=True)))
    return tokens


def test_it_is_the_paper_s_attention_within_a_party_and_over_the_tokens():
    bottoms, top = make()

    def naive(fields):
        logits = []
        for row in range(5):
            own = {p: f[row] for p, f in fields.items()}
            tokens = [t for p, f in own.items() for t in tokens_of(bottoms[p], f[:, :-1])]
            for layer in top.attention:
                tokens = attend(layer, tokens)
            lower = [by_torch(bottoms[p].tower, f[:, :-1].flatten()) for p, f in own.items()]
            deep = by_torch(top.tower, torch.cat(lower))[0]
            wide = sum(f[:, -1].sum() for f in own.values())
            logits.append(top.out(torch.cat(tokens))[0] + deep + wide)
        return torch.stack(logits)

    assert_same_network(bottoms, top, naive)


def test_what_crosses_does_not_tell_how_many_fields_there_are():
    bottoms, top = make()
    features = features_of()
    for party, bottom in bottoms.items():
        cut = bottom(batch_of(features[party]))
        assert {name: tuple(t.shape[1:]) for name, t in cut.items()} == top.expects[party]
        assert cut["tokens"].shape == (5, 3, 6)


def test_a_width_that_heads_cannot_share_is_refused():
    with pytest.raises(ValueError, match="a width of 5 cannot be shared out to 2 heads"):
        make(width=5)


def test_it_builds_for_the_label_party_alone():
    bottoms, _ = make()
    top = AutoIntTop({"bob": 5}, TopOptions((4,)), **SIZES)
    assert top({"bob": bottoms["bob"](batch_of(features_of()["bob"]))}).shape == (5,)
