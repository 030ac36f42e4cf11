"""Reports of models that are no networks: what they hold, say and draw, and never tell."""

import json
import re

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.metrics import confusion_matrix, precision_score

from isthmus.jobs import report as r
from isthmus.jobs.report.tabular import (
    CardBin,
    CardFacts,
    Coefficient,
    Fitted,
    Importance,
    PredictorShare,
    Stability,
    TreePoint,
)
from isthmus.jobs.report.tabular_charts import cutoff_charts, cutoff_rows, tree_charts
from isthmus.jobs.report.tabular_words import fitted_facts

OWN = {
    "kind": "linear",
    "family": "logistic",
    "settings": {"protocol": "vectors", "l2": 0.0, "standard_errors": True, "rounds": None},
    "seconds": 3.2,
    "coefficients": (
        Coefficient(
            column="town<b>",
            level="south",
            coefficient=-0.25,
            standard_error=0.1,
            p_value=0.0123,
        ),
        Coefficient(
            column="age",
            coefficient=0.5,
            by_deviation=1.25,
            standard_error=0.01,
            p_value=1e-30,
        ),
    ),
    "rounds": 6,
    "converged": True,
    "shown": 5,
}
LABELS = {
    "intercept": -1.5,
    "loss": 0.43,
    "shares": (PredictorShare(party="alice", deviation=0.8),),
    "stability": Stability(psi=0.0123),
    "curve": (TreePoint(trees=1, training=0.5, validation=0.6),),
    "importance": (Importance(party="alice", column="#1", splits=3, gain=4.0),),
    "card": CardFacts(base=523.0, points=600, odds=50, double=20, bins=()),
}


def no_network(report, **changes):
    return report.model_copy(update={"model": None, "training": None, **changes})


def body(report):
    html = r.render_html(report)
    return html[html.index("<body>") : html.index('<script type="application/json"')]


def test_the_page_of_a_linear_model(label_report):
    shares = (
        PredictorShare(party="alice", deviation=0.8),
        PredictorShare(party="bob", deviation=2),
    )
    fitted = Fitted(**OWN, intercept=-1.5, shares=shares, stability=Stability(psi=0.0123))
    page = body(no_network(label_report, fitted=fitted))
    for said in (
        *("The model", "A logistic regression", "town&lt;b&gt; = south", "−0.25", "1.25"),
        *("0.0123", "&lt; 0.0001", "intercept", "−1.5", "encrypted gradients"),
    ):
        assert said in page, said
    assert "town<b>" not in page


def test_the_page_of_trees_draws_their_losses(label_report):
    fitted = Fitted(
        kind="trees",
        family="binary",
        settings={"trees": 9, "own_trees": 0, "subsample": 1.0},
        seconds=1.0,
        trees=1,
        curve=(
            TreePoint(trees=1, training=0.5, validation=0.6),
            TreePoint(trees=2, training=0.4, validation=0.7),
        ),
        importance=(Importance(party="alice", column="#1", splits=3, gain=4.0),),
    )
    report = no_network(label_report, fitted=fitted)
    (chart,) = tree_charts(report)
    assert [line.values for line in chart.series] == [(0.5, 0.4), (0.6, 0.7)]
    assert chart.mark == 1.0
    assert "trees" in [one["name"] for one in charts(report)]
    assert "share of all gain" in body(report)
    names = [name for name, _ in fitted_facts(report)]
    assert "trees at most" in names
    assert "share of rows a tree" not in names


def charts(report):
    return json.loads(re.search(r'(?s)id="charts">(.*?)</script>', r.render_html(report))[1])


def test_the_page_of_a_scorecard(feature_report):
    bins = (
        CardBin(column="age", bin="(-inf, 30]", points=-12),
        CardBin(column="age", bin="(30, inf)", points=7),
    )
    card = CardFacts(points=600, odds=50, double=20, bins=bins)
    page = body(no_network(feature_report, fitted=Fitted(**OWN, card=card)))
    assert page.count('<th scope="row">age</th>') == 2  # coefficients, and the card's first bin
    for said in ("Scorecard", "(30, inf)", "−12", "alice has the points of its own"):
        assert said in page


@pytest.mark.parametrize(("columns", "shown"), [(2, 5), (2, 1), (1, 1)])
def test_a_feature_party_reads_what_it_has_shown(feature_report, columns, shown):
    own = OWN | {"coefficients": OWN["coefficients"][:columns], "shown": shown}
    page = body(no_network(feature_report, fitted=Fitted(**own)))
    assert f"has seen {shown} combination{'s' if shown > 1 else ''} of" in page
    assert ("that is the column itself" in page) == (columns == 1)


@pytest.mark.parametrize("field", LABELS)
def test_a_feature_partys_report_holds_nothing_that_is_fitted_to_labels(feature_report, field):
    kept = {"fitted": Fitted(**OWN)}
    facts = feature_report.model_dump() | {"model": None, "training": None}
    assert r.Report(**facts | kept).fitted is not None
    told = {"fitted": Fitted(**OWN, **{field: LABELS[field]})}
    with pytest.raises(ValidationError, match="fitted to labels"):
        r.Report(**facts | told)


def test_a_feature_partys_report_holds_no_lorenz_curve(feature_report):
    lorenz = r.LorenzCurves(federation=(r.LorenzPoint(rows=0, total=0),))
    with pytest.raises(ValidationError, match="ROC or calibration"):
        r.Report(**feature_report.model_dump() | {"lorenz": lorenz})


def test_cut_offs_are_those_of_scikit_learn():
    rng = np.random.default_rng(3)
    scores = np.round(rng.random(2000), 2)
    labels = rng.random(2000) < scores**2
    curves = r.curves_of(labels, scores)
    assert sum(group.rows for group in curves.lift) == 2000
    for cut in curves.cutoffs:
        called = scores >= cut.threshold
        matrix = confusion_matrix(labels, called, normalize="true")
        assert cut.recall == pytest.approx(matrix[1, 1])
        assert cut.false_positive_rate == pytest.approx(matrix[0, 1])
        assert cut.precision == pytest.approx(precision_score(labels, called))
        assert cut.called == pytest.approx(called.mean())
    gaps = [cut.recall - cut.false_positive_rate for cut in curves.cutoffs]
    best = curves.cutoffs[int(np.argmax(gaps))]
    assert best.threshold == curves.ks_at


def test_the_table_of_cut_offs_counts_all_samples(label_report):
    figures = label_report.metrics.federation
    rows = cutoff_rows(label_report)
    assert len(rows) >= 5
    assert sum(row.is_ks for row in rows) == 1
    for row in rows:
        counts = [
            int(text.replace(",", "")) for text in (row.found, row.wrong, row.missed, row.left)
        ]
        assert sum(counts) == figures.rows
        assert counts[0] + counts[2] == figures.positives
    page = body(label_report)
    assert "Cut-offs, gains and lift" in page
    assert page.count(">KS</td>") == 1


def test_a_party_that_does_not_know_curves_draws_none(feature_report):
    assert cutoff_charts(feature_report) == ()
    assert cutoff_rows(feature_report) == ()
    assert "Cut-offs" not in body(feature_report)


def test_gains_end_with_all_positives(label_report):
    named = {chart.name: chart for chart in cutoff_charts(label_report)}
    for line in named["gains"].series:
        assert line.values[0] == 0.0
        assert line.values[-1] == pytest.approx(1.0)
        assert all(a <= b for a, b in zip(line.values, line.values[1:], strict=False))
    assert named["ks"].mark is not None
    assert all(len(line.values) == 10 for line in named["lift"].series)


@pytest.mark.parametrize(
    ("metric", "said", "hint"),
    [
        ("RMSE", "a root mean square error of 0.3959", "less is better"),
        ("Gini", "a Gini index of 0.3959; bob alone reaches 0.4147", "more is better"),
    ],
)
def test_the_top_of_the_page_where_a_number_is_learnt(label_report, metric, said, hint):
    figures = {"label_party_alone": 0.4147, "federation": 0.3959}
    target = r.TargetFigures(name="claims", kind="real", metric=metric, **figures)
    report = no_network(
        label_report, fitted=Fitted(**OWN), metrics=r.Metrics(), uplift=r.Uplift(),
        curves=r.Curves(), targets=(target,),
    )  # fmt: skip
    page = body(report)
    top = page[: page.index("</header>")]
    assert said in top
    assert f"{metric} of claims on held-out test samples: {hint}" in top
    assert top.count("0.3959") == 2
    assert "AUC" not in top
