"""Modules that differentiate themselves: the same passes without autograd's bookkeeping.

On a CPU a quarter of a small step is autograd's: nodes, saved tensors, its engine. A module may
offer, beside `forward`, a method `run` that gives the same output together with its way back, which
adds to the parameters' `grad` what autograd would. Training takes it where `hand_written` finds it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from isthmus.models.layers import Dropout
from isthmus.models.mlp import Mlp
from isthmus.models.table import EmbeddingTable

Tensors = Mapping[str, Tensor]

_KNOWN = (EmbeddingTable, Mlp, Dropout, nn.Linear, nn.ModuleList)
"""What a `run` may be made of: it reads their parameters, and calls no `forward` of theirs."""


class HandWritten(nn.Module):
    """A module that offers `run`; not any method of that name is one."""

    @abstractmethod
    def run(self, inputs: Any) -> Any:
        """What `forward` gives, with the way back from its gradient to the parameters' `grad`."""


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
    of its own, where a part was replaced or made a function of other parameters, or where hooks
    want to see the passes or the gradients.
    """
    if not isinstance(module, HandWritten) or not torch.is_grad_enabled():
        return None
    own = type(module).__dict__
    if "run" not in own or "forward" not in own:
        return None
    for part in module.modules():
        if (part is not module and type(part) not in _KNOWN) or _is_changed(part):
            return None
    return module.run


def _is_changed(part: nn.Module) -> bool:
    of_passes = (
        part._forward_hooks,
        part._forward_pre_hooks,
        part._backward_hooks,
        part._backward_pre_hooks,
    )
    return (
        "forward" in part.__dict__
        or any(of_passes)
        or any(
            p is not None and (p._backward_hooks or p._post_accumulate_grad_hooks)
            for p in part._parameters.values()
        )
    )
