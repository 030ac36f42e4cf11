"""A sequence encoder whose cost is linear in the length, in the place of a transformer block.

Peng et al., "Eagle and Finch: RWKV with Matrix-Valued States and Dynamic Recurrence", 2024 (arXiv
2404.05892). Each head carries a matrix S [key, value] along the sequence, oldest item first:

    o_t = r_t (S_{t-1} + diag(u) k_t^T v_t)          S_t = diag(w_t) S_{t-1} + k_t^T v_t

with a decay w_t = exp(-exp(d_t)) that depends on the data as Finch's does, by a low-rank map of the
item and the one before it. Receptance, key, value and gate mix the two items by learned constants
(Eagle's token shift); the feed-forward part is the transformer block's, so that the two encoders
differ in how items meet and in nothing else.

The recurrence is computed chunk by chunk. With c_t the sum of log w up to t within a chunk,

    o_t = (r_t e^{c_{t-1}}) S + sum_{i<t} <r_t e^{c_{t-1}}, k_i e^{-c_i}> v_i + <r_t, u k_t> v_t

are matrix products over all chunks at once; only the states S at the chunks' borders are a loop.
log w is kept above -4 (a decay to 2 % with each item), so that e^{-c} stays within float32.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.models.attention import FeedForward
from isthmus.models.layers import Dropout, seeded_linear

CHUNK = 16
_FASTEST = 4.0
"""Largest -log w: times `CHUNK` it must stay below 88, where float32 ends."""
_EPSILON = 64e-5
"""Of the normalised outputs, as the authors have it: a young state is small, not to be blown up."""
_RANK = 8
"""Of the low-rank map that gives the decay."""


class LinearEncoder(nn.Module):
    """Drop-in for `TransformerBlock`: same arguments, same shapes, cost linear in the length.

    An item sees those before it, not those after it; the last one has seen all.

    Args:
        width: of a position; a multiple of `heads`.
        heads: states side by side, each [width / heads, width / heads].
        dropout: rate after the recurrence and inside the feed-forward layer.
        rng: draws the initial values and the seeds of the dropout masks.
    """

    def __init__(self, width: int, heads: int, dropout: float, rng: np.random.Generator) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"a width of {width} cannot be shared by {heads} heads")
        self.heads = heads
        self.shifts = nn.Parameter(torch.full((5, width), 0.5))
        """How much of the item before goes into receptance, key, value, gate and decay."""
        self.reads = nn.ModuleList(seeded_linear(width, width, rng) for _ in range(4))
        self.decay_in = seeded_linear(width, _RANK, rng)
        self.decay_out = seeded_linear(_RANK, width, rng)
        with torch.no_grad():
            # From a memory of about 2 items to one of about 150, over the numbers of a head.
            self.decay_out.bias.copy_(torch.linspace(-5.0, -0.5, width // heads).repeat(heads))
        self.bonus = nn.Parameter(torch.full((width,), 0.5))
        self.mixes = seeded_linear(width, width, rng)
        self.dropout = Dropout(dropout, int(rng.integers(2**62)))
        self.feed = FeedForward(width, dropout, rng)
        self.norm, self.feed_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.state_norm = nn.GroupNorm(heads, width, eps=_EPSILON)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """See `SequenceEncoder`."""
        there = mask.unsqueeze(-1).to(x.dtype)
        y = x + self.dropout(self._mix(self.norm(x) * there, there))
        z: Tensor = y + self.feed(self.feed_norm(y))
        return z * there

    def _mix(self, x: Tensor, there: Tensor) -> Tensor:
        before = F.pad(x, (0, 0, 1, 0))[:, :-1]
        mixed = [torch.lerp(x, before, shift) for shift in self.shifts]
        r, k, v, g = (read(part) for read, part in zip(self.reads, mixed[:4], strict=True))
        d = self.decay_out(torch.tanh(self.decay_in(mixed[4])))
        log_w = -d.exp().clamp(max=_FASTEST) * there
        heads = (self.heads, -1)
        r, k, v, log_w = (torch.unflatten(part, -1, heads) for part in (r, k * there, v, log_w))
        out = recurrence(r, k, v, log_w, self.bonus.view(heads))
        normal = self.state_norm(out.flatten(0, 1).flatten(1)).view_as(x)
        return cast(Tensor, self.mixes(normal * F.silu(g)))


def recurrence(r: Tensor, k: Tensor, v: Tensor, log_w: Tensor, u: Tensor) -> Tensor:
    """The outputs o_t of the recurrence above.

    Args:
        r: receptance, float [batch, length, heads, key].
        k: keys, of the same shape.
        v: values, float [batch, length, heads, value].
        log_w: logarithms of the decays, of the keys' shape, between -4 and 0.
        u: weight of an item for itself, float [heads, key].

    Returns:
        float [batch, length, heads, value].
    """
    length = r.shape[1]
    r, k, v, log_w = (_chunks(part) for part in (r, k, v, log_w))
    total = log_w.cumsum(-2)
    read, write = r * (total - log_w).exp(), k * (-total).exp()
    # Within a chunk: from items before, and from the item itself.
    pairs = torch.matmul(read, write.transpose(-1, -2)).tril(-1)
    own = (r * k * u[:, None, None, :]).sum(-1, keepdim=True)
    out = torch.matmul(pairs, v) + own * v
    # Between chunks: what each leaves, and the states that they find.
    last = total[..., -1:, :]
    left = torch.matmul((k * (last - total).exp()).transpose(-1, -2), v)
    out = out + torch.matmul(read, _states(left, last.exp().transpose(-1, -2)))
    return out.flatten(2, 3).transpose(1, 2)[:, -length:]


def _chunks(x: Tensor) -> Tensor:
    """From [batch, length, heads, n] to [batch, heads, chunks, CHUNK, n], zeros in front."""
    x = F.pad(x, (0, 0, 0, 0, -x.shape[1] % CHUNK, 0))
    return torch.unflatten(x, 1, (-1, CHUNK)).permute(0, 3, 1, 2, 4)


def _states(left: Tensor, decay: Tensor) -> Tensor:
    """The state at the beginning of each chunk, [batch, heads, chunks, key, value].

    Args:
        left: what each chunk adds, of the same shape.
        decay: of a state over each chunk, [batch, heads, chunks, key, 1].
    """
    state, states = torch.zeros_like(left[:, :, 0]), []
    for added, kept in zip(left.unbind(2)[:-1], decay.unbind(2)[:-1], strict=True):
        states.append(state)
        state = torch.addcmul(added, kept, state)
    return torch.stack([*states, state], 2)
