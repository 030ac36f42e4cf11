"""How well scores tell the two labels apart, and how far probabilities can be believed."""

from isthmus.metrics.binary import BinaryMetrics, binary_metrics
from isthmus.metrics.histogram import ScoreHistogram
from isthmus.metrics.probability import CalibrationBins, brier, calibration, log_loss, wilson
from isthmus.metrics.ranking import LiftTable, RocCurve, auc, ks, lift_table, roc_curve
from isthmus.metrics.uplift import Uplift, bootstrap_uplift

__all__ = [
    "BinaryMetrics",
    "CalibrationBins",
    "LiftTable",
    "RocCurve",
    "ScoreHistogram",
    "Uplift",
    "auc",
    "binary_metrics",
    "bootstrap_uplift",
    "brier",
    "calibration",
    "ks",
    "lift_table",
    "log_loss",
    "roc_curve",
    "wilson",
]
