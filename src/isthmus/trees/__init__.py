"""Boosted trees over columns that several parties hold, by one-time masks and shared sums."""

from isthmus.trees.fit import fit, fit_alone
from isthmus.trees.model import Importance, TreeModel
from isthmus.trees.options import TreeOptions
from isthmus.trees.predict import predict

__all__ = ["Importance", "TreeModel", "TreeOptions", "fit", "fit_alone", "predict"]
