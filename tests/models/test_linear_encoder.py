"""The chunked recurrence is the plain one."""

import numpy as np
import pytest
import torch

from isthmus.models.linear_encoder import CHUNK, LinearEncoder, recurrence


def plain(r, k, v, log_w, u):
    batch, length, heads, _ = r.shape
    state = torch.zeros(batch, heads, r.shape[-1], v.shape[-1], dtype=r.dtype)
    out = []
    for t in range(length):
        new = k[:, t, :, :, None] * v[:, t, :, None, :]
        out.append(torch.einsum("bhk,bhkv->bhv", r[:, t], state + u[..., None] * new))
        state = log_w[:, t].exp()[..., None] * state + new
    return torch.stack(out, 1)


def parts(length, fastest=4.0, dtype=torch.float32):
    rng = torch.Generator().manual_seed(length)

    def draw(*shape):
        return torch.randn(*shape, generator=rng, dtype=dtype)

    shape = (2, length, 3, 4)
    log_w = -fastest * torch.rand(shape, generator=rng, dtype=dtype)
    return draw(*shape), draw(*shape), draw(2, length, 3, 5), log_w, draw(3, 4)


@pytest.mark.parametrize("length", [1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 100])
def test_chunks_compute_the_recurrence(length):
    given = parts(length)
    torch.testing.assert_close(recurrence(*given), plain(*given), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("log_w", [0.0, -1e-3, -4.0])
def test_long_sequences_at_the_ends_of_the_decay_stay_exact(log_w):
    r, k, v, decays, u = parts(2000)
    decays = torch.full_like(decays, log_w)
    found, expected = recurrence(r, k, v, decays, u), plain(r, k, v, decays, u)
    assert torch.isfinite(found).all()
    scale = expected.abs().max()
    assert (found - expected).abs().max() / scale < 1e-5


def test_gradients_are_those_of_the_recurrence():
    given = [part.requires_grad_() for part in parts(2 * CHUNK + 3, dtype=torch.float64)]
    weight = torch.randn(2, 2 * CHUNK + 3, 3, 5, dtype=torch.float64)
    found = torch.autograd.grad((recurrence(*given) * weight).sum(), given)
    expected = torch.autograd.grad((plain(*given) * weight).sum(), given)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_gradients_of_the_module_by_finite_differences():
    module = LinearEncoder(4, 2, 0.0, np.random.default_rng(0)).double()
    mask = torch.arange(CHUNK + 2) >= torch.tensor([3, 0])[:, None]
    x = torch.randn(2, CHUNK + 2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: module(x, mask), x)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_extreme_inputs_give_finite_results_and_gradients(scale):
    module = LinearEncoder(8, 2, 0.0, np.random.default_rng(0))
    with torch.no_grad():
        module.decay_out.bias.add_(3.0)  # the fastest decay for many numbers
    x = (scale * torch.randn(3, 300, 8)).requires_grad_()
    mask = torch.arange(300) >= torch.tensor([300, 299, 0])[:, None]
    out = module(x, mask)
    out.sum().backward()
    assert torch.isfinite(out).all()
    assert torch.isfinite(x.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in module.parameters())


def test_items_do_not_see_what_comes_after_them():
    module = LinearEncoder(4, 2, 0.0, np.random.default_rng(0))
    x, mask = torch.randn(1, 40, 4), torch.ones(1, 40, dtype=torch.bool)
    changed = x.clone()
    changed[0, 25:] += 1.0
    torch.testing.assert_close(module(x, mask)[0, :25], module(changed, mask)[0, :25])
