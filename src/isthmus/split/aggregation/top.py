"""Tops over aggregated cuts: to the model below, several parties look like one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from isthmus.errors import ShapeMismatch
from isthmus.split.aggregation.rules import Rule, Sum

TOGETHER = "(together)"
"""The name under which a top finds what several parties' cuts became; no party can have it."""

Cut = Mapping[str, Tensor]


class Aggregation(nn.Module):
    """From several parties' cuts to one.

    Args:
        rules: for every tensor of the cut, or one for each by name.
    """

    def __init__(self, rules: Rule | Mapping[str, Rule]) -> None:
        super().__init__()
        self._default = rules if isinstance(rules, Rule) else None
        named = {} if isinstance(rules, Rule) else dict(rules)
        # Not a ModuleDict: tensors may be called like one of its methods.
        self._names = tuple(named)
        self._rules = nn.ModuleList(named.values())

    @property
    def is_sum(self) -> bool:
        """Whether every rule is a plain sum, so that a secure sum can take its place."""
        rules = [self._default] if self._default is not None else list(self._rules)
        return all(type(rule) is Sum for rule in rules)

    def forward(self, cuts: Mapping[str, Cut]) -> dict[str, Tensor]:
        """One cut of the parties' cuts, tensor by tensor.

        Raises:
            ShapeMismatch: the parties' tensors do not fit together, or there is no rule for one.
        """
        (first, reference), *others = cuts.items()
        for party, cut in others:
            if cut.keys() != reference.keys():
                raise ShapeMismatch(
                    f"{party}'s cut has the tensors {sorted(cut)}, {first}'s has "
                    f"{sorted(reference)}: they cannot be aggregated"
                )
        together = {}
        for name in reference:
            rule = self._rule(name, first)
            together[name] = rule(name, {party: cut[name] for party, cut in cuts.items()})
        return together

    def _rule(self, name: str, party: str) -> nn.Module:
        if self._default is not None:
            return self._default
        if name not in self._names:
            raise ShapeMismatch(
                f"{party}'s cut has a tensor {name!r}, for which there is no aggregation",
                mend=f"There is one for {', '.join(map(repr, self._names))}.",
            )
        return self._rules[self._names.index(name)]


class AggregatedTop(nn.Module):
    """A top that sees the cuts of some parties as one, and those of others as they are.

    Any top of the zoo serves: it is built for `TOGETHER` in place of those parties, such as
    `DeepFMTop({TOGETHER: width, "bob": width})`. Where the cuts come summed already, by a secure
    sum, they are taken as they are, so one model serves secure sums, plain sums and the pooled
    reference, with the same parameters.

    Args:
        top: from `{TOGETHER: ..., other parties: ...}` to logits [batch].
        parties: whose cuts are aggregated, in the agreed order.
        aggregation: how.
    """

    def __init__(self, top: nn.Module, parties: Sequence[str], aggregation: Aggregation) -> None:
        super().__init__()
        self.top = top
        self.parties = tuple(parties)
        self.aggregation = aggregation

    def forward(self, cuts: Mapping[str, Cut]) -> Tensor:
        """The logits, float32 [batch].

        Raises:
            ShapeMismatch: the parties' tensors do not fit together or with the aggregation.
        """
        if TOGETHER in cuts:
            if not self.aggregation.is_sum:
                raise ShapeMismatch(
                    "the cuts come as a sum, but the top aggregates them in another way",
                    mend="Use the aggregation `Sum` for every tensor, or no secure sum.",
                )
            together: Cut = cuts[TOGETHER]
        else:
            if missing := [party for party in self.parties if party not in cuts]:
                raise ShapeMismatch(f"the top aggregates the cuts of {missing}, which are not here")
            together = self.aggregation({party: cuts[party] for party in self.parties})
        others = {party: cut for party, cut in cuts.items() if party not in self.parties}
        logits: Tensor = self.top(others | {TOGETHER: together})
        return logits
