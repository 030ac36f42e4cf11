"""Guards: what is done to tensors on their way across the cut, and how it is undone."""

from isthmus.split.guards.base import Guard, Layout, PlainGuard, Shapes, Slot, size
from isthmus.split.guards.chain import Chain
from isthmus.split.guards.envelope import Envelope
from isthmus.split.guards.floats import E4M3, E5M2, Bf16, Fp8, Fp16
from isthmus.split.guards.integers import Integers
from isthmus.split.guards.lowrank import LowRank
from isthmus.split.guards.record import GuardRecord, record_of
from isthmus.split.guards.report import GuardReport
from isthmus.split.guards.sparse import RandomK, TopK
from isthmus.split.guards.spec import Direction, GuardSpec, parse_guard

__all__ = [
    "E4M3",
    "E5M2",
    "Bf16",
    "Chain",
    "Direction",
    "Envelope",
    "Fp8",
    "Fp16",
    "Guard",
    "GuardRecord",
    "GuardReport",
    "GuardSpec",
    "Integers",
    "Layout",
    "LowRank",
    "PlainGuard",
    "RandomK",
    "Shapes",
    "Slot",
    "TopK",
    "parse_guard",
    "record_of",
    "size",
]
