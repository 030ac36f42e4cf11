"""What the top of the page and the terminal say of tables that were looked at."""

from __future__ import annotations

from isthmus.jobs.report.looks import BinnedColumn, CleanedColumn, Looks
from isthmus.jobs.report.model import Report
from isthmus.jobs.report.words import as_count, as_figure, as_list, as_value

TELLING = 0.02
"""An information value below is next to nothing."""


def only_looked(report: Report) -> bool:
    """Whether the job learnt nothing."""
    return report.looks is not None and report.model is None and report.fitted is None


def looks_verdict(report: Report) -> str:
    """What was looked at, and which column tells most of the label, in one or two sentences."""
    job, looks = report.job, report.looks
    assert looks is not None
    own = _columns(len(report.data.features))
    samples = as_count(report.alignment.samples)
    if job.role == "label":
        partners = tuple(f"{n} of {party}'s" for party, n in theirs(looks, job.party))
        seen = as_list((f"{own} of its own", *partners))
        said = f"{job.party} looked at {seen} on {samples} common rows."
    else:
        said = (
            f"{job.party} brought {own} of its own to a look at {samples} rows that it has in "
            "common with its partners. Its table stayed here."
        )
    return " ".join(filter(None, (said, _telling(report, looks))))


def strongest(looks: Looks | None) -> BinnedColumn | None:
    """The column with the greatest IV, where any is known."""
    columns = () if looks is None or looks.bins is None else looks.bins.columns
    return next((column for column in columns if column.iv is not None), None)


def theirs(looks: Looks, me: str) -> tuple[tuple[str, int], ...]:
    """How many columns each partner has, as far as this party has come to know of them."""
    found: dict[str, set[str]] = {}
    if looks.profile is not None:
        for one in looks.profile.partners:
            found.setdefault(one.party, set()).update(column.name for column in one.columns)
    if looks.bins is not None:
        for column in looks.bins.columns:
            found.setdefault(column.party, set()).add(column.column)
    if looks.correlation is not None:
        known = zip(looks.correlation.parties, looks.correlation.columns, strict=True)
        for party, name in known:
            found.setdefault(party, set()).add(name)
    return tuple((party, len(names)) for party, names in found.items() if party != me and names)


def looks_facts(report: Report) -> list[tuple[str, str]]:
    """Lines for the terminal."""
    looks = report.looks
    if looks is None or not only_looked(report):
        return []
    facts = [("columns here", as_count(len(report.data.features)))]
    facts += [(f"columns of {p}", as_count(n)) for p, n in theirs(looks, report.job.party)]
    if (best := strongest(looks)) is not None:
        name = best.column if best.party == report.job.party else f"{best.column} of {best.party}"
        facts.append(("greatest IV", f"{as_figure(best.iv, 3)} ({name})"))
    return facts


def what_was_done(column: CleanedColumn) -> str:
    """A rule of cleaning with its statistics, in words."""
    said = []
    if column.low is not None and column.high is not None:
        said.append(f"brought within {as_value(column.low)} and {as_value(column.high)}")
    if column.drop:
        said.append("rows without a value left out")
    if column.fill is not None:
        fill = column.fill if isinstance(column.fill, str) else as_value(column.fill)
        said.append(f"missing values are {fill}")
    if column.mean is not None:
        by = f"less {as_value(column.mean)}, over {as_value(column.deviation)}"
        said.append(f"standardised ({by})")
    return ", then ".join(said) or "left as it is"


def _telling(report: Report, looks: Looks) -> str:
    best, job = strongest(looks), report.job
    if best is None or best.iv is None or looks.bins is None:
        return ""
    columns = looks.bins.columns
    many = sum(column.iv is not None and column.iv >= TELLING for column in columns)
    name = best.column if best.party == job.party else f"{best.column} of {best.party}"
    label = "the label" if job.role == "label" else f"{job.label_party}'s label"
    among = "" if job.role == "label" else "Of its columns, "
    return (
        f"{among}{name} tells most of {label} (IV {as_figure(best.iv, 3)}); "
        f"{many} of {len(columns)} have an IV of {TELLING} or more."
    )


def _columns(count: int) -> str:
    return f"{count} column" if count == 1 else f"{count} columns"
