"""Linear models of jobs with an arbiter: what they reach, who sees what, and how they fail."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import Lasso, Ridge
from tests.jobs.tables import made_up
from typer.testing import CliRunner

from isthmus.cli.main import app
from isthmus.errors import BadMessage, DataError, JobError, PartnerFailed
from isthmus.jobs import launcher
from isthmus.jobs.job import canonical_json
from isthmus.jobs.local import run_here
from isthmus.jobs.methods import linear as learner
from isthmus.jobs.party import partners_of
from isthmus.jobs.precheck import check_own_side
from isthmus.jobs.tune.space import is_comparable
from isthmus.link.identity import trusted_partners

pytest.importorskip("tenseal")

COURT = "linear: {{protocol: arbiter, arbiter: court, {}}}\n"
AMOUNT = ("label.expression=amount", "label.kind=real")
LOGISTIC = COURT.format("family: logistic, l2: 0.01, stop: loss")
CARD = """\
bin: {method: quantile, bins: 5, tell: woe, transform: true}
linear: {family: logistic, protocol: arbiter, arbiter: court}
scorecard: {}
"""


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    return made_up(tmp_path_factory.mktemp("arbiter"))


@pytest.fixture(scope="module")
def by_loss(tables):
    job = tables.job(LOGISTIC + "predict: {rows: all}\n")
    return tables, job, tables.run(job)


def of_court(tables, job):
    return json.loads(tables.at(job, "court", "report.json").read_text())


def training_rows(tables, job):
    """All columns of the training samples, in the order of the samples."""
    rows = np.load(tables.at(job, "bob", "align", "rows.npy"))
    split = np.fromfile(tables.at(job, "bob", "encode", "split.npy"), np.uint8)[-len(rows) :]
    ids = tables.frames["bob"][rows[split == 0]].select("id")
    return ids.join(tables.joined(), on="id", maintain_order="left")


def by_hand(table, third):
    """The job's numbers of the columns: those of numbers over their deviation, and 0/1."""
    numbers = ["b0", "b1", "a0", "a1", *(["c0", "c1"] if third else [])]
    x = table.select(numbers).to_numpy()
    common = table["town"].is_in(["north", "south", "east"]).to_numpy()
    levels = [table["town"] == "south", table["town"] == "east", table["colour"] == "blue"]
    parts = [(x - x.mean(axis=0)) / x.std(axis=0), *(one.to_numpy()[:, None] for one in levels)]
    names = [*numbers, ("town", "south"), ("town", "east"), ("colour", "blue")]
    return [*names, ("town", "other")], np.hstack([*parts, ~common[:, None]]).astype(float)


def found(reports, names):
    of = {
        (one["column"], one["level"]): one
        for report in reports.values()
        for one in report["fitted"]["coefficients"]
    }
    keys = [name if isinstance(name, tuple) else (name, None) for name in names]
    assert set(of) == set(keys)
    return np.array(
        [of[key]["coefficient" if key[1] else "by_deviation"] for key in keys], np.float64
    )


@pytest.mark.parametrize("third", [False, True])
def test_a_ridge_regression_is_that_of_scikit_learn(tables, third):
    job = tables.job(COURT.format("family: linear, l2: 0.05, epochs: 300"), *AMOUNT, third=third)
    reports = tables.run(job)
    train = training_rows(tables, job)
    names, x = by_hand(train, third)
    pooled = Ridge(alpha=0.05 * len(train), solver="svd").fit(x, train["amount"].to_numpy())
    np.testing.assert_allclose(found(reports, names), pooled.coef_, atol=0.05)
    assert np.abs(pooled.coef_).max() > 10
    assert reports["bob"]["fitted"]["intercept"] == pytest.approx(pooled.intercept_, abs=0.05)
    assert reports["bob"]["fitted"]["converged"]


def test_a_lasso_is_that_of_scikit_learn(tables):
    job = tables.job(
        COURT.format("family: linear, l1: 4.0, tolerance: 1.0e-3, epochs: 400"), *AMOUNT
    )
    reports = tables.run(job)
    train = training_rows(tables, job)
    names, x = by_hand(train, third=False)
    pooled = Lasso(alpha=4.0, tol=1e-10).fit(x, train["amount"].to_numpy())
    ours = found(reports, names)
    np.testing.assert_allclose(ours, pooled.coef_, atol=0.05)
    np.testing.assert_array_equal(ours == 0, pooled.coef_ == 0)
    assert 0 < (ours == 0).sum() < len(ours)


def test_the_loss_ends_the_training_and_is_the_label_partys(by_loss):
    tables, job, reports = by_loss
    fitted = reports["bob"]["fitted"]
    losses = fitted["losses"]
    assert losses[0] == pytest.approx(np.log(2), abs=1e-5)
    assert all(before > after for before, after in pairwise(losses))
    assert losses[-2] - losses[-1] <= 1e-5 < losses[-3] - losses[-2]
    assert fitted["converged"]
    assert len(losses) == fitted["rounds"] < 100
    page = tables.at(job, "bob", "report.html").read_text()
    for said in ("Loss by epochs", f"<td>{losses[1]:.6f}</td>", "its loss's Taylor series"):
        assert said in page
    assert "tolerance" not in page[: page.index("<script type")]
    for party, report in (("alice", reports["alice"]), ("court", of_court(tables, job))):
        assert report["fitted"]["losses"] == []
        assert report["fitted"]["rounds"] == len(losses)
        assert "Loss by epochs" not in tables.at(job, party, "report.html").read_text()


def test_levels_that_are_rare_in_a_batch_share_one(tables):
    job = tables.job(COURT.format("family: linear, batch_size: 320, stop: loss"), *AMOUNT)
    fitted = {party: report["fitted"] for party, report in tables.run(job).items()}
    assert fitted["bob"]["rounds"] == 2 * len(fitted["bob"]["losses"])
    # The far towns alone are fewer than five in a batch: one of the great ones goes with them.
    levels = [one["level"] for one in fitted["alice"]["coefficients"] if one["level"]]
    assert len(levels) == 2
    assert levels[-1] == "other"


def test_the_arbiter_leaves_a_report_of_its_own_and_nothing_of_the_data(by_loss):
    tables, job, _ = by_loss
    left = {
        str(path.relative_to(tables.at(job, "court")))
        for path in tables.at(job, "court").rglob("*")
        if path.is_file()
    }
    assert left == {
        *("job.json", "log.jsonl", "report.html", "report.json", "times.json", "traffic.json"),
        *("train/done.json", "train/result.json", "train/traffic.json"),
    }
    report = of_court(tables, job)
    roles = [(one["name"], one["role"]) for one in report["job"]["parties"]]
    assert roles == [("alice", "feature"), ("bob", "label"), ("court", "arbiter")]
    assert report["data"]["rows_read"] == report["alignment"]["samples"] == 0
    assert report["fitted"]["coefficients"] == []
    assert {one["partner"] for one in report["traffic"]["topics"]} == {"bob"}
    topics = {one["topic"] for one in report["traffic"]["topics"]}
    assert topics == {
        "job.arbiter", "linear.arbiter", "linear.key", "linear.products", "linear.sums"
    }  # fmt: skip
    page = tables.at(job, "court", "report.html").read_text()
    body = page[page.index("<body>") : page.index("<script")]
    assert "the arbiter ·" in body
    assert "It has seen no table, no id, no label and no prediction." in body
    assert "Data and alignment" not in body
    assert "rows aligned" not in body
    assert [phase["name"] for phase in report["phases"]] == ["train"]


def test_the_others_reports_name_the_arbiter_and_what_crossed_to_it(by_loss):
    tables, job, reports = by_loss
    assert {one["partner"] for one in reports["bob"]["traffic"]["topics"]} == {"alice", "court"}
    assert {one["partner"] for one in reports["alice"]["traffic"]["topics"]} == {"bob"}
    for party in ("alice", "bob"):
        assert "court is the arbiter" in tables.at(job, party, "report.html").read_text()
        assert reports[party]["fitted"]["settings"]["arbiter"] == "court"
        assert reports[party]["fitted"]["shown"] == 0
    # Of training samples nothing by row has crossed.
    assert not list(tables.at(job, "bob").rglob("fitted.*"))


def test_the_model_is_applied_without_the_arbiter(by_loss):
    tables, job, _ = by_loss
    for party, frame in tables.frames.items():
        frame.head(300).write_csv(tables.folder / f"new-{party}.csv")
    new = [f"parties.{party}.table=new-{party}.csv" for party in job.spec.order]
    later = tables.job(
        LOGISTIC + "predict: {rows: all}\n", f"predict.model={job.folder_name}", *new
    )
    assert later.spec.arbiter is None
    with pytest.raises(JobError, match="court was the arbiter of the training"):
        check_own_side(later, "court")
    reports = tables.run(later)
    assert [one["name"] for one in reports["bob"]["job"]["parties"]] == ["alice", "bob"]
    assert not tables.at(later, "court").exists()
    before, after = (
        pl.read_parquet(tables.at(one, "bob", "predict", "predictions.parquet"))
        for one in (job, later)
    )
    both = after.join(before, on="id")
    assert len(both) > 5
    np.testing.assert_array_equal(both["probability"], both["probability_right"])


def test_a_scorecard_of_three_parties(tables):
    job = tables.job(CARD, "evaluate.pooled=true", third=True)
    reports = tables.run(job, pooled=True)
    metrics = reports["bob"]["metrics"]
    # The pooled one is by the exact likelihood.
    assert metrics["federation"]["auc"] == pytest.approx(metrics["pooled"]["auc"], abs=5e-3)
    assert reports["carol"]["fitted"]["card"]["bins"]
    assert of_court(tables, job)["fitted"]["card"] is None


def test_a_job_whose_arbiter_fell_out_is_resumed(tables, monkeypatch):
    job = tables.job(COURT.format("family: logistic"), "name=fallen")
    serve = learner.serve

    def crash(context):
        raise RuntimeError("the power is off")

    monkeypatch.setattr(learner, "serve", crash)
    with pytest.raises(RuntimeError):
        tables.run(job)
    log = tables.at(job, "bob", "log.jsonl").read_text()
    assert "court" in log.splitlines()[-1]
    monkeypatch.setattr(learner, "serve", serve)
    first = tables.run(job, resume=True)
    assert '"event":"step.skip"' in tables.at(job, "bob", "log.jsonl").read_text().replace(" ", "")
    # What it left from the training stays, though nothing is asked of it any more.
    again = tables.run(job, resume=True)
    assert again["bob"]["fitted"] == first["bob"]["fitted"]
    assert of_court(tables, job)["fitted"]["rounds"] == first["bob"]["fitted"]["rounds"]
    # Nor does it matter where the arbiter has lost what it had.
    for path in sorted(tables.at(job, "court").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    tables.run(job, resume=True)
    report = of_court(tables, job)
    assert report["fitted"] is None
    page = tables.at(job, "court", "report.html").read_text()
    assert "was not asked to decrypt anything" in page


def test_another_partys_failure_reaches_the_arbiter(tables):
    job = tables.job(COURT.format("family: logistic, rows_per_column: 900"))
    with pytest.raises(
        DataError, match=r"630 rows are fewer than 900 for each of the . own columns"
    ):
        tables.run(job)
    log = tables.at(job, "court", "log.jsonl").read_text()
    assert json.loads(log.splitlines()[-1])["code"] == "link.failed"


def test_a_call_that_is_none_is_refused_by_the_arbiter(tables, monkeypatch):
    from isthmus.jobs import arbiter

    job = tables.job(COURT.format("family: logistic"), "name=told")

    def call(context):
        if context.arbiter is not None:
            context.arbiter.send(arbiter.TOPIC, header={"fit": "yes"})
        return context.session

    monkeypatch.setattr(learner, "call_arbiter", call)
    with pytest.raises((BadMessage, JobError, PartnerFailed)):
        tables.run(job)
    last = json.loads(tables.at(job, "court", "log.jsonl").read_text().splitlines()[-1])
    assert last["message"] == "bob sent job.arbiter without a proper 'fit'"


def test_who_meets_whom(tables):
    job = tables.job(COURT.format("family: logistic"), third=True)
    assert job.spec.order == ("alice", "bob", "carol")
    assert job.spec.everyone == ("alice", "bob", "carol", "court")
    assert partners_of(job, "bob") == ("alice", "carol", "court")
    assert partners_of(job, "court") == partners_of(job, "alice") == ("bob",)


@pytest.mark.parametrize(
    ("text", "overrides", "said"),
    [
        (
            COURT.format("family: logistic").replace("court", "alice"),
            (),
            r"linear\.arbiter: 'alice' brings a table",
        ),
        ("linear: {arbiter: court}\n", (), r"linear\.arbiter.*belongs to `protocol: arbiter`"),
        ("linear: {protocol: arbiter}\n", (), r"linear\.arbiter.*is missing"),
        ("linear: {l1: 0.1}\n", (), r"linear\.l1.*and this is vectors"),
        ("linear: {protocol: moments, l1: 0.1}\n", (), r"linear\.l1.*and this is moments"),
        ("linear: {epochs: 3}\n", (), r"linear\.epochs"),
        ("linear: {stop: loss}\n", (), r"linear\.stop"),
        (
            COURT.format("family: poisson"),
            ("label.expression=claims", "label.kind=real"),
            r"linear\.protocol.*not poisson",
        ),
        (LOGISTIC, ("label.weight=w",), r"label\.weight.*no weights"),
        (COURT.format("learning_rate: 2.0"), (), r"linear\.learning_rate"),
        (COURT.format("l1: -1.0"), (), r"linear\.l1"),
        (COURT.format("loss_change: 1.0e-4"), (), r"linear\.loss_change.*belongs to `stop: loss`"),
        (COURT.format("stop: loss, loss_change: 1.0e-9"), (), r"linear\.loss_change"),
        (COURT.format("batch_size: 0"), (), r"linear\.batch_size"),
    ],
)
def test_what_does_not_go_together_is_refused_with_its_place(tables, text, overrides, said):
    with pytest.raises(JobError, match=said):
        tables.job(text, *overrides)


def test_the_loss_is_for_one_feature_party(tables):
    with pytest.raises(JobError, match=r"linear\.stop.*one feature party"):
        tables.job(LOGISTIC, third=True)


def test_what_the_options_refuse_is_found_before_the_job(tables):
    job = tables.job(COURT.format("standard_errors: true"))
    for party in job.spec.everyone:
        with pytest.raises(JobError, match="standard_errors and rounds are of the protocol"):
            check_own_side(job, party)


def test_the_arbiter_needs_no_table_and_has_no_part_in_a_search(tables):
    job = tables.job(LOGISTIC)
    check_own_side(job, "court")
    with pytest.raises(JobError, match=r"Its parties: alice, bob, court"):
        check_own_side(job, "curt")
    with pytest.raises(JobError, match="no part in a search, and this job trains with one"):
        is_comparable(job)


def test_a_small_batch_is_refused_by_its_field(tables):
    job = tables.job(COURT.format("family: logistic, batch_size: 50"), "name=small")
    with pytest.raises((JobError, PartnerFailed), match=r"too small") as caught:
        run_here(job, tables.folder / "runs")
    if isinstance(caught.value, JobError):
        assert "linear.batch_size" in caught.value.mend


def test_jobs_without_an_arbiter_have_the_hash_that_they_had(tables):
    text = canonical_json(tables.job("linear: {family: logistic}\n").spec)
    told = json.loads(text)["linear"]
    assert list(told) == [
        *("family", "protocol", "power", "l2", "tolerance", "rounds", "standard_errors", "offset"),
        *("exposure", "least_columns", "rows_per_column"),
    ]
    assert "court" in canonical_json(tables.job(LOGISTIC).spec)


def test_the_launcher_starts_the_arbiter_too(tables, monkeypatch):
    job = tables.job(LOGISTIC)
    command = launcher.party_command(launcher.Launch(job=job), "court", Path("ids"), 7600)
    assert command[command.index("--as") + 1] == "court"
    assert command[command.index("--dial") + 1] == "127.0.0.1:7600"
    started = {}

    def start(what, party, identity, port):
        started[party] = set(trusted_partners(identity))
        pipe = subprocess.PIPE
        return subprocess.Popen([sys.executable, "-c", ""], stdout=pipe, stderr=pipe, text=True)

    monkeypatch.setattr(launcher, "_start", start)
    outcomes = launcher.launch(launcher.Launch(job=job), print)
    assert list(started) == list(outcomes) == ["alice", "bob", "court"]
    assert started["court"] == {"alice", "bob"}


def test_the_command_line_takes_the_arbiter_for_one(tables):
    job = tables.job(LOGISTIC)
    shown = CliRunner().invoke(app, ["job", "validate", str(job.path), "--as", "court"])
    assert shown.stdout.endswith("; court can be its arbiter\n")
