"""Jobs that look at tables: they find what one table would tell, and each party sees its own."""

import json

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler
from tests.jobs.tables import made_up

from isthmus.errors import DataError, IsthmusError, JobError
from isthmus.jobs import tabular
from isthmus.jobs.artefacts import PartyFolder
from isthmus.jobs.context import Context
from isthmus.jobs.local import run_one
from isthmus.jobs.looks import check_looks
from isthmus.jobs.precheck import check_choices
from isthmus.session import Session, run_parties
from isthmus.stats import (
    BinningOptions,
    CleanRule,
    Correlation,
    ProfilePolicy,
    SplitPca,
    TableProfile,
    WoeFit,
    drift,
    fit_cleaning,
    fit_woe,
    profile,
    shown_profile,
)

pytest.importorskip("tenseal")


OWN = "parties.alice.bins={a1: {edges: [-0.5, 0.75], special: [-1]}, town: {special: [east]}}"


@pytest.mark.parametrize("named", [True, False])
def test_a_party_cuts_its_columns_as_it_likes(tmp_path, named):
    """Its file says so, and nobody else's: the job is the same."""
    tables = made_up(tmp_path)
    place = pl.int_range(pl.len())
    tables.spoil("alice", a1=pl.when(place % 9 == 0).then(-1.0).otherwise("a1"))
    unnamed = () if named else ("parties.alice.features=null",)
    plain = tables.job("bin: {bins: 4, tell: woe}\n", *unnamed)
    job = tables.job("bin: {bins: 4, tell: woe}\n", OWN, *unnamed)
    assert job.hash == plain.hash
    reports = tables.run(job)
    own = {
        one.column: one.bins
        for one in WoeFit.load(tables.at(job, "alice", "bin", "bins.json")).own()
    }
    assert own["a1"].edges == (-0.5, 0.75)
    assert own["a1"].labels() == ("(-inf, -0.5]", "(-0.5, 0.75]", "(0.75, inf)", "= -1")
    assert "= east" in own["town"].labels()
    assert len(own["a0"].edges) == 3
    assert "0.75" not in json.dumps(reports["bob"]["looks"]["bins"])
    # Where the bins are others than those of the finished step, it is done anew.
    tables.run(plain, resume=True)
    own = {
        one.column: one.bins
        for one in WoeFit.load(tables.at(job, "alice", "bin", "bins.json")).own()
    }
    assert len(own["a1"].edges) == 3
    log = tables.at(job, "alice", "log.jsonl").read_text()
    assert "bin is done anew: alice's bins changed since" in log


@pytest.mark.parametrize(
    ("bins", "said"),
    [
        ("{age: {edges: [1]}}", r"alice has no numeric or categorical feature 'age'"),
        ("{town: {edges: [1]}}", r"bins\.town: 'town' is categorical, and edges are of numbers"),
        ("{town: {special: [1]}}", r"the special values of 'town' must be text"),
        ("{a0: {special: [x]}}", r"the special values of 'a0' must be numbers"),
        ("{a0: {edges: [2, 1]}}", r"edges must rise"),
        ("{a0: {}}", r"name edges or special values"),
    ],
)
def test_bins_that_cannot_be_are_refused(tmp_path, bins, said):
    tables = made_up(tmp_path, rows=50)
    with pytest.raises(JobError, match=said):
        check_looks(tables.job("bin: {}\n", f"parties.alice.bins={bins}"))


def test_own_bins_need_bins(tmp_path):
    with pytest.raises(JobError, match=r"parties\.alice\.bins: has no effect"):
        made_up(tmp_path, rows=50).job("profile: {}\n", "parties.alice.bins={a0: {edges: [1]}}")


def test_standard_errors_of_weighted_samples_are_refused_before(tmp_path):
    tables = made_up(tmp_path, rows=50)
    job = tables.job("linear: {standard_errors: true}\n", "label.weight=w")
    with pytest.raises(JobError, match=r"linear\.standard_errors: there are none of a weighted"):
        check_choices(job)


def test_the_stability_of_own_columns_is_told(tmp_path):
    tables = made_up(tmp_path)
    job = tables.job("bin: {bins: 4}\n")
    reports = tables.run(job)
    for party in ("alice", "bob"):
        fit = WoeFit.load(tables.at(job, party, "bin", "bins.json"))
        table = pl.read_parquet(tables.at(job, party, "encode", "table.parquet"))
        part = np.load(tables.at(job, party, "encode", "split.npy")).ravel()
        expected = fit.stability(table.filter(part == 0), table.filter(part == 2))
        shown = {
            one["column"]: one["psi"]
            for one in reports[party]["looks"]["bins"]["columns"]
            if one["party"] == party
        }
        assert shown == pytest.approx(expected)
    others = [one for one in reports["bob"]["looks"]["bins"]["columns"] if one["party"] == "alice"]
    assert len(others) == 3
    assert all(one["psi"] is None for one in others)


def test_sample_weights_count_for_woe(tmp_path):
    tables = made_up(tmp_path)
    job = tables.job("bin: {bins: 3, tell: woe}\n", "label.weight=w")
    reports = tables.run(job)
    fit = WoeFit.load(tables.at(job, "bob", "bin", "bins.json"))
    mine = WoeFit.load(tables.at(job, "alice", "bin", "bins.json"))
    rows = {p: np.load(tables.at(job, p, "align", "rows.npy")) for p in ("alice", "bob")}
    train = np.load(tables.at(job, "bob", "encode", "split.npy")).ravel() == 0
    bob = tables.frames["bob"][rows["bob"][train]]
    codes = mine.codes(tables.frames["alice"].select("a0", "a1", "town")[rows["alice"][train]])
    for column in (one for one in fit.columns if one.party == "alice"):
        about = bob.with_columns(bin=codes[column.column])
        p, n = (
            about.filter(pl.col("y") == of).group_by("bin").agg(pl.col("w").sum()).sort("bin")["w"]
            for of in (1, 0)
        )
        np.testing.assert_allclose(column.woe, np.log((p / p.sum()) / (n / n.sum())), atol=1e-9)
    assert reports["alice"]["looks"]["bins"]["weighted"]
    assert (
        "count for WOE and IV by their weights" in tables.at(job, "bob", "report.html").read_text()
    )


LOOKS = """\
profile: {least: 30, bins: 8}
bin: {bins: 4, least: 20, tell: woe}
correlation: {}
pca: {components: 3}
"""
CLEAN = "parties.alice.clean={a0: {missing: mean, standardise: true}, town: {missing: mode}}"
ALICE, BOB = ["a0", "a1", "town"], ["b0", "b1", "colour"]


@pytest.fixture
def tables(tmp_path):
    found = made_up(tmp_path, 700)
    # Some rows are at one party alone, and some values nowhere.
    found.frames["bob"] = found.frames["bob"].filter(pl.col("id") < 600)
    gap = pl.col("id") % 17 == 3
    found.spoil("bob")
    found.spoil("alice", a0=pl.when(gap).then(None).otherwise("a0"))
    found.spoil("alice", town=pl.when(pl.col("id") % 50 == 7).then(None).otherwise("town"))
    return found


def view(tables, job, party):
    session = Session(me=party, parties=job.spec.order, label_party="bob", seed=job.spec.seed)
    return Context(job=job, session=session, folder=PartyFolder(tables.at(job, party)))


def samples(tables, job, party):
    """The party's own rows in the agreed order, and which of them are training samples."""
    rows = np.load(tables.at(job, party, "align", "rows.npy"))
    split = np.fromfile(tables.at(job, party, "encode", "split.npy"), np.uint8)[-len(rows) :]
    return tables.frames[party][rows], np.flatnonzero(split == 0)


def steps_of(tables, job, party):
    lines = tables.at(job, party, "log.jsonl").read_text().splitlines()
    return [(one["event"], one.get("step")) for one in map(json.loads, lines)]


def test_all_looks_are_those_of_one_table(tables):
    job = tables.job(LOOKS, CLEAN)
    reports = tables.run(job)
    alice, train = samples(tables, job, "alice")
    bob, _ = samples(tables, job, "bob")
    assert (alice["id"] == bob["id"]).all()
    assert len(bob) == 600
    rules = {"a0": CleanRule(missing="mean", standardise=True), "town": CleanRule(missing="mode")}
    cleaning = fit_cleaning(alice.select(ALICE), rules, train)
    mine = tabular.load(view(tables, job, "alice"))
    assert_frame_equal(mine, cleaning.apply(alice.select(ALICE)))
    assert mine["a0"].gather(train.tolist()).mean() == pytest.approx(0, abs=1e-12)

    own = TableProfile.load(tables.at(job, "alice", "profile", "own.json"))
    assert own == profile(mine, bins=8)
    seen = TableProfile.load(tables.at(job, "bob", "profile", "partners", "alice.json"))
    assert seen == shown_profile(mine, ProfilePolicy(least=30, bins=8))
    assert seen == TableProfile.load(tables.at(job, "alice", "profile", "shown.json"))
    whole, rows = tables.frames["alice"], np.load(tables.at(job, "alice", "align", "rows.npy"))
    told = json.loads(tables.at(job, "alice", "profile", "drift.json").read_text())
    expected = drift(cleaning.apply(whole.select(ALICE)), rows)
    assert [one["psi"] for one in told] == pytest.approx([one.psi for one in expected])
    assert not tables.at(job, "bob", "profile", "drift.json").exists()

    joined = pl.concat([bob.select(BOB), mine], how="horizontal")
    alone = Session(me="bob", parties=("bob",), label_party="bob")
    pooled = fit_woe(
        alone, joined[train], label=bob["y"].to_numpy()[train], options=BinningOptions(bins=4)
    )
    woe = {column.column: column for column in pooled.columns}
    found = WoeFit.load(tables.at(job, "bob", "bin", "bins.json"))
    assert sorted(woe) == sorted(column.column for column in found.columns)
    for column in found.columns:
        assert column.table == woe[column.column].table
    for column in WoeFit.load(tables.at(job, "alice", "bin", "bins.json")).columns:
        np.testing.assert_allclose(column.woe, woe[column.column].woe, atol=1e-12)
        assert column.table is None

    numbers = joined.select("b0", "b1", "a0", "a1").to_numpy()
    for party in ("alice", "bob"):
        matrix = Correlation.load(tables.at(job, party, "correlate", "correlation.json"))
        np.testing.assert_allclose(matrix.array(), np.corrcoef(numbers, rowvar=False), atol=1e-8)
    scaled = StandardScaler().fit_transform(numbers)
    components = PCA(3).fit(scaled)
    axes = np.hstack(
        [SplitPca.load(tables.at(job, p, "pca", "pca.json")).axes for p in ("bob", "alice")]
    )
    sign = np.sign((axes * components.components_).sum(axis=1))
    np.testing.assert_allclose(axes, components.components_ * sign[:, None], atol=1e-6)
    halves = [np.load(tables.at(job, p, "pca", "scores.npy")) for p in ("bob", "alice")]
    np.testing.assert_allclose(sum(halves), components.transform(scaled) * sign, atol=1e-4)

    # The axes are of correlations that are there already.
    crossed = json.loads(tables.at(job, "bob", "pca", "traffic.json").read_text())
    assert {"pca.hello", "pca.axes"} == {name for one in crossed.values() for name in one}

    looks = reports["bob"]["looks"]
    ivs = [column["iv"] for column in looks["bins"]["columns"]]
    assert ivs == sorted(ivs, reverse=True)
    assert looks["correlation"]["left_out"] == {"colour": "it has categories"}
    assert reports["alice"]["looks"]["correlation"]["left_out"] == {"town": "it has categories"}
    assert reports["alice"]["looks"]["profile"]["own"][0]["drift_psi"] == told[0]["psi"]


def test_a_feature_partys_report_holds_what_it_was_told(tables):
    text = "bin: {bins: 4, tell: keep, least_iv: 0.05}\ncorrelation: {share: false, digits: 4}\n"
    job = tables.job(text, CLEAN)
    reports = tables.run(job)
    # With so few digits one ciphertext is enough, of two.
    crossed = json.loads(tables.at(job, "bob", "correlate", "traffic.json").read_text())
    assert 400_000 < crossed["alice"]["correlation.asked"]["sent_bytes"] < 500_000
    theirs = reports["alice"]["looks"]
    assert {column["party"] for column in theirs["bins"]["columns"]} == {"alice"}
    for column in theirs["bins"]["columns"]:
        assert column["iv"] is None
        assert {(one["positives"], one["woe"]) for one in column["bins"]} == {(None, None)}
        assert sum(one["rows"] for one in column["bins"]) == 420
    assert theirs["correlation"]["matrix"] == []
    assert not tables.at(job, "alice", "correlate", "correlation.json").exists()
    assert reports["alice"]["data"]["positive_rate"] is None
    mine = reports["bob"]["looks"]
    kept = {(c["party"], c["column"]) for c in mine["bins"]["columns"] if c["keep"]}
    assert ("alice", "a1") not in kept
    assert ("alice", "a0") in kept
    # What follows is without columns of little IV, at their owners.
    for party in ("alice", "bob"):
        names = {name for owner, name in kept if owner == party}
        assert set(tabular.model_table(view(tables, job, party)).columns) == names
    assert reports["alice"]["looks"]["correlation"]["left_out"]["a1"] == "its IV is too small"


def test_woe_in_place_of_values(tables):
    job = tables.job(LOOKS, "bin.transform=true")
    reports = tables.run(job)
    for party, names in (("alice", ALICE), ("bob", BOB)):
        context = view(tables, job, party)
        found = WoeFit.load(tables.at(job, party, "bin", "bins.json"))
        own, _ = samples(tables, job, party)
        table = tabular.model_table(context)
        assert table.equals(found.transform(own.select(names)))
        assert table.columns == names
        assert all(kind == pl.Float64 for kind in table.dtypes)
    assert len(reports["bob"]["looks"]["correlation"]["columns"]) == 6
    assert reports["bob"]["looks"]["correlation"]["left_out"] == {}


def test_rows_without_a_value_take_no_part(tables):
    job = tables.job("profile: {}\n", "parties.alice.clean={a0: {missing: drop}}")
    reports = tables.run(job)
    gone = tables.frames["alice"].filter(pl.col("a0").is_null())
    left = set(range(600)) - set(gone["id"].to_list())
    for party in ("alice", "bob"):
        assert set(samples(tables, job, party)[0]["id"].to_list()) == left
    assert reports["alice"]["looks"]["rows_dropped"] == len(gone)
    assert reports["alice"]["alignment"]["own_rows"] == 700
    assert reports["alice"]["alignment"]["own_keys"] == 700 - len(gone)
    assert reports["bob"]["alignment"]["partner_keys"] == {"alice": 700 - len(gone)}
    assert reports["bob"]["looks"]["rows_dropped"] == 0
    assert reports["alice"]["looks"]["profile"]["own"][0]["missing"] == 0
    # The rest that drift compares with is of rows that could have been aligned.
    table = tables.frames["alice"].filter(pl.col("a0").is_not_null())
    inside = np.flatnonzero((table["id"] < 600).to_numpy())
    assert reports["alice"]["looks"]["profile"]["own"][0]["drift_psi"] == pytest.approx(
        drift(table.select("a0"), inside)[0].psi
    )


def test_resuming_skips_what_is_finished_and_makes_the_damaged_anew(tables):
    job = tables.job(LOOKS, CLEAN)
    before = tables.run(job)["bob"]["looks"]
    names = ["align", "encode", "profile", "bin", "correlate", "pca"]
    assert [step for event, step in steps_of(tables, job, "bob") if event == "step.end"] == names
    assert tables.run(job, resume=True)["bob"]["looks"] == before
    skipped = [step for event, step in steps_of(tables, job, "bob") if event == "step.skip"]
    assert skipped == names
    path = tables.at(job, "alice", "correlate", "correlation.json")
    path.write_text("{}")
    assert tables.run(job, resume=True)["bob"]["looks"] == before
    done = [step for event, step in steps_of(tables, job, "bob") if event == "step.end"]
    assert done == [*names, "correlate", "pca"]
    assert Correlation.load(path).rows == 600


def test_three_parties(tables):
    job = tables.job(LOOKS, CLEAN, third=True)
    reports = tables.run(job)
    bob, train = samples(tables, job, "bob")
    carol, _ = samples(tables, job, "carol")
    matrix = Correlation.load(tables.at(job, "bob", "correlate", "correlation.json"))
    assert matrix.parties == ("bob", "bob", "alice", "alice", "carol", "carol")
    mine = tabular.load(view(tables, job, "alice"))
    parts = [bob.select("b0", "b1"), mine.select("a0", "a1"), carol.select("c0", "c1")]
    numbers = np.hstack([part.to_numpy() for part in parts])
    np.testing.assert_allclose(matrix.array(), np.corrcoef(numbers, rowvar=False), atol=1e-8)
    columns = reports["bob"]["looks"]["bins"]["columns"]
    assert len(columns) == 8
    alone = Session(me="bob", parties=("bob",), label_party="bob")
    pooled = fit_woe(
        alone,
        carol.select("c0", "c1")[train],
        label=bob["y"].to_numpy()[train],
        options=BinningOptions(bins=4),
    )
    ivs = {column["column"]: column["iv"] for column in columns if column["party"] == "carol"}
    assert ivs == {column.column: pytest.approx(column.iv) for column in pooled.columns}
    partners = [one["party"] for one in reports["bob"]["looks"]["profile"]["partners"]]
    assert partners == ["alice", "carol"]
    assert [one["party"] for one in reports["carol"]["looks"]["profile"]["partners"]] == ["bob"]
    scores = [np.load(tables.at(job, p, "pca", "scores.npy")) for p in job.spec.order]
    found = SplitPca.load(tables.at(job, "bob", "pca", "pca.json"))
    np.testing.assert_allclose(sum(scores).var(axis=0, ddof=1), found.variance, rtol=1e-3)


def test_noise_is_drawn_for_partners_alone(tables):
    job = tables.job("profile: {least: 30, epsilon: 0.5}\n")
    report = tables.run(job)["bob"]
    profile_ = report["looks"]["profile"]
    assert profile_["epsilon"] == 0.5
    assert profile_["shown"] is None
    assert not tables.at(job, "bob", "profile", "shown.json").exists()
    (alice,) = profile_["partners"]
    assert {one["mean"] for one in alice["columns"]} == {None}
    assert profile_["own"][0]["mean"] is not None


def test_a_job_may_look_before_it_trains_a_network(tables):
    text = "profile: {}\nbin: {}\n"
    small = "train={epochs: 1, batch_size: 128, model: {dim: 2, bottom: [4], top: [4]}}"
    report = tables.run(tables.job(text, small))["bob"]
    names = [phase["name"] for phase in report["phases"]]
    assert names[-6:] == ["encode", "profile", "bin", "train", "evaluate", "predict"]
    assert report["metrics"]["federation"]["auc"] > 0
    assert report["looks"]["bins"]["columns"]


@pytest.mark.parametrize(
    ("change", "said", "mend"),
    [
        (
            (),
            "'a0' is missing in 36 of 600 aligned rows of alice",
            "parties.alice.clean.a0.missing",
        ),
        (
            ("bin={least_iv: 0.06}", "parties.alice.features={a1: numeric}"),
            "alice has no column of numbers (a1: its IV is too small)",
            "Lower bin.least_iv",
        ),
        (
            ("parties.bob.clean={b1: {clip: [50, 60], standardise: true}}",),
            "parties.bob.clean.b1: column 'b1' does not vary in the training rows",
            "do not standardise it",
        ),
        (
            ("correlation.share=false", "pca={}", "parties.bob.features={b0: numeric}", CLEAN),
            "bob has one column of numbers, whose correlations the axes would tell",
            "`correlation` with `share: true`",
        ),
    ],
)
def test_what_cannot_be_looked_at_is_named(tables, change, said, mend):
    with pytest.raises(DataError) as caught:
        tables.run(tables.job("correlation: {}\n", *change))
    assert said in caught.value.message
    assert mend in caught.value.mend


def test_a_constant_is_left_out_of_correlations(tables):
    tables.spoil("bob", b1=pl.lit(3.5))
    report = tables.run(tables.job("correlation: {}\n", CLEAN))["bob"]
    assert report["looks"]["correlation"]["left_out"]["b1"] == "it does not vary"
    assert report["looks"]["correlation"]["columns"] == ["b0", "a0", "a1"]


def test_an_applied_model_cleans_as_it_was_trained(tables):
    rules = "parties.alice.clean={a0: {missing: mean, standardise: true}, town: {missing: mode}}"
    rest = ("evaluate.alone=false", rules, "predict.rows=all")
    first = tables.job("linear: {}\n", *rest)
    tables.run(first)
    statistics = tables.at(first, "alice", "encode", "cleaning.json").read_text()
    tables.spoil("alice", a0=pl.col("a0") * 3)
    later = tables.job("linear: {}\n", *rest, f"predict.model={first.folder_name}")
    tables.run(later)
    assert tables.at(later, "alice", "encode", "cleaning.json").read_text() == statistics
    values = tabular.load(view(tables, later, "alice"))["a0"]
    assert abs(values.mean()) > 1
    assert len(pl.read_parquet(tables.at(later, "bob", "predict", "predictions.parquet"))) == 600


def test_a_partner_is_told_no_column(tables):
    job = tables.job("correlation: {}\n")
    out = tables.folder / "runs"

    def program(session):
        try:
            run_one(session, job)
        except IsthmusError as error:
            return error

    found = run_parties(
        dict.fromkeys(job.spec.order, program), label_party="bob", folder=out / job.folder_name
    )
    assert "'a0'" in found["alice"].message
    assert "a0" not in str(found["bob"])


def test_samples_that_a_partner_does_not_have_are_missing_there(tables):
    here = tables.frames["alice"].filter(pl.col("id") >= 200)
    here.write_csv(tables.folder / "alice.csv")
    rules = "parties.alice.clean={a1: {missing: median}}"
    job = tables.job("profile: {}\nbin: {}\n", "align.rows=label", rules)
    reports = tables.run(job)
    rows = np.load(tables.at(job, "alice", "align", "rows.npy"))
    split = np.fromfile(tables.at(job, "alice", "encode", "split.npy"), np.uint8)[-600:]
    assert (len(rows), int((rows < 0).sum())) == (600, 200)
    table = tabular.load(view(tables, job, "alice"))
    gone = rows < 0
    assert table.filter(gone)["a0"].null_count() == 200
    known = here["a1"].to_numpy()[rows[(split == 0) & ~gone]]
    assert table.filter(gone)["a1"].unique().to_list() == [pytest.approx(np.median(known))]
    own = reports["alice"]["looks"]["profile"]["own"]
    assert own[0]["missing"] == int(table["a0"].null_count()) > 200
    (a0,) = [c for c in reports["bob"]["looks"]["bins"]["columns"] if c["column"] == "a0"]
    assert sum(one["rows"] for one in a0["bins"]) == 420


def test_names_that_the_job_does_not_have_stay_at_home(tables):
    for party, secret in (("alice", "diagnosis"), ("bob", "overdrawn")):
        first = "a0" if party == "alice" else "b0"
        tables.frames[party] = tables.frames[party].rename({first: secret})
        tables.spoil(party, **{secret: pl.col(secret).fill_null(0.0)})
    text = LOOKS.replace("correlation: {}\n", "")
    guessed = [f"parties.{party}.features=null" for party in ("alice", "bob")]
    for wanted in (LOOKS, text):
        job = tables.job(wanted, *guessed)
        reports = tables.run(job)
        for party, own, secret in (
            ("alice", "diagnosis", "overdrawn"),
            ("bob", "overdrawn", "diagnosis"),
        ):
            files = [path for path in tables.at(job, party).rglob("*") if path.is_file()]
            assert not [path for path in files if secret.encode() in path.read_bytes()]
            assert own in json.dumps(reports[party]["looks"]["bins"])
            assert own in reports[party]["looks"]["pca"]["columns"]
            partner = reports[party]["looks"]["profile"]["partners"][0]
            assert "column 1" in [column["name"] for column in partner["columns"]]
        named = {c["column"] for c in reports["bob"]["looks"]["bins"]["columns"]}
        assert {"overdrawn", "column 1", "column 2", "column 3"} <= named
    # With the correlations a column is called alike in all steps.
    job = tables.job(LOOKS, *guessed)
    matrix = Correlation.load(tables.at(job, "bob", "correlate", "correlation.json"))
    theirs = [n for p, n in zip(matrix.parties, matrix.columns, strict=True) if p == "alice"]
    alice = [c for c in tables.frames["alice"].columns if c != "id"]
    numbers = [n for n, c in enumerate(alice, 1) if tables.frames["alice"][c].dtype.is_numeric()]
    assert theirs == [f"column {n}" for n in numbers]
