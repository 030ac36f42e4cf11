"""The report of tables that were looked at: sentences, drawings, what no feature party sees."""

import io
import re
from html import unescape

import pytest
from pydantic import ValidationError
from rich.console import Console
from tests.report.test_browser import CHROMIUM, opened

from isthmus.jobs import report as r
from isthmus.jobs.report.headline import tiles, verdict
from isthmus.jobs.report.looks import (
    Bin,
    BinFacts,
    BinnedColumn,
    CleanedColumn,
    CorrelationFacts,
    Looks,
    PartnerProfile,
    PcaFacts,
    ProfileColumn,
    ProfileFacts,
)
from isthmus.jobs.report.looks_charts import heat, histogram, pairs, short, strength
from isthmus.jobs.report.looks_words import what_was_done

HOSTILE = '</script><img src=x onerror="document.documentElement.dataset.hit=1"><b>{{ 7*7 }}'


def column(name="age", **changes):
    facts = {
        "rows": 80_000,
        "missing": 4_000,
        "distinct": 61,
        "mean": 41.2,
        "deviation": 12.5,
        "least": 18.0,
        "greatest": 97.0,
        "levels": (0.25, 0.5, 0.75),
        "quantiles": (31.0, 40.0, 52.0),
        "edges": (18.0, 40.0, 60.0, 97.0),
        "counts": (30_000, 40_000, 6_000),
        "outliers": 12,
        "drift_psi": 0.031,
        "drift_ks": 0.02,
    }
    return ProfileColumn(name=name, **(facts | changes))


def town(name="town"):
    return ProfileColumn(
        name=name, rows=80_000, missing=0, distinct=30, names=("north", "south"),
        counts=(40_000, 30_000), others=10_000, drift_psi=0.3,
    )  # fmt: skip


def binned(party="bob", name="age", *, told=("iv", "woe", "positives"), iv=0.41, keep=True):
    known = (("(-inf, 30]", 600, 60, -0.9), ("missing", 400, 90, 0.5))
    bins = tuple(
        Bin(
            label=label,
            rows=rows,
            positives=positives if "positives" in told else None,
            woe=woe if "woe" in told else None,
        )
        for label, rows, positives, woe in known
    )
    return BinnedColumn(
        party=party, column=name, keep=keep, iv=iv if "iv" in told else None, bins=bins
    )


def bins(*columns, tell="iv", **changes):
    facts = {"method": "quantile", "tell": tell, "least_iv": 0.0, "transform": False}
    return BinFacts(columns=columns, **(facts | changes))


def joint(**changes):
    facts = {
        "left_out": {"town": "it has categories"},
        "parties": ("bob", "bob", "alice"),
        "columns": ("age", "income", "clicks"),
        "matrix": ((1.0, 0.92, -0.31), (0.92, 1.0, 0.004), (-0.31, 0.004, 1.0)),
        "vif": (6.8, None, 1.1),
    }
    return CorrelationFacts(**(facts | changes))


AXES = PcaFacts(
    left_out={}, scaled=True, variance=(1.9, 0.8), shares=(0.63, 0.27), columns=("age", "income"),
    axes=((0.7, 0.69), (-0.1, 0.2)),
)  # fmt: skip


def looks(**changes):
    facts = {
        "cleaning": (
            CleanedColumn(column="age", fill=40.0, mean=41.0, deviation=12.0),
            CleanedColumn(column="income", low=0.0, high=250_000.0, drop=True),
        ),
        "rows_dropped": 31,
        "profile": ProfileFacts(
            least=50,
            own=(column(), town()),
            shown=(column(distinct=None, least=None, greatest=None, outliers=None),),
            partners=(PartnerProfile(party="alice", columns=(column("clicks"), town("region"))),),
        ),
        "bins": bins(binned("alice", "clicks"), binned(iv=0.012), binned(name="income", iv=0.0)),
        "correlation": joint(),
        "pca": AXES,
    }
    return Looks(**(facts | changes))


@pytest.fixture
def looked(make_report):
    """A job that learnt nothing."""
    nothing = {"model": None, "training": None, "uplift": r.Uplift(), "curves": r.Curves()}

    def make(role="label", found=None, **changes):
        return make_report(role, looks=found or looks(), metrics=r.Metrics(), **(nothing | changes))

    return make


def test_the_page_says_what_was_found(looked):
    html = r.render_html(looked())
    text = re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", html.partition("<body>")[2])))
    for said in (
        "What is in bob's columns over the 80,000 common rows",
        "31 rows took no part",
        "brought within 0 and 250,000, then rows without a value left out",
        "What alice shows",
        "clicks of alice · IV 0.410",
        "Below 0.02 next to nothing",
        "Not among them, of bob's columns: town (it has categories)",
        "age bob 6.8",
        "income bob ∞",
        "bob's part of the axes",
        "63.0%",
    ):
        assert said in text, said
    assert html.count('<svg class="hist"') == 5
    # Three columns of two bins, each with its line in the middle.
    assert html.count('<rect class="zero"') == 6
    assert 'class="cell p9">.92' in html
    assert 'class="cell n3">−.31' in html
    assert "Learning curves" not in html


def test_the_sentences_of_the_top(looked):
    report = looked()
    assert verdict(report) == (
        "bob looked at 4 columns of its own and 2 of alice's on 80,000 common rows. clicks of "
        "alice tells most of the label (IV 0.410); 1 of 3 have an IV of 0.02 or more."
    )
    tile = tiles(report).facts[-1]
    assert (tile.name, tile.value, tile.remark) == ("greatest IV", "0.410", "clicks of alice")
    assert not tiles(report).models
    mine = looks(bins=bins(binned("alice", told=("iv",))))
    assert verdict(looked("feature", mine)) == (
        "alice brought 5 columns of its own to a look at 80,000 rows that it has in common with "
        "its partners. Its table stayed here. Of its columns, age tells most of bob's label "
        "(IV 0.410); 1 of 1 have an IV of 0.02 or more."
    )
    bare = Looks(profile=ProfileFacts(least=50, own=()))
    assert verdict(looked(found=bare)) == (
        "bob looked at 4 columns of its own on 80,000 common rows."
    )


def test_the_table_in_the_terminal(looked):
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(r.summary_table(looked()))
    text = console.export_text()
    for said in ("columns here", "columns of alice", "greatest IV", "0.410 (clicks of alice)"):
        assert said in text


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (bins(binned("bob", told=("iv",))), "the bins of others"),
        (bins(binned("alice", told=("iv", "positives"))), "positives by bin"),
        (bins(binned("alice", told=("iv", "woe"))), "a WOE that was not to be told"),
        (bins(binned("alice", told=("iv",)), tell="keep"), "an IV that was not to be told"),
    ],
)
def test_a_feature_partys_report_tells_no_more_than_was_agreed(looked, found, said):
    with pytest.raises(ValidationError, match=f"must not hold {said}"):
        looked("feature", Looks(bins=found))


@pytest.mark.parametrize(
    ("tell", "told", "said"),
    [
        ("keep", (), "which of its columns are kept"),
        ("iv", ("iv",), "the IV of its columns"),
        ("woe", ("iv", "woe"), "the WOE of its bins"),
    ],
)
def test_a_feature_party_reads_what_it_was_told(looked, tell, told, said):
    found = Looks(bins=bins(binned("alice", told=told), tell=tell))
    html = r.render_html(looked("feature", found))
    assert f"alice has been told {said}" in html
    assert ('<svg class="woe"' in html) == (tell == "woe")
    assert "positive</th>" not in html


def test_a_matrix_that_is_not_shared(looked):
    found = Looks(correlation=CorrelationFacts(left_out={"town": "it has categories"}))
    html = r.render_html(looked("feature", found))
    assert "bob has the correlations" in html
    assert '<table class="heat">' not in html


def test_a_matrix_that_is_too_large_for_a_page(looked):
    size = 61
    matrix = tuple(tuple(1.0 if i == j else 0.01 for j in range(size)) for i in range(size))
    many = joint(
        parties=("bob",) * size, columns=tuple(f"x{i}" for i in range(size)), matrix=matrix,
        vif=(1.0,) * size,
    )  # fmt: skip
    html = r.render_html(looked(found=Looks(correlation=many)))
    assert "With 61 columns the matrix is too large" in html
    assert html.count("+0.010") == 10


def test_hostile_names_are_text(looked):
    found = looks(
        profile=ProfileFacts(
            least=50,
            own=(column(HOSTILE), town().model_copy(update={"names": (HOSTILE, "b")})),
            partners=(PartnerProfile(party="alice", columns=(column(HOSTILE),)),),
        ),
        bins=bins(binned("alice", HOSTILE)),
        correlation=joint(columns=(HOSTILE, "b", "c"), left_out={HOSTILE: "it has categories"}),
        cleaning=(CleanedColumn(column=HOSTILE, fill=HOSTILE),),
    )
    html = r.render_html(looked(found=found))
    assert "<img" not in html
    assert "{{ 7*7 }}" in html
    assert "style=" not in re.sub(r"(?s)<(script|style).*?</\1>", "", html)


def test_nothing_found_is_no_error(looked):
    empty = column(
        rows=0, missing=0, distinct=0, mean=None, deviation=None, least=None, greatest=None,
        levels=(), quantiles=(), edges=(), counts=(), drift_psi=None,
    )  # fmt: skip
    found = Looks(
        profile=ProfileFacts(
            least=50, own=(empty,), partners=(PartnerProfile(party="alice", columns=()),)
        ),
        bins=bins(),
    )
    html = r.render_html(looked(found=found))
    assert "No column of alice is shown" in html
    assert verdict(looked(found=found)).endswith("common rows.")


def test_what_stands_in_cells():
    assert [short(value) for value in (1.0, 0.999, 0.42, -0.07, -0.001, 0.0, None)] == [
        "1", "1", ".42", "−.07", ".00", ".00", "",
    ]  # fmt: skip
    assert [heat(value) for value in (1.0, -1.0, 0.04, -0.26, None)] == [
        "p10", "n10", "p0", "n3", "",
    ]  # fmt: skip
    assert [strength(iv) for iv in (0.0, 0.02, 0.2, 0.49, 0.5, None)] == [
        "next to none", "weak", "medium", "strong", "very strong: look why", "–",
    ]  # fmt: skip


def test_pairs_are_the_strongest_and_may_be_of_two_parties():
    found = pairs(joint(), "bob", across=False)
    assert [(one.first, one.second, one.value) for one in found] == [
        ("age", "income", 0.92),
        ("age", "clicks of alice", -0.31),
        ("income", "clicks of alice", 0.004),
    ]
    assert [one.value for one in pairs(joint(), "bob", across=True)] == [-0.31, 0.004]
    assert pairs(CorrelationFacts(left_out={}), "bob", across=False) == ()


def test_a_histogram_fills_its_box():
    bars = histogram(town())
    assert [bar.kind for bar in bars] == ["first", "first", "rest"]
    assert max(bar.height for bar in bars) == 28
    assert all(bar.y + bar.height == pytest.approx(28) for bar in bars)
    assert bars[-1].x + bars[-1].width <= 100


def test_rules_in_words():
    assert what_was_done(CleanedColumn(column="a")) == "left as it is"
    assert what_was_done(CleanedColumn(column="a", fill="north")) == "missing values are north"


@pytest.mark.skipif(not CHROMIUM, reason="no chromium here")
def test_a_browser_finds_no_fault(looked, tmp_path):
    page, _ = r.write_report(looked(), tmp_path)
    dom = opened(page, tmp_path)
    opening = re.search(r"<html[^>]*>", dom)[0]
    assert 'data-ok="yes"' in opening
    assert "data-error" not in opening
