"""Generalised linear models over columns that several parties hold, by encrypted sums."""

from isthmus.linear.alone import fit_alone, predict_alone
from isthmus.linear.families import FAMILIES
from isthmus.linear.fit import fit
from isthmus.linear.options import LinearOptions
from isthmus.linear.predict import predict, shares
from isthmus.linear.result import LinearResult

__all__ = [
    "FAMILIES",
    "LinearOptions",
    "LinearResult",
    "fit",
    "fit_alone",
    "predict",
    "predict_alone",
    "shares",
]
