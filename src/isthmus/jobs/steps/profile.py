"""Step `profile`: what is in the columns of each party; partners see what the owner lets them.

Files: `own.json` (the own columns in full), `shown.json` (what partners see of them, unless there
is noise, which is drawn for them alone), `partners/<party>.json` (what partners showed), and where
the alignment leaves rows over `drift.json` (how the aligned ones differ from them).
"""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from isthmus.files import write_json
from isthmus.jobs import tabular
from isthmus.jobs.context import Context
from isthmus.jobs.naming import Naming
from isthmus.jobs.steps import align
from isthmus.stats import ProfilePolicy, drift, exchange_profiles, profile, shown_profile

OWN = "own.json"
SHOWN = "shown.json"
DRIFT = "drift.json"
FOLDER = "partners"
"""Of what partners showed, by their names."""


def run(context: Context) -> None:
    """Profile with the partners. Raises DataError, LinkError, StorageError."""
    wanted = context.spec.profile
    assert wanted is not None
    folder, table = context.step("profile"), tabular.load(context)
    policy = ProfilePolicy(least=wanted.least, bins=wanted.bins, epsilon=wanted.epsilon)
    found = exchange_profiles(context.session, Naming.of(context).shown(table), policy)
    profile(table, bins=wanted.bins).save(folder.file(OWN))
    if wanted.epsilon is None:
        shown_profile(table, policy).save(folder.file(SHOWN))
    folder.file(FOLDER).mkdir(exist_ok=True)
    for partner in context.session.links:
        found[partner].save(folder.file(FOLDER) / f"{partner}.json")
    _write_drift(context)
    context.log.info("profiled", columns=table.width)


def _write_drift(context: Context) -> None:
    whole, rows = tabular.read_cleaned(context), align.load_rows(context)
    aligned = np.unique(rows[rows >= 0])
    if (kept := tabular.rows_kept(context.job, context.me)) is not None:
        # Rows that could not be aligned differ by what leaves them out.
        whole, aligned = whole[kept], np.searchsorted(kept, aligned)
    if whole.width and len(aligned) < whole.height:
        found = drift(whole, aligned)
        write_json(context.step("profile").file(DRIFT), [asdict(column) for column in found])
