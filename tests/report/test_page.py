import hashlib
import json
import re
import resource
from pathlib import Path

import pytest

from isthmus.errors import StorageError
from isthmus.jobs import report as r
from isthmus.jobs.report import page as page_module

VENDOR = Path(page_module.__file__).parent / "vendor"
HOSTILE = '</script><img src=x onerror="document.documentElement.dataset.hit=1"><b>&amp;{{ 7*7 }}'


def test_nothing_on_the_page_points_to_a_network(label_report):
    html = r.render_html(label_report)
    banner = "/*! https://github.com/leeoniya/uPlot (v1.6.32) */"
    assert banner in html
    assert "://" not in html.replace(banner, "")
    assert not re.search(r"<(link|iframe|img|object|embed|base|form|a)\b", html)
    assert not re.search(r"\b(src|href|action)\s*=", re.sub(r"(?s)<script.*?</script>", "", html))
    assert not re.search(r"@import|url\(", html)


def test_the_policy_lets_the_pages_own_code_run_and_nothing_else(label_report):
    html = r.render_html(label_report)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', html)[1]
    policy = policy.replace("&#39;", "'")
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert policy.count("sha256-") == 4
    assert html.index("Content-Security-Policy") < html.index("<style")


def test_hostile_names_are_text(make_report, make_job, label_report):
    parties = (r.Party(name=HOSTILE, role="label"), r.Party(name="alice", role="feature"))
    features = (r.FeatureFacts(name=HOSTILE, kind=HOSTILE, table_rows=1),)
    html = r.render_html(
        make_report(
            job=make_job(HOSTILE, name=HOSTILE, parties=parties, hash=HOSTILE),
            data=label_report.data.model_copy(update={"features": features}),
            notes=(HOSTILE,),
            warnings=(HOSTILE,),
        )
    )
    assert "<img" not in html
    assert html.count("</script>") == 3
    assert "{{ 7*7 }}" in html
    charts = re.search(r'(?s)id="charts">(.*?)</script>', html)[1]
    assert json.loads(charts)[2]["series"][0]["label"] == f"{HOSTILE} alone"


SEQUENCES = (
    r.SequenceFacts(
        name="Liked",
        length=50,
        of="MovieID",
        by="UserID",
        where="Rating > 3 <b>",
        share="MovieID",
        events_used=41_321,
        mean_items=31.26,
        empty=0.021,
    ),
    r.SequenceFacts(name=HOSTILE, length=9, mean_items=0.0, empty=1.0),
)


def test_sequences_are_described_where_there_are_any(make_report, label_report):
    data = label_report.data.model_copy(update={"sequences": SEQUENCES})
    html = r.render_html(make_report(data=data))
    row = re.search(r'(?s)<th scope="row">Liked</th>(.*?)</tr>', html)[1]
    shown = re.sub(r"<[^>]+>", "|", row)
    for words in (
        "MovieID, vectors of MovieID",
        "of the same UserID, where |Rating &gt; 3 &lt;b&gt;",
        "|50|",
        "|31.3|",
        "|2.1%|",
        "|41,321|",
    ):
        assert words in shown
    assert "as the column holds them" in html
    assert "<img" not in html
    assert "samples without any" not in r.render_html(label_report)


def test_every_chart_has_axes_a_legend_a_caption_and_its_numbers(label_report):
    html = r.render_html(label_report)
    charts = json.loads(re.search(r'(?s)id="charts">(.*?)</script>', html)[1])
    assert [chart["name"] for chart in charts] == [
        *("loss", "auc", "roc", "calibration"),
        *("ks", "gains", "precision", "lift"),
    ]
    for chart in charts:
        assert chart["x_label"]
        assert chart["y_label"]
        assert all(series["label"] for series in chart["series"])
        assert all(len(series["values"]) == len(chart["x"]) for series in chart["series"])
    figures = re.findall(r"(?s)<figure>.*?</figure>", html)
    assert len(figures) == len(charts)
    for figure in figures:
        assert "<figcaption>" in figure
        assert "<details>" in figure
        assert figure.count("<tr>") > 5


def test_the_page_says_what_a_manager_asks(label_report):
    html = r.render_html(label_report)
    top = html[html.index("<header>") : html.index("</header>")]
    metrics = label_report.metrics
    for figures in (metrics.label_party_alone, metrics.federation, metrics.pooled):
        assert f"{figures.auc:.4f}" in top
    assert "The gain is more than chance would explain." in top
    assert "644 MB" in top
    assert "80,000" in top


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(-0.01, 0.03, "may be chance"), (-0.03, -0.01, "does worse")],
)
def test_the_verdict_does_not_flatter(low, high, said, make_report):
    interval = r.Interval(mean=(low + high) / 2, low=low, high=high, level=0.95)
    html = r.render_html(make_report(uplift=r.Uplift(over_label_party_alone=interval)))
    assert said in html
    assert "more than chance would explain." not in html or low < high < 0


@pytest.mark.parametrize(("worse", "said"), [(True, True), (False, False)])
def test_the_verdict_tells_of_a_worse_log_loss(worse, said, make_report, label_report):
    alone = label_report.metrics.label_party_alone
    loss = alone.log_loss + (0.0123 if worse else -0.0123)
    federation = label_report.metrics.federation.model_copy(update={"log_loss": loss})
    metrics = label_report.metrics.model_copy(update={"federation": federation})
    html = r.render_html(make_report(metrics=metrics))
    assert (f"a log loss of {loss:.4f} against {alone.log_loss:.4f}" in html) is said


def test_the_page_says_what_positive_is_to_all_parties(label_report, feature_report):
    assert "A sample is positive where <code>Rating &gt; 3</code> holds." in r.render_html(
        label_report
    )
    assert "whether <code>Rating &gt; 3</code> holds" in r.render_html(feature_report)


def test_all_settings_are_on_the_page(feature_report):
    html = r.render_html(feature_report)
    for name, value in (
        ("learning rate of embeddings", "0.004"),
        ("weight decay", "0"),
        ("learning rate over time", "cosine"),
        ("best epoch by validation", "AUC"),
        ("epochs of patience", "3"),
        ("layers of each bottom", "64, 32"),
        ("layers of the top", "none"),
    ):
        assert f"<dt>{name}</dt><dd>{value}</dd>" in html
    own = {"embedding_learning_rate": None}
    training = feature_report.training.model_copy(update={"hyper_parameters": own})
    html = r.render_html(feature_report.model_copy(update={"training": training}))
    assert "<dt>learning rate of embeddings</dt><dd>0.001</dd>" in html
    assert "all parties finish a batch before the next one begins" in html


def test_settings_of_retrieval_are_words(label_report):
    chosen = {"retrieval.log_q": True, "retrieval.item_fields": ("MovieID", "Genres")}
    model = label_report.model.model_copy(update={"hyper_parameters": chosen})
    html = r.render_html(label_report.model_copy(update={"model": model}))
    assert "<dt>corrected for popularity</dt><dd>yes</dd>" in html
    assert "<dt>what describes an item</dt><dd>MovieID, Genres</dd>" in html


@pytest.mark.parametrize(
    ("chosen", "named", "said"),
    [
        ("pipeline:2", "auto, which chose pipeline:2", "the first steps tried several schedules"),
        (None, "auto", "so none was chosen"),
    ],
)
def test_an_auto_that_did_not_choose_does_not_say_it_did(chosen, named, said, label_report):
    changes = {"schedule": "auto", "chosen_schedule": chosen}
    training = label_report.training.model_copy(update=changes)
    html = r.render_html(label_report.model_copy(update={"training": training}))
    assert f"<dt>schedule</dt><dd>{named}</dd>" in html
    assert said in html


@pytest.mark.parametrize(
    ("rows", "positives", "said"),
    [
        (99, 40, ["Only 99 test samples:"]),
        (1000, 19, ["Only 19 positive and 981 negative test samples:"]),
        (1000, 981, ["Only 981 positive and 19 negative test samples:"]),
        (50, 3, ["Only 50 test samples, 3 positive"]),
        (50, None, ["Only 50 test samples"]),
        (100, 20, []),
    ],
)
def test_few_test_samples_are_warned_of(rows, positives, said, label_report):
    update = {"rows": rows, "positives": positives}
    figures = label_report.metrics.federation.model_copy(update=update)
    (*warnings,) = r.cautions(r.Metrics(federation=figures))
    assert len(warnings) == len(said)
    assert all(text in warning for text, warning in zip(said, warnings, strict=True))
    assert r.cautions(r.Metrics()) == ()


def test_pooled_and_federation_are_told_apart(label_report, make_report):
    html = r.render_html(label_report)
    charts = json.loads(re.search(r'(?s)id="charts">(.*?)</script>', html)[1])
    for chart in (one for one in charts[2:] if one["name"] != "ks"):
        look = {line["label"]: (line["wide"], line["dashed"]) for line in chart["series"]}
        assert look["federation"] == (True, False)
        assert look["pooled model"] == (False, True)
    metrics = label_report.metrics
    same = metrics.model_copy(update={"pooled": metrics.federation})
    assert "their AUCs are the same to 4 digits" in r.render_html(make_report(metrics=same))


def test_a_feature_partys_page_tells_no_labels(feature_report):
    html = r.render_html(feature_report)
    body = html[html.index("<body>") : html.index('<script type="application/json"')]
    for word in ("log loss", "positive", "calibration", "bob alone", "pooled"):
        assert word not in body
    assert "Time by epoch" in body
    assert "UserID" in body


def test_a_feature_party_sees_what_was_shared(make_report, label_report):
    shared = label_report.metrics.federation.model_copy(update={"positives": None})
    html = r.render_html(make_report("feature", metrics=r.Metrics(federation=shared)))
    assert f"{shared.auc:.4f}" in html
    assert "<h2>Accuracy</h2>" in html


def test_the_least_report_is_a_page(make_report, feature_report, label_report):
    bare = feature_report.training.model_copy(update={"curve": (), "best_epoch": None})
    html = r.render_html(
        make_report("feature", training=bare, traffic=r.Traffic(), phases=(), seconds=0)
    )
    assert 'id="charts">[]</script>' in html
    alone = r.Metrics(federation=label_report.metrics.federation)
    html = r.render_html(make_report(metrics=alone, uplift=r.Uplift(), curves=r.Curves()))
    assert "bob alone" not in html


def test_with_three_parties_each_topic_names_its_partner(make_report, make_job):
    parties = tuple(
        r.Party(name=name, role=role)
        for name, role in [("alice", "feature"), ("bob", "label"), ("carol", "feature")]
    )
    html = r.render_html(make_report(job=make_job("bob", parties=parties)))
    assert ">partner</th>" in html
    assert "alice and carol add columns" in html


def test_vendored_files_are_those_that_are_noted():
    for name in ("uPlot.iife.min.js", "uPlot.min.css"):
        digest = hashlib.sha256((VENDOR / "uplot" / name).read_bytes()).hexdigest()
        assert digest in (VENDOR / "README.md").read_text()
    assert "MIT License" in (VENDOR / "uplot" / "LICENSE").read_text()


def test_a_full_disk_leaves_no_half_page(label_report, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(StorageError, match=r"report\.json"):
            r.write_report(label_report, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []
    page, data = r.write_report(label_report, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [page.name, data.name]


def test_guards_have_a_table_with_what_this_party_can_know(make_report, label_report, make_guards):
    def table(**changes):
        guards = make_guards(**changes)
        training = label_report.training.model_copy(update={"guards": guards})
        html = r.render_html(make_report(training=training))
        return html[html.index("What the guards did") : html.index("Where the time went")]

    rows = re.findall(r"(?s)<tr>(.*?)</tr>", table())[1:]
    cells = [re.findall(r"(?s)<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]
    assert cells == [
        ["alice", "cut tensors", "<code>int8</code>", "yes", "40", "400 kB", "100 kB", "4", "–"],
        ["alice", "gradients", "<code>zeros</code>", "no", "40", "400 kB", "150 kB", "2.67", "0"],
    ]
    assert "too large" not in table()
    assert "7 values were too large" in table(saturated=7)
    assert "<img" not in table(party=HOSTILE, guard=HOSTILE)
    assert "What the guards did" not in r.render_html(label_report)
