"""DIN and BST split are DIN and BST pooled, wherever the history is."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.split.zoo import L, assert_split_equals_pooled, logits_alone, make_zoo_toy

from isthmus.models.batch import make_batch
from isthmus.models.bst import Bst
from isthmus.models.din import Din
from isthmus.models.histories import History, HistoryBottom, HistoryTop, Side, cut_of

SIDES = {
    "alice": Side((History("seen", L),)),
    "bob": Side((History("liked", L, candidate="item"),), offers="item"),
}
STYLES = [
    Din(dim=4, tokens=2),
    Din(dim=4, sent=True),
    Bst(dim=4, tokens=3, dropout=0.0, std=0.1),
    Bst(dim=4, layers=2, sent=True, std=0.1),
    Bst(dim=4, heads=1, encoder="linear", std=0.1),
    Bst(dim=4, heads=1, encoder="linear", sent=True, std=0.1),
]
names = [f"{type(s).__name__}-{getattr(s, 'encoder', '')}-{s.sent}" for s in STYLES]
every_style = pytest.mark.parametrize("style", STYLES, ids=names)


def factory(style, sides=SIDES):
    def make(name, given):
        if name == "top":
            own = {party: sides[party] for party in given}
            return HistoryTop(dict.fromkeys(given, 5), own, style, hidden=(8,), seed=7)
        return HistoryBottom(
            given, sides[name], style, hidden=(8, 5), embedding_std=0.3, seed=len(name)
        )

    return make


@every_style
def test_split_equals_pooled(style):
    # Its normalised states are small at first, and blow rounding up.
    atol = 5e-5 if getattr(style, "encoder", "") == "linear" else 1e-5
    assert_split_equals_pooled(make_zoo_toy(), factory(style), atol=atol)


@every_style
def test_the_label_party_alone(style):
    sides = {"bob": replace(SIDES["bob"], offers=None)}
    assert torch.isfinite(logits_alone(make_zoo_toy(), factory(style, sides))).all()


@every_style
def test_a_history_at_either_party_matters_and_its_padding_does_not(style):
    toy = make_zoo_toy()
    make = factory(style)
    modules = {name: make(name, toy.layout(name)).eval() for name in SIDES}
    top = make("top", tuple(SIDES)).eval()
    rows = np.arange(200)

    def logits(change=None, of=None):
        cuts = {}
        for party, bottom in modules.items():
            index, values = toy.features[party].gather(rows)
            if party == of:
                index = change(index, toy.layout(party).sequences[0].columns)
            cuts[party] = bottom(make_batch(toy.layout(party), index, values, backward=False))
        return top(cuts)

    def emptied(index, columns):
        index[:, columns] = 0
        return index

    def newest_replaced(index, columns):
        newest = index[:, columns.stop - 1]
        newest[newest > 0] = 11 if columns.start == 1 else 1
        return index

    with torch.no_grad():
        as_is = logits()
        for party in SIDES:
            index, _ = toy.features[party].gather(rows)
            columns = toy.layout(party).sequences[0].columns
            full = torch.from_numpy((index[:, columns] != 0).all(1))
            assert 10 < full.sum() < 190
            assert (logits(emptied, party) - as_is)[full].abs().min() > 1e-5, party
            moved = (logits(newest_replaced, party) - as_is).abs()
            newest = torch.from_numpy(index[:, columns.stop - 1])
            same = (newest == 0) | (newest == (11 if party == "alice" else 1))
            assert moved[same].max() < 1e-6
            assert moved[~same].min() > 1e-6
            none = torch.from_numpy((index[:, columns] == 0).all(1))
            assert torch.equal(logits(emptied, party)[none], as_is[none])


@every_style
def test_a_history_that_is_sent_is_read_like_one_at_the_candidate_s_party(style):
    """`sent` is exact: with the same weights the reading is the same number for number."""
    style = replace(style, sent=True)
    rng = torch.Generator().manual_seed(5)
    items, candidate = torch.randn(9, L, 4, generator=rng), torch.randn(9, 4, generator=rng)
    mask = torch.arange(L) >= torch.arange(9)[:, None] % (L + 1)
    reader = style.reader(L, np.random.default_rng(1)).eval()
    sides = {"alice": Side((History("seen", L),)), "bob": Side(offers="item")}
    top = HistoryTop({"alice": 5, "bob": 5}, sides, style, hidden=(8,)).eval()
    top.readers[0].load_state_dict(reader.state_dict())
    cuts = {
        "alice": {"history": items, "mask": mask.float()},
        "bob": {"candidate": candidate},
    }
    assert torch.equal(top._readings(cuts)[0], reader(candidate, items, mask))


@every_style
def test_the_feature_party_s_cut_holds_nothing_of_the_candidate_and_no_more_than_it_says(style):
    given = cut_of(SIDES["alice"], style)
    expected = {"history": (L, 4), "mask": (L,)} if style.sent else {"interests": (style.tokens, 4)}
    assert given == expected
    assert cut_of(Side((History("liked", L, candidate="item"),)), style) == {"readings": (8,)}
    assert cut_of(Side(), style) == {}


def test_two_histories_at_a_party_are_read_apart():
    style = Din(dim=4, tokens=2)
    both = (History("seen", L), History("liked", L))
    top = HistoryTop(
        {"alice": 5, "bob": 5}, {"alice": Side(both), "bob": Side(offers="item")}, style
    )
    assert top.expects["alice"]["interests"] == (4, 4)
    assert len(top.readers) == 2
    cuts = {
        party: {n: torch.ones(3, *shape) for n, shape in given.items()}
        for party, given in top.expects.items()
    }
    first = top(cuts)
    cuts["alice"]["interests"] = cuts["alice"]["interests"].clone()
    cuts["alice"]["interests"][:, 3] *= 2.0
    assert (top(cuts) - first).abs().min() > 1e-6


def test_histories_without_a_candidate_anywhere_are_refused():
    with pytest.raises(ValueError, match="0 parties offer the candidate"):
        HistoryTop({"alice": 5}, {"alice": SIDES["alice"]}, Din(dim=4))


def test_a_pooled_layout_is_refused():
    layout = make_zoo_toy().pooled().layout("alice")
    with pytest.raises(ValueError, match=r"'seen' has 1 vectors of 6 columns, wanted 6"):
        HistoryBottom(layout, SIDES["alice"], Din(dim=4))


def test_a_history_cannot_be_the_candidate():
    layout = make_zoo_toy().layout("bob")
    with pytest.raises(ValueError, match="'liked' has several vectors"):
        HistoryBottom(layout, Side(offers="liked"), Din(dim=4))
