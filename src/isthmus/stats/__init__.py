"""Statistics of tables that lie at several parties: profiles, cleaning, WOE, correlation, PCA."""

from isthmus.stats.binning import BinningOptions, ColumnBins, fit_bins
from isthmus.stats.cleaning import CleanColumn, Cleaning, CleanRule, fit_cleaning, rows_to_drop
from isthmus.stats.correlation import Correlation, correlation
from isthmus.stats.joint_woe import Disclosure, fit_woe
from isthmus.stats.pca import SplitPca, fit_pca
from isthmus.stats.profile import ColumnDrift, ColumnProfile, TableProfile, drift, profile
from isthmus.stats.scorecard import Scale, Scorecard, scorecard
from isthmus.stats.scoring import Scored, score_rows
from isthmus.stats.shown import ProfilePolicy, exchange_profiles, shown_profile
from isthmus.stats.woe import WoeTable, woe_table
from isthmus.stats.woe_fit import ColumnWoe, WoeFit

__all__ = [
    "BinningOptions",
    "CleanColumn",
    "CleanRule",
    "Cleaning",
    "ColumnBins",
    "ColumnDrift",
    "ColumnProfile",
    "ColumnWoe",
    "Correlation",
    "Disclosure",
    "ProfilePolicy",
    "Scale",
    "Scorecard",
    "Scored",
    "SplitPca",
    "TableProfile",
    "WoeFit",
    "WoeTable",
    "correlation",
    "drift",
    "exchange_profiles",
    "fit_bins",
    "fit_cleaning",
    "fit_pca",
    "fit_woe",
    "profile",
    "rows_to_drop",
    "score_rows",
    "scorecard",
    "shown_profile",
    "woe_table",
]
