"""Torch modules, bottoms and tops of split networks: no files, no parties, no messages."""

from isthmus.models.batch import FeatureBatch, RowPlan, plan_rows
from isthmus.models.by_hand import RunCut, hand_written
from isthmus.models.deepfm import DeepFMBottom, DeepFMTop
from isthmus.models.inputs import FieldVectors, field_vectors
from isthmus.models.layers import Dropout, seeded_linear
from isthmus.models.mlp import Mlp, later_weight_gradients
from isthmus.models.table import EmbeddingTable

__all__ = [
    "DeepFMBottom",
    "DeepFMTop",
    "Dropout",
    "EmbeddingTable",
    "FeatureBatch",
    "FieldVectors",
    "Mlp",
    "RowPlan",
    "RunCut",
    "field_vectors",
    "hand_written",
    "later_weight_gradients",
    "plan_rows",
    "seeded_linear",
]
