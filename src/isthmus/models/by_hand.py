"""Modules that differentiate themselves: the same passes without autograd's bookkeeping.

On a CPU a quarter of a small step is autograd's: nodes, saved tensors, its engine. A module may
offer, beside `forward`, a method `run` that gives the same output together with its way back, which
adds to the parameters' `grad` what autograd would. Training takes it where `hand_written` finds it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

Tensors = Mapping[str, Tensor]


class RunCut(dict[str, Tensor]):
    """Cut tensors of a bottom that was run by hand.

    Args:
        tensors: the cut, without autograd's graph.
        back: from the cut's gradient to the parameters' `grad`; to be called once.
    """

    def __init__(self, tensors: Tensors, back: Callable[[Tensors], None]) -> None:
        super().__init__(tensors)
        self.back = back


def hand_written(module: nn.Module) -> Callable[..., Any] | None:
    """The `run` of a module, where it stands for the module's `forward`; None where it may not.

    It may not where there is no gradient to take, where a subclass or an instance has a `forward`
    of its own, or where hooks want to see the passes.
    """
    own = type(module).__dict__
    if "run" not in own or "forward" not in own or "forward" in module.__dict__:
        return None
    hooks = (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    )
    if any(hooks) or not torch.is_grad_enabled():
        return None
    run: Callable[..., Any] = getattr(module, "run")  # noqa: B009 - not every module has it
    return run
