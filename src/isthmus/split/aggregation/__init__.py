"""Aggregation of the parties' cut tensors: in the clear inside a top, or as a secure sum."""

from isthmus.split.aggregation.fixed_point import FixedPoint
from isthmus.split.aggregation.keys import Signer, agree_masks, check_federation, relay_keys
from isthmus.split.aggregation.rules import (
    RULES,
    Attention,
    Concat,
    Max,
    Mean,
    Rule,
    Sum,
    make_rule,
)
from isthmus.split.aggregation.secure_sum import SecureSumHub, SecureSumLane, summed_widths
from isthmus.split.aggregation.signing import IdentitySigner
from isthmus.split.aggregation.top import TOGETHER, AggregatedTop, Aggregation

__all__ = [
    "RULES",
    "TOGETHER",
    "AggregatedTop",
    "Aggregation",
    "Attention",
    "Concat",
    "FixedPoint",
    "IdentitySigner",
    "Max",
    "Mean",
    "Rule",
    "SecureSumHub",
    "SecureSumLane",
    "Signer",
    "Sum",
    "agree_masks",
    "check_federation",
    "make_rule",
    "relay_keys",
    "summed_widths",
]
