"""Scorecards: points from WOE and coefficients, scores over several parties, reasons."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression

from isthmus.errors import BadMessage, DataError, IsthmusError, JobError
from isthmus.session import Session, run_parties
from isthmus.stats import (
    BinningOptions,
    Disclosure,
    Scale,
    Scorecard,
    fit_woe,
    score_rows,
    scorecard,
)
from isthmus.stats.wire import shown_names

pytest.importorskip("tenseal")

RNG = np.random.default_rng(9)
ROWS = 1500
OWN = pl.DataFrame({"a": RNG.normal(size=ROWS), "b": RNG.normal(size=ROWS)})
THEIRS = pl.DataFrame({"c": np.where(RNG.random(ROWS) < 0.1, np.nan, RNG.normal(size=ROWS))})
LABEL = (
    OWN["a"].to_numpy() - THEIRS["c"].fill_nan(1.0).to_numpy() + RNG.normal(size=ROWS) > 1
).astype(int)
OPTIONS = BinningOptions(bins=5)


@pytest.fixture(scope="module")
def fits():
    told = Disclosure(tell="woe")
    return run_parties(
        {
            "bob": lambda s: fit_woe(s, OWN, label=LABEL, options=OPTIONS, disclosure=told),
            "alice": lambda s: fit_woe(s, THEIRS, options=OPTIONS),
        },
        label_party="bob",
    )


@pytest.fixture(scope="module")
def model(fits):
    wide = np.hstack([fits["bob"].transform(OWN), fits["alice"].transform(THEIRS)])
    return LogisticRegression().fit(wide, LABEL), wide


def cards(fits, model, **scale):
    fitted = model[0]
    a, b, c = fitted.coef_[0]
    chosen = Scale(**scale)
    bob = scorecard(
        fits["bob"], {"a": a, "b": b}, scale=chosen, intercept=float(fitted.intercept_[0])
    )
    return bob, scorecard(fits["alice"], {"c": c}, scale=chosen)


def run(cards, table=THEIRS, **options):
    programs = {
        "bob": lambda s: score_rows(s, cards[0], OWN, **options),
        "alice": lambda s: score_rows(s, cards[1], table, **options),
    }
    return run_parties(programs, label_party="bob")


def test_scores_are_the_models_log_odds_on_the_scale(fits, model):
    found = run(cards(fits, model, whole=False))
    assert found["alice"] is None
    log_odds = -model[0].decision_function(model[1])
    expected = 600 + 20 * np.log2(np.exp(log_odds) / 50)
    np.testing.assert_allclose(found["bob"].scores, expected, atol=1e-9)


def test_whole_points_are_whole_and_near(fits, model):
    whole, exact = (cards(fits, model, whole=w) for w in (True, False))
    found, near = (run(one)["bob"].scores for one in (whole, exact))
    assert (found == np.rint(found)).all()
    assert np.abs(found - near).max() <= 2
    assert all(float(p).is_integer() for column in whole[0].columns for p in column.points)


def test_reasons_are_the_columns_that_cost_the_most(fits, model):
    both = cards(fits, model, whole=False)
    found = run(both, reasons=2)["bob"].reasons
    points = np.hstack([both[0].points(OWN), both[1].points(THEIRS)])
    lost = points.max(axis=0) - points
    names = np.array(["a", "b", "c"])
    for row in range(0, ROWS, 100):
        ours = found.filter(pl.col("row") == row).sort("rank")
        order = [i for i in np.argsort(-lost[row], kind="stable")[:2] if lost[row, i] > 0]
        assert ours["column"].to_list() == names[order].tolist()
        np.testing.assert_allclose(ours["lost"], lost[row, order])
        assert ours["party"].to_list() == ["alice" if i == 2 else "bob" for i in order]
    assert run(both, reasons=0)["bob"].reasons.height == 0
    numbered = run(both, names=False)["bob"].reasons
    assert set(numbered["column"]) == {"a", "b", "0"}


def test_a_card_is_printed_and_kept(fits, model):
    both = cards(fits, model)
    assert both[1].base is None
    shown = both[0].table()
    assert shown.columns == ["column", "bin", "points"]
    assert shown.height == sum(column.bins.count for column in both[0].columns)
    for card in both:
        assert Scorecard.from_json(card.to_json()) == card
    with pytest.raises(DataError, match="no scorecard"):
        Scorecard.from_json("[]")


def test_values_without_a_bin_cost_and_bring_nothing(fits, model):
    card = cards(fits, model)[0]
    assert card.points({"a": [np.nan], "b": [0.0]})[0, 0] == 0
    with pytest.raises(DataError, match="no column 'b'"):
        card.points({"a": [0.0]})


def test_what_makes_no_card(fits, model):
    with pytest.raises(JobError, match="no column 'z' was binned") as unknown:
        scorecard(fits["alice"], {"z": 1.0}, scale=Scale())
    assert unknown.value.mend == "It has: c."
    untold = replace(fits["alice"], columns=(replace(fits["alice"].columns[0], woe=None),))
    with pytest.raises(JobError, match="no WOE of the column 'c'"):
        scorecard(untold, {"c": 1.0}, scale=Scale())
    for setting in ({"pdo": 0}, {"base_odds": -1}, {"base_points": np.nan}):
        with pytest.raises(JobError, match="must be above 0"):
            Scale(**setting)
    bob, alice = cards(fits, model)
    alone = Session(me="bob", parties=("bob",), label_party="bob")
    with pytest.raises(JobError, match="base of the card belongs") as misplaced:
        score_rows(alone, alice, THEIRS)
    assert "intercept" in misplaced.value.mend
    with pytest.raises(JobError, match="-1 reasons"):
        score_rows(alone, bob, OWN, reasons=-1)
    with pytest.raises(DataError, match="rows"):
        run((bob, alice), table=THEIRS[:10])


POINTS = {
    "names": shown_names(["x"]),
    "points": np.zeros(ROWS),
    "columns": np.zeros((ROWS, 1), np.int64),
    "lost": np.ones((ROWS, 1)),
}


@pytest.mark.parametrize(
    "change",
    [
        {"points": np.zeros(3)},
        {"names": np.frombuffer(b"[" * 2000, np.uint8)},
        {"names": np.frombuffer(b'["x"', np.uint8)},
        {"names": np.zeros(2)},
        {"points": np.full(ROWS, np.inf)},
        {"columns": POINTS["columns"] + 1},
        {"columns": POINTS["columns"] - 2},
        {"lost": -POINTS["lost"]},
        {"columns": POINTS["columns"] - 1},
    ],
)
def test_impossible_points_are_refused(fits, model, change):
    card = cards(fits, model)[0]
    errors = []

    def honest(session):
        try:
            score_rows(session, card, OWN, reasons=1)
        except IsthmusError as error:
            errors.append(error)
            raise

    def hostile(session):
        same = {"rows": ROWS, "columns": 1, "same": {"reasons": 1}}
        session.hub.send("score.hello", header=same)
        session.hub.send("score.points", {**POINTS, **change})
        session.hub.recv("never")

    with pytest.raises(IsthmusError):
        run_parties({"hostile": hostile, "honest": honest}, label_party="honest")
    assert isinstance(errors[0], BadMessage)
