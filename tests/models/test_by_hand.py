import pytest
import torch
from tests.models.test_deepfm import bottoms_and_batches
from torch.nn.utils.parametrizations import weight_norm

from isthmus.models import DeepFMBottom, DeepFMTop, hand_written, later_weight_gradients


def a_top(dropout=0.0):
    return DeepFMTop({"alice": 5, "bob": 5}, dim=3, hidden=(4,), dropout=dropout, seed=9)


def slopes(module):
    found = {n: p.grad for n, p in module.named_parameters() if p.grad is not None}
    module.zero_grad()
    return {n: g.coalesce().to_dense() if g.is_sparse else g for n, g in found.items()}


@pytest.mark.parametrize("party", ["alice", "bob"])
def test_a_bottom_by_hand_is_the_bottom_by_autograd(party):
    bottoms, batches, _ = bottoms_and_batches()
    bottom, batch = bottoms[party], batches[party]
    expected = bottom(batch)
    gradient = {name: torch.randn_like(tensor) for name, tensor in expected.items()}
    torch.autograd.backward(list(expected.values()), list(gradient.values()))
    wanted = slopes(bottom)
    cut = hand_written(bottom)(batch)
    assert {n: t.tolist() for n, t in cut.items()} == {n: t.tolist() for n, t in expected.items()}
    cut.back(gradient)
    found = slopes(bottom)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("later", [False, True])
def test_a_top_by_hand_is_the_top_by_autograd(later):
    bottoms, batches, _ = bottoms_and_batches()
    top = a_top()
    cuts = {
        p: {n: t.detach().requires_grad_() for n, t in bottoms[p](batches[p]).items()}
        for p in bottoms
    }
    logits = top(cuts)
    slope = torch.randn_like(logits)
    logits.backward(slope)
    wanted = slopes(top)
    by_hand, back = hand_written(top)(cuts)
    assert torch.equal(by_hand, logits)
    with later_weight_gradients() as put_off:
        gradients = back(slope)
        assert all(p.grad is None for p in top.parameters())
    if later:
        put_off.finish()
    else:
        hand_written(top)(cuts)[1](slope)
    found = slopes(top)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    for party, cut in cuts.items():
        assert gradients[party].keys() == cut.keys()
        assert all(torch.equal(gradients[party][name], leaf.grad) for name, leaf in cut.items())


def test_gradients_by_hand_add_up_and_frozen_weights_stay_without():
    bottoms, batches, _ = bottoms_and_batches()
    bottom, batch = bottoms["bob"], batches["bob"]
    gradient = {name: torch.randn_like(tensor) for name, tensor in bottom(batch).items()}
    bottom.run(batch).back(gradient)
    once = slopes(bottom)
    bottom.run(batch).back(gradient)
    bottom.run(batch).back(gradient)
    twice = slopes(bottom)
    assert all(torch.equal(twice[name], 2 * once[name]) for name in once)
    bottom.table.weight.requires_grad_(False)
    bottom.tower.layers[0].bias.requires_grad_(False)
    bottom.run(batch).back(gradient)
    assert slopes(bottom).keys() == {"tower.layers.0.weight"}


def test_dropout_is_drawn_alike():
    cuts = {
        p: {"deep": torch.randn(6, 5), "sum": torch.randn(6, 3), "first": torch.randn(6, 1)}
        for p in ("alice", "bob")
    }
    assert torch.equal(a_top(0.5)(cuts), a_top(0.5).run(cuts)[0])


class Other(DeepFMBottom):
    def forward(self, batch):
        return super().forward(batch)


def test_who_changes_the_forward_pass_or_looks_at_it_gets_autograd():
    layout = bottoms_and_batches()[2]["alice"][0]
    assert hand_written(DeepFMBottom(layout, dim=3)) is not None
    assert hand_written(Other(layout, dim=3)) is None
    assert hand_written(torch.nn.Linear(2, 2)) is None
    watched, patched = DeepFMBottom(layout, dim=3), DeepFMBottom(layout, dim=3)
    watched.register_forward_hook(lambda *_: None)
    patched.forward = patched.tower.forward
    assert hand_written(watched) is None
    assert hand_written(patched) is None
    with torch.no_grad():
        assert hand_written(DeepFMBottom(layout, dim=3)) is None


class Runs(torch.nn.Linear):
    def forward(self, x):
        return super().forward(x)

    def run(self, x):
        raise AssertionError("this is no pass")


def test_a_method_of_yours_that_is_called_run_is_no_pass():
    assert hand_written(Runs(2, 2)) is None


CHANGES = {
    "a hook on a weight": lambda b: b.tower.layers[0].weight.register_hook(lambda g: g * 0),
    "a hook after a weight": lambda b: b.table.weight.register_post_accumulate_grad_hook(print),
    "a hook on a part": lambda b: b.table.register_forward_hook(lambda *_: None),
    "a part of another kind": lambda b: setattr(b, "table", torch.nn.Identity()),
    "a patched part": lambda b: setattr(b.table, "forward", print),
    "a weight that is made of others": lambda b: weight_norm(b.tower.layers[0]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whose_parts_are_changed_gets_autograd(change):
    layout = bottoms_and_batches()[2]["alice"][0]
    bottom = DeepFMBottom(layout, dim=3)
    assert hand_written(bottom) is not None
    CHANGES[change](bottom)
    assert hand_written(bottom) is None
