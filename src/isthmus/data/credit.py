"""A made-up bank and a made-up shop with customers in common, for the demo of a scorecard.

Whether a loan fails depends on what a customer can pay and on how orderly he is. The bank's columns
show much of the first and little of the second, the shop's the other way round.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isthmus.data.overlap import overlapping
from isthmus.data.tables import write_table

Floats = NDArray[np.float64]
KEY = "customer"
_HOMES = ("rent", "own", "mortgage", "family")
_CHANNELS = ("app", "web", "store")


def write_credit(out: Path, *, seed: int, customers: int = 12_000, missing: float = 0.1) -> int:
    """Write `bank/loans.csv` and `shop/customers.csv` under `out`; gives the customers in common.

    Args:
        out: a folder.
        seed: of everything.
        customers: that there are.
        missing: share of each side's customers whom the other does not know.

    Raises:
        StorageError: a file cannot be written.
    """
    rng = np.random.default_rng(seed)
    means, order = rng.normal(size=(2, customers))
    keys = pl.Series(KEY, [f"c{number:06d}" for number in rng.permutation(10**6)[:customers]])
    here, there, common = overlapping(customers, missing, rng)
    bank, shop = _bank(keys, means, order, rng), _shop(keys, means, order, rng)
    write_table(bank[here], out / "bank" / "loans.csv")
    write_table(shop[there], out / "shop" / "customers.csv")
    return common


def _bank(keys: pl.Series, means: Floats, order: Floats, rng: np.random.Generator) -> pl.DataFrame:
    n = len(keys)
    income = np.exp(10.3 + 0.45 * means + 0.25 * rng.normal(size=n))
    loan = np.exp(8.6 + 0.2 * means + 0.6 * rng.normal(size=n))
    years = np.clip(6 + 3 * means + 4 * rng.normal(size=n), 0, 40)
    late = rng.poisson(np.exp(-1.2 - 0.5 * order))
    log_odds = -2.1 - 0.9 * means - 1.0 * order + 0.5 * (np.log(loan) - 8.6)
    # An income that is not stated says something by itself.
    silent = rng.random(n) < 1 / (1 + np.exp(3.0 + 0.6 * means))
    home = np.array(_HOMES)[_choice(np.stack([-means, means, 0.3 * means, -0.2 * means]), rng)]
    return pl.DataFrame(
        {
            KEY: keys,
            "income": pl.Series(np.where(silent, np.nan, income.round(-2))).fill_nan(None),
            "loan": loan.round(-1),
            "years_employed": years.round(1),
            "late_payments": late,
            "home": home,
            "defaulted": (rng.random(n) < 1 / (1 + np.exp(-log_odds))).astype(np.int8),
        }
    )


def _shop(keys: pl.Series, means: Floats, order: Floats, rng: np.random.Generator) -> pl.DataFrame:
    n = len(keys)
    orders = rng.poisson(np.exp(1.6 + 0.3 * means))
    returned = rng.beta(1.5 * np.exp(-0.5 * order), 6, size=n)
    basket = np.exp(3.7 + 0.35 * means + 0.4 * rng.normal(size=n))
    reminders = rng.poisson(np.exp(-0.7 - 0.8 * order))
    days = np.exp(3.2 - 0.15 * order + 0.9 * rng.normal(size=n))
    never = orders == 0
    channel = np.array(_CHANNELS)[_choice(np.stack([-0.3 * order, 0.2 * order, 0 * order]), rng)]
    return pl.DataFrame(
        {
            KEY: keys,
            "orders": orders,
            "basket": _unless(never, basket.round(2)),
            "returned": _unless(never, returned.round(3)),
            "days_since_order": _unless(never, days.round()),
            "reminders": reminders,
            "channel": channel,
        }
    )


def _choice(weights: Floats, rng: np.random.Generator) -> NDArray[np.int64]:
    """For each column of `weights` a row, drawn by softmax (the Gumbel trick)."""
    found: NDArray[np.int64] = (weights + rng.gumbel(size=weights.shape)).argmax(axis=0)
    return found


def _unless(nothing: NDArray[np.bool_], values: Floats) -> pl.Series:
    return pl.Series(np.where(nothing, np.nan, values)).fill_nan(None)
