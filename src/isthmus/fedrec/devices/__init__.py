"""Federated runs whose clients are elsewhere: a server, and shards that stand for some clients."""

from isthmus.fedrec.devices.gate import Gate, Limits
from isthmus.fedrec.devices.joining import Line, join, own_noise_key, own_seed
from isthmus.fedrec.devices.parts import Census, Part, evenly, split
from isthmus.fedrec.devices.serving import Plan, Served, see_fit, serve
from isthmus.fedrec.devices.worker import Conduct

__all__ = [
    "Census",
    "Conduct",
    "Gate",
    "Limits",
    "Line",
    "Part",
    "Plan",
    "Served",
    "evenly",
    "join",
    "own_noise_key",
    "own_seed",
    "see_fit",
    "serve",
    "split",
]
