"""Split training: one network over several parties, as exact as in one place."""

from isthmus.split.batches import FeatureData, PartyData
from isthmus.split.options import EpochRecord, TrainOptions, TrainResult, bce
from isthmus.split.scoring import predict
from isthmus.split.targets import Target, Targets
from isthmus.split.training import train, train_pooled

__all__ = [
    "EpochRecord",
    "FeatureData",
    "PartyData",
    "Target",
    "Targets",
    "TrainOptions",
    "TrainResult",
    "bce",
    "predict",
    "train",
    "train_pooled",
]
