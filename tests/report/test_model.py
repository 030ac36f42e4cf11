import json
from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import pytest
from pydantic import ValidationError

from isthmus.jobs import report as r

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("role", ["label", "feature"])
def test_report_json_follows_the_published_schema_and_comes_back(role, make_report, tmp_path):
    report = make_report(role)
    _, data = r.write_report(report, tmp_path)
    schema = json.loads((ROOT / "docs" / "report.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(data.read_text()), schema)
    assert r.Report.model_validate_json(data.read_text()) == report


def test_the_figures_lie_where_the_world_looks_for_them(label_report):
    metrics = json.loads(label_report.model_dump_json())["metrics"]
    for model in ("federation", "pooled", "label_party_alone"):
        assert 0.5 < metrics[model]["auc"] < 1
        assert metrics[model].keys() == {"auc", "ks", "log_loss", "brier", "rows", "positives"}


@pytest.mark.parametrize("place", ["docs", "src/isthmus/jobs/report"])
def test_the_published_schema_is_up_to_date(place):
    published = json.loads((ROOT / place / "report.schema.json").read_text())
    assert published == json.loads(r.schema_text()), (
        "run: python -m isthmus.jobs.report docs/report.schema.json "
        "src/isthmus/jobs/report/report.schema.json"
    )


def test_the_schema_refuses_what_is_not_a_report(label_report):
    schema = json.loads(r.schema_text())
    data = json.loads(label_report.model_dump_json())
    data["metrics"]["federation"]["auc"] = 1.5
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, schema)


def test_every_field_is_explained_or_plain():
    fields = json.loads(r.schema_text())["$defs"]["TrainingFacts"]["properties"]
    assert fields["samples_per_second"]["description"].startswith("Training samples")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -0.1])
def test_nan_is_refused(bad):
    with pytest.raises(ValidationError):
        r.Figures(auc=0.5, ks=0.1, log_loss=bad, brier=0.2, rows=1)


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_nan_is_refused_in_hyper_parameters(value):
    with pytest.raises(ValidationError):
        r.ModelFacts(name="DeepFM", hyper_parameters={"dropout": value}, parts=())


def test_unknown_fields_are_refused():
    with pytest.raises(ValidationError, match="Extra"):
        r.Phase(name="align", seconds=1, minutes=2)


def test_a_feature_partys_report_tells_nothing_about_labels(make_report, label_report):
    shared = label_report.metrics.federation
    with pytest.raises(ValidationError, match="count positive"):
        make_report("feature", metrics=r.Metrics(federation=shared))
    with pytest.raises(ValidationError, match="ROC or calibration"):
        make_report("feature", curves=label_report.curves)
    with pytest.raises(ValidationError, match="positive rate"):
        make_report("feature", data=label_report.data)
    allowed = shared.model_copy(update={"positives": None})
    assert make_report("feature", metrics=r.Metrics(federation=allowed)).metrics.federation.auc


@pytest.mark.parametrize("path", ["/etc/passwd", "../other/report.json", "a\\b"])
def test_artefacts_stay_in_the_folder(path):
    with pytest.raises(ValidationError, match="relative"):
        r.Artefact(path=path, description="")


def test_a_job_has_one_label_party_and_knows_its_own(make_job):
    two = (r.Party(name="alice", role="label"), r.Party(name="bob", role="label"))
    with pytest.raises(ValidationError, match="exactly one label party"):
        make_job("bob", parties=two)
    with pytest.raises(ValidationError, match="'carol' is not among"):
        make_job("carol")
    job = make_job("alice")
    assert (job.role, job.label_party, job.feature_parties) == ("feature", "bob", ("alice",))


def test_times_are_in_utc(make_job):
    with pytest.raises(ValidationError):
        make_job("bob", created=datetime(2026, 11, 20))
    job = make_job("bob", created=datetime.fromisoformat("2026-11-20T09:00:00+02:00"))
    assert job.created == datetime(2026, 11, 20, 7, tzinfo=UTC)
    assert '"created":"2026-11-20T07:00:00Z"' in job.model_dump_json()


def test_traffic_must_add_up(label_report):
    with pytest.raises(ValidationError, match="sent_bytes is not the sum"):
        r.Traffic(topics=label_report.traffic.topics, sent_bytes=1)
