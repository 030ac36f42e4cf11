"""Made-up data and parties in threads, for the tests of this folder."""

import numpy as np

from isthmus.linear import fit
from isthmus.session import run_parties


def columns(rows, count, seed=0):
    """Correlated columns of different means, and the generator for what comes next."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(rows, count)) @ rng.normal(size=(count, count))
    return mixed / 3 + rng.normal(size=count), rng


def fitted(tables, labels, options, **label_side):
    """Results by party; the first is the label party."""
    first = next(iter(tables))

    def program(session):
        if session.me == first:
            return fit(session, tables[first], labels, options, **label_side)
        return fit(session, tables[session.me], options=options)

    found = run_parties(dict.fromkeys(tables, program), label_party=first)
    return {party: found[party] for party in tables}


def coefficients(results):
    return np.concatenate([result.coefficients for result in results.values()])


def information(x, curvature):
    """The pooled covariance with an intercept in front, by hand."""
    design = np.column_stack([np.ones(len(x)), x])
    return np.linalg.inv((design.T * curvature) @ design)
