import numpy as np
import pytest
import torch
from tests.models.reference import by_torch
from torch.nn.utils.parametrizations import weight_norm

from isthmus.models import Mlp, later_weight_gradients


def make(dropout=0.0, outputs=None):
    rng = np.random.default_rng(1)
    return Mlp(6, (9, 5), outputs=outputs, dropout=dropout, rng=rng)


def gradients(module, x, run, later=False):
    module.zero_grad()
    x = x.clone().requires_grad_()
    output = run(x)
    if later:
        with later_weight_gradients() as put_off:
            output.square().sum().backward()
        assert x.grad is not None
        assert all(p.grad is None for p in module.parameters())
        put_off.finish()
    else:
        output.square().sum().backward()
    return output.detach(), x.grad, {n: p.grad.clone() for n, p in module.named_parameters()}


@pytest.mark.parametrize("outputs", [None, 1, 3])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("later", [False, True])
def test_it_is_what_torch_computes(outputs, dropout, later):
    module, x = make(dropout, outputs), torch.randn(11, 6)
    state = {name: value.clone() for name, value in module.state_dict().items()}
    ours = gradients(module, x, module, later)
    module.load_state_dict(state)  # the same dropout masks again
    theirs = gradients(module, x, lambda x: by_torch(module, x))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_put_off_gradients_add_up_over_two_passes():
    module, x = make(), torch.randn(4, 6)
    module.zero_grad()
    (module(x).sum() + module(2 * x).sum()).backward()
    expected = {name: p.grad.clone() for name, p in module.named_parameters()}
    module.zero_grad()
    with later_weight_gradients() as put_off:
        (module(x).sum() + module(2 * x).sum()).backward()
    put_off.finish()
    found = {name: p.grad for name, p in module.named_parameters()}
    torch.testing.assert_close(found, expected)


def test_gradients_are_put_off_within_the_block_only():
    module, x = make(), torch.randn(4, 6)
    with later_weight_gradients():
        pass
    module(x).sum().backward()
    assert all(p.grad is not None for p in module.parameters())


def test_frozen_weights_stay_without_gradient():
    module, x = make(), torch.randn(4, 6)
    module.layers[0].weight.requires_grad_(False)
    with later_weight_gradients() as put_off:
        module(x).sum().backward()
    put_off.finish()
    assert module.layers[0].weight.grad is None
    assert module.layers[0].bias.grad is not None


def test_no_dropout_in_evaluation():
    module, x = make(dropout=0.9), torch.randn(4, 6)
    module.eval()
    torch.testing.assert_close(module(x), by_torch(module, x))
    assert torch.equal(module(x), module(x))


def test_a_strided_input_and_gradient():
    module = make()
    wide = torch.randn(7, 12, requires_grad=True)
    module(wide[:, ::2]).sum().backward()
    narrow = wide.detach()[:, ::2].clone().requires_grad_()
    by_torch(module, narrow).sum().backward()
    torch.testing.assert_close(wide.grad[:, ::2], narrow.grad)


def test_other_precisions_work_too():
    module = make().double()
    assert module(torch.randn(3, 6, dtype=torch.float64)).dtype == torch.float64


def test_weights_with_a_hook_or_made_of_others_get_their_gradient_at_once():
    module, x = make(), torch.randn(4, 6)
    weight_norm(module.layers[0])
    module.layers[1].weight.register_hook(lambda gradient: gradient * 0)
    with later_weight_gradients() as put_off:
        module(x).sum().backward()
    put_off.finish()
    assert all(p.grad is not None for p in module.parameters())
    assert module.layers[0].parametrizations.weight.original1.grad.abs().sum() > 0
    assert not module.layers[1].weight.grad.any()
