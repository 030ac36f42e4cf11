"""How well scores tell labels apart, and how far probabilities and values can be believed."""

from isthmus.metrics.binary import BinaryMetrics, binary_metrics
from isthmus.metrics.deviances import deviance, deviance_explained
from isthmus.metrics.grouped import GroupedMetrics, TopMetrics, grouped_metrics
from isthmus.metrics.histogram import ScoreHistogram
from isthmus.metrics.lorenz import LorenzCurve, lorenz_curve
from isthmus.metrics.multiclass import MulticlassMetrics, multiclass_metrics
from isthmus.metrics.probability import CalibrationBins, brier, calibration, log_loss, wilson
from isthmus.metrics.ranking import LiftTable, RocCurve, auc, ks, lift_table, roc_curve
from isthmus.metrics.regression import RealMetrics, real_metrics
from isthmus.metrics.stability import ScoreStability, psi, psi_of_scores, score_stability
from isthmus.metrics.thresholds import (
    Confusion,
    KsCurve,
    PrecisionRecall,
    average_precision,
    confusion,
    ks_curve,
    precision_recall,
)
from isthmus.metrics.uplift import Uplift, bootstrap_uplift

__all__ = [
    "BinaryMetrics",
    "CalibrationBins",
    "Confusion",
    "GroupedMetrics",
    "KsCurve",
    "LiftTable",
    "LorenzCurve",
    "MulticlassMetrics",
    "PrecisionRecall",
    "RealMetrics",
    "RocCurve",
    "ScoreHistogram",
    "ScoreStability",
    "TopMetrics",
    "Uplift",
    "auc",
    "average_precision",
    "binary_metrics",
    "bootstrap_uplift",
    "brier",
    "calibration",
    "confusion",
    "deviance",
    "deviance_explained",
    "grouped_metrics",
    "ks",
    "ks_curve",
    "lift_table",
    "log_loss",
    "lorenz_curve",
    "multiclass_metrics",
    "precision_recall",
    "psi",
    "psi_of_scores",
    "real_metrics",
    "roc_curve",
    "score_stability",
    "wilson",
]
