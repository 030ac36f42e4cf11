"""Boosted trees over columns that several parties hold, by one-time masks and shared sums."""

from isthmus.trees.checkpoint import clear_checkpoints
from isthmus.trees.fit import fit, fit_alone
from isthmus.trees.label_side import Keeping
from isthmus.trees.model import Importance, TreeModel
from isthmus.trees.options import TreeOptions
from isthmus.trees.predict import predict

__all__ = [
    "Importance",
    "Keeping",
    "TreeModel",
    "TreeOptions",
    "clear_checkpoints",
    "fit",
    "fit_alone",
    "predict",
]
