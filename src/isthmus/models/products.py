"""Matrix products of a layer, by the library that is fastest for their size.

Torch's own products on a CPU go to MKL, which uses the widest vectors on one maker's CPUs only;
oneDNN, which torch carries as well, uses them on all. On an AMD EPYC the product of [128, 256] and
[256, 256] takes 170 us by MKL and 90 us by oneDNN. A call of oneDNN costs some 12 us more, so small
products stay where they are. The choice follows the shapes alone: the same run, the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_LEAST = 3_000_000
"""Floating-point operations from which on oneDNN is the faster."""


def _find() -> Callable[..., Tensor] | None:
    # Not public, so it may go with a later torch: then torch's own products serve.
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return None
    found: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    return found if callable(found) else None


_onednn = _find()


def linear(x: Tensor, weight: Tensor, bias: Tensor, *, relu: bool) -> Tensor:
    """`x` [batch, inputs] times `weight` [outputs, inputs] transposed, plus `bias`; then ReLU."""
    if _onednn is not None and _is_large(x, weight.shape[0]):
        return _onednn(x, weight, bias, "relu" if relu else "none", [], "")
    y = torch.addmm(bias, x, weight.t())
    return y.relu_() if relu else y


def product(a: Tensor, b: Tensor) -> Tensor:
    """`a` [n, k] times `b` [k, m]."""
    if _onednn is not None and _is_large(a, b.shape[1]):
        return _onednn(a, b.t(), None, "none", [], "")
    return a.mm(b)


def _is_large(a: Tensor, columns: int) -> bool:
    return 2 * a.numel() * columns >= _LEAST and a.device.type == "cpu" and a.dtype == torch.float32
