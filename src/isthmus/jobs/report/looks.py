"""Parts of a report about tables that were looked at: profiles, bins, correlations, components."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt

from isthmus.jobs.report.parts import Part, Share

Correlated = Annotated[float, Field(ge=-1.001, le=1.001)]


class CleanedColumn(Part):
    """What was done to a column of this party before anything looked at it."""

    column: str
    low: float | None = None
    """Values below became it."""
    high: float | None = None
    """Values above became it."""
    fill: float | str | None = None
    """What stands for a missing value."""
    mean: float | None = None
    """Taken off, where the column is standardised."""
    deviation: float | None = None
    """Divided by, where it is."""
    drop: bool = False
    """Whether rows without a value took no part."""


class ProfileColumn(Part):
    """What is in a column of the common rows."""

    name: str
    rows: NonNegativeInt
    missing: NonNegativeInt
    distinct: NonNegativeInt | None = None
    """Different values; its owner alone knows it."""
    mean: float | None = None
    deviation: NonNegativeFloat | None = None
    least: float | None = None
    """Its owner alone knows it, as well as `greatest` and `outliers`."""
    greatest: float | None = None
    levels: tuple[Share, ...] = ()
    """Of the quantiles."""
    quantiles: tuple[float, ...] = ()
    edges: tuple[float, ...] = ()
    """Of the histogram of numbers."""
    open_ended: bool = False
    """Whether the first and last count are of all below the first and above the last edge."""
    names: tuple[str, ...] | None = None
    """Categories, the most frequent first; None of numbers."""
    counts: tuple[NonNegativeInt, ...] = ()
    """Rows of each cell of the histogram, or of each category."""
    others: NonNegativeInt = 0
    """Rows of categories that are not named."""
    outliers: NonNegativeInt | None = None
    """Rows further than 1.5 quartile ranges from the quartiles."""
    drift_psi: NonNegativeFloat | None = None
    """How far the common rows differ from the rest of the table (population stability index); its
    owner alone knows it."""
    drift_ks: Share | None = None
    """The same as the largest distance of the distribution functions; None of categories."""


class PartnerProfile(Part):
    """What a partner lets this party see of its columns."""

    party: str
    columns: tuple[ProfileColumn, ...]


class ProfileFacts(Part):
    """The columns of this party in full, those of its partners as their owners let them be seen."""

    least: NonNegativeInt
    """Rows that a cell has at least which a partner sees."""
    epsilon: float | None = None
    """Of the noise on counts that partners see; None for none."""
    own: tuple[ProfileColumn, ...]
    shown: tuple[ProfileColumn, ...] | None = None
    """What partners see of the own columns; None where that has noise."""
    partners: tuple[PartnerProfile, ...] = ()


class Bin(Part):
    """One bin of a column over the training samples."""

    label: str
    """What is in it; of a partner's column its number, as its owner alone knows more."""
    rows: NonNegativeInt
    positives: NonNegativeInt | None = None
    """Never in a feature party's report."""
    woe: float | None = None
    """Weight of evidence; in a feature party's report where the job says `tell: woe`."""


class BinnedColumn(Part):
    """The bins of one column."""

    party: str
    column: str
    keep: bool
    """Whether its IV is at least `least_iv`."""
    iv: NonNegativeFloat | None = None
    """Information value; None where the label party does not tell."""
    psi: NonNegativeFloat | None = None
    """Population stability index of its bins from the training to the test samples, of an own
    column: its owner alone knows it."""
    bins: tuple[Bin, ...]


class BinFacts(Part):
    """Bins of the columns against the label: of all parties at the label party, else the own."""

    method: str
    tell: Literal["keep", "iv", "woe"]
    """What feature parties are told of their own columns."""
    least_iv: NonNegativeFloat
    transform: bool
    """Whether what follows takes the WOE in place of the values."""
    weighted: bool = False
    """Whether samples count for WOE and IV by the weights of the label party."""
    columns: tuple[BinnedColumn, ...]
    """The greatest IV first."""


class CorrelationFacts(Part):
    """Correlations of the columns of numbers."""

    left_out: dict[str, str]
    """Own columns that are not in it, and why."""
    parties: tuple[str, ...] = ()
    """Who has each column; nothing where the label party alone sees the matrix."""
    columns: tuple[str, ...] = ()
    matrix: tuple[tuple[Correlated | None, ...], ...] = ()
    """None of two columns whose parties have not met."""
    vif: tuple[float | None, ...] = ()
    """Variance inflation factor of each column; None: unlimited, or not known."""


class PcaFacts(Part):
    """Principal components, with this party's part of the axes."""

    left_out: dict[str, str]
    """Own columns that are not in it, and why."""
    scaled: bool
    """Whether columns were scaled to deviation 1."""
    variance: tuple[NonNegativeFloat, ...]
    """Of each component."""
    shares: tuple[NonNegativeFloat, ...]
    """Of each in the variance of all columns."""
    columns: tuple[str, ...]
    axes: tuple[tuple[float, ...], ...]
    """By component and own column."""


class Looks(Part):
    """What a job shows this party of its own and its partners' tables."""

    cleaning: tuple[CleanedColumn, ...] = ()
    rows_dropped: NonNegativeInt = 0
    """Own rows that took no part since a value is missing."""
    profile: ProfileFacts | None = None
    bins: BinFacts | None = None
    correlation: CorrelationFacts | None = None
    pca: PcaFacts | None = None

    def untold(self, party: str) -> str | None:
        """What no report of the feature party `party` may hold and this does, in words."""
        if self.bins is None:
            return None
        tell, columns = self.bins.tell, self.bins.columns
        bins = [one for column in columns for one in column.bins]
        if any(column.party != party for column in columns):
            return "the bins of others"
        if any(one.positives is not None for one in bins):
            return "positives by bin"
        if tell != "woe" and any(one.woe is not None for one in bins):
            return "a WOE that was not to be told"
        if tell == "keep" and any(column.iv is not None for column in columns):
            return "an IV that was not to be told"
        return None
