"""Step `correlate`: the correlations of all parties' columns of numbers.

Files: `correlation.json` (`isthmus.stats.Correlation`) where this party sees it, and `columns.json`
(the own columns that are in it, and why others are not).
"""

from __future__ import annotations

from isthmus.files import write_json
from isthmus.jobs import tabular
from isthmus.jobs.context import Context
from isthmus.jobs.naming import Naming
from isthmus.stats import Correlation, correlation

CORRELATION = "correlation.json"
COLUMNS = "columns.json"


def run(context: Context) -> None:
    """Correlate with the partners. Raises DataError, JobError, LinkError, StorageError."""
    wanted = context.spec.correlation
    assert wanted is not None
    folder = context.step("correlate")
    numbers, left_out = tabular.numbers_of(context)
    write_json(folder.file(COLUMNS), {"columns": numbers.columns, "left_out": left_out})
    naming = Naming.of(context)
    found = correlation(
        context.session, naming.shown(numbers), share=wanted.share, digits=wanted.digits
    )
    found = naming.own_matrix(found)
    if found is not None:
        found.save(folder.file(CORRELATION))
    context.log.info("correlated", columns=numbers.width)


def load(context: Context) -> Correlation | None:
    """What the step found, where this party sees it. Raises StorageError."""
    path = context.step("correlate").file(CORRELATION)
    return Correlation.load(path) if path.exists() else None
