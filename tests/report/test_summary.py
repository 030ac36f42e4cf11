import io

import pytest
from pydantic import ValidationError
from rich.console import Console

from isthmus.jobs import report as r


def shown(report):
    console = Console(file=io.StringIO(), width=100, color_system=None)
    console.print(r.summary_table(report))
    return console.file.getvalue()


def test_the_label_partys_table_compares_the_models(label_report):
    text = shown(label_report)
    for figures in (label_report.metrics.federation, label_report.metrics.pooled):
        assert f"{figures.auc:.4f}" in text
        assert f"{figures.log_loss:.4f}" in text
    for words in ("bob alone", "federation", "pooled model", "80,000", "644 MB", "38 s", "(95%)"):
        assert words in text


def test_a_feature_partys_table_says_what_it_knows(feature_report):
    text = shown(feature_report)
    assert "80,000" in text
    assert "alone" not in text
    assert "gained" not in text
    assert "AUC" not in text


def test_what_guards_saved_is_told_where_there_are_any(make_report, label_report, make_guards):
    training = label_report.training.model_copy(update={"guards": make_guards()})
    text = shown(make_report(training=training))
    (line,) = (line for line in text.splitlines() if "times fewer by guards" in line)
    assert "3.2" in line
    assert "times fewer" not in shown(label_report)


def test_names_are_not_markup(make_report, make_job):
    text = shown(make_report(job=make_job("bob", name="[bold red]job[/nonsense]")))
    assert "[bold red]job[/nonsense]" in text


def test_what_is_out_of_the_ordinary_is_named(make_report, label_report):
    assert "schedule" not in shown(label_report)
    changed = {"schedule": "auto", "chosen_schedule": "pipeline:4"}
    secure = dict(label_report.training.hyper_parameters) | {"secure_sum": "32 bits"}
    training = label_report.training.model_copy(update=changed | {"hyper_parameters": secure})
    text = shown(make_report(training=training))
    assert "pipeline:4" in text
    assert "secure sum" not in text  # of one party it would hide nothing
    parties = list(label_report.job.parties)
    carol = parties[0].model_copy(update={"name": "carol"})
    job = label_report.job.model_copy(update={"parties": (*parties, carol)})
    assert "alice, carol" in shown(make_report(training=training, job=job))


def test_every_target_has_its_line_and_its_row_on_the_page(make_report):
    stars = {"name": "<b>stars</b>", "kind": "real", "metric": "RMSE"}
    known = r.TargetFigures(**stars, rows=811, federation=0.9123, label_party_alone=0.9571)
    unknown = r.TargetFigures(name="top", kind="binary", metric="AUC", rows=0)
    report = make_report(targets=(known, unknown))
    (line,) = (line for line in shown(report).splitlines() if "RMSE" in line)
    assert "0.9123 (0.9571 alone)" in line
    page = r.render_html(report)
    assert "&lt;b&gt;stars&lt;/b&gt;" in page
    assert ">0.9571<" in page
    assert "<td>811</td>" in page
    assert "<h2>Targets</h2>" not in r.render_html(make_report())
    # Only measures that the table has are explained.
    assert "<dt>RMSE</dt>" in page
    assert "<dt>Accuracy</dt>" not in page
    found = r.TargetFigures(name="label", kind="retrieval", metric="recall@10", federation=0.1)
    assert "<dt>RMSE</dt>" not in r.render_html(make_report(targets=(found,)))


def test_a_first_target_that_is_not_binary_makes_the_verdict(make_report):
    stars = r.TargetFigures(
        name="stars", kind="real", metric="RMSE", federation=0.9123, label_party_alone=0.9571
    )
    page = r.render_html(
        make_report(targets=(stars,), metrics=r.Metrics(), uplift=r.Uplift(), curves=r.Curves())
    )
    assert "predicts stars with a root mean square error of 0.9123; bob alone reaches" in page


def test_a_feature_partys_report_counts_no_labels_of_a_target(make_report):
    told = {"name": "stars", "kind": "real", "metric": "RMSE", "federation": 0.9}
    assert make_report("feature", targets=(r.TargetFigures(**told),)).targets
    with pytest.raises(ValidationError, match="count labels"):
        make_report("feature", targets=(r.TargetFigures(**told, rows=3),))


def test_a_line_for_each_sequence(make_report, label_report, make_guards):
    facts = r.SequenceFacts(name="Liked", length=50, mean_items=31.26, empty=0.021, events_used=3)
    data = label_report.data.model_copy(update={"sequences": (facts,)})
    training = label_report.training.model_copy(update={"guards": make_guards()})
    text = shown(make_report(data=data, training=training))
    (line,) = (line for line in text.splitlines() if "items in Liked" in line)
    assert "31.3 (none: 2.1%)" in line
    assert "items in" not in shown(label_report)
    # What guards saved stays below the bytes.
    place = next(at for at, line in enumerate(text.splitlines()) if "times fewer" in line)
    assert "bytes that crossed" in text.splitlines()[place - 1]


def test_the_pooled_models_time_stands_below_the_jobs(make_report, label_report):
    facts = r.SequenceFacts(name="Liked", length=50, mean_items=31.26, empty=0.021, events_used=3)
    data = label_report.data.model_copy(update={"sequences": (facts,)})
    phases = (r.Phase(name="pooled", seconds=68.0),)
    lines = shown(make_report(data=data, phases=phases)).splitlines()
    place = next(at for at, line in enumerate(lines) if "and for the pooled model" in line)
    assert "time, waiting included" in lines[place - 1]
    assert "and for the pooled model" not in shown(make_report(data=data, phases=()))


def test_the_only_targets_figures_stand_once_in_the_table(make_report, label_report):
    figures = label_report.metrics.federation
    auc, loss = (
        r.TargetFigures(name="bought", kind="binary", metric=metric, rows=9, federation=value)
        for metric, value in (("AUC", figures.auc), ("log loss", figures.log_loss))
    )
    assert "bought" not in shown(make_report(targets=(auc, loss)))
    stars = r.TargetFigures(name="stars", kind="real", metric="RMSE", rows=9, federation=0.9)
    text = shown(make_report(targets=(auc, loss, stars)))
    assert "bought: AUC" in text
    assert "bought: log loss" in text
