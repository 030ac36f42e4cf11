"""Key agreement on Curve25519 in batches: what the private set intersection is made of."""

from isthmus.crypto.curve25519 import LowOrderPoint, hash_to_points, multiply, new_secret
from isthmus.crypto.workers import PointWorkers, default_workers

__all__ = [
    "LowOrderPoint",
    "PointWorkers",
    "default_workers",
    "hash_to_points",
    "multiply",
    "new_secret",
]
