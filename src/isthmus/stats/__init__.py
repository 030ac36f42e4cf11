"""Statistics of tables that lie at several parties: bins and WOE, profiles, correlation, PCA."""

from isthmus.stats.binning import BinningOptions, ColumnBins, fit_bins
from isthmus.stats.joint_woe import Disclosure, fit_woe
from isthmus.stats.woe import WoeTable, woe_table
from isthmus.stats.woe_fit import ColumnWoe, WoeFit

__all__ = [
    "BinningOptions",
    "ColumnBins",
    "ColumnWoe",
    "Disclosure",
    "WoeFit",
    "WoeTable",
    "fit_bins",
    "fit_woe",
    "woe_table",
]
