"""Torch modules, bottoms and tops of split networks: no files, no parties, no messages."""

from isthmus.models.batch import FeatureBatch, RowPlan, plan_rows
from isthmus.models.deepfm import DeepFMBottom, DeepFMTop
from isthmus.models.layers import Dropout, mlp, seeded_linear
from isthmus.models.table import EmbeddingTable, FieldEmbedding

__all__ = [
    "DeepFMBottom",
    "DeepFMTop",
    "Dropout",
    "EmbeddingTable",
    "FeatureBatch",
    "FieldEmbedding",
    "RowPlan",
    "mlp",
    "plan_rows",
    "seeded_linear",
]
