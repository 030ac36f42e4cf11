"""Made-up tables of several parties with gaps and categories, and models of them."""

import numpy as np
import polars as pl

from isthmus.session import Session, run_parties
from isthmus.trees import TreeOptions, fit, predict

ROWS = 700
PARTS = {"alice": ["x0", "x1"], "bob": ["x2", "x3", "kind"], "carol": ["x4", "x5"]}
OPTIONS = TreeOptions(trees=4, depth=4, bins=12, min_rows=15)


def whole_table(rows=ROWS, seed=0):
    """Columns x0 to x5 with gaps, `kind` with categories, and a score that they make."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 6))
    x[:, 1] = np.round(x[:, 1])
    x[rng.random(x.shape) < 0.1] = np.nan
    x[:3, 5] = np.nan
    kind = rng.choice(list("abcdefgh"), rows, p=[0.3, 0.2, 0.15, 0.1, 0.1, 0.1, 0.04, 0.01])
    known = np.nan_to_num(x)
    score = known[:, 0] + known[:, 3] * known[:, 4] + 1.5 * (kind == "b") + np.isnan(x[:, 2])
    table = pl.DataFrame({f"x{i}": x[:, i] for i in range(6)}).with_columns(kind=pl.Series(kind))
    gaps = pl.Series(rng.random(rows) < 0.08)
    return table.with_columns(kind=pl.when(gaps).then(None).otherwise(pl.col("kind"))), score


TABLE, SCORE = whole_table()
Y = (SCORE + np.random.default_rng(1).normal(size=ROWS) > 0.8).astype(float)


def label_side(session, *, table, labels, options, **given):
    model = fit(session, table, labels, options, **given)
    return model, predict(session, model, table)


def split_models(options, labels=Y, parts=PARTS, table=TABLE, **given):
    """Each party's part and the label party's predictions; alice is the label party."""

    def program(session):
        own = table.select(parts[session.me]) if parts[session.me] else None
        if session.is_label_party:
            return label_side(session, table=own, labels=labels, options=options, **given)
        model = fit(session, own, options=options)
        return model, predict(session, model, own)

    found = run_parties(dict.fromkeys(parts, program), label_party="alice", seed=5)
    return {party: found[party][0] for party in parts}, found["alice"][1]


def pooled_model(options, labels=Y, parts=PARTS, table=TABLE, **given):
    """The same columns in one table, in the parties' order."""
    session = Session(me="alice", parties=("alice",), label_party="alice", seed=5)
    own = table.select([name for names in parts.values() for name in names])
    return label_side(session, table=own, labels=labels, options=options, **given)
