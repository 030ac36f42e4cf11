"""Curve25519 in batches, oblivious transfer, masks, homomorphic encryption: parts of protocols."""

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
