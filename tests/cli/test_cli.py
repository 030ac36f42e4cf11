"""The verbs: what they print, the JSON they give, and their exit codes."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from isthmus import __version__
from isthmus.cli.demo_folder import claim
from isthmus.cli.exit_codes import BY_CODE, exit_code
from isthmus.cli.main import app, main
from isthmus.cli.summary import show_summary
from isthmus.data.synthetic import SyntheticOptions, synthetic_tables
from isthmus.errors import IsthmusError, JobError
from isthmus.jobs.examples import example
from isthmus.jobs.job import load_job
from isthmus.jobs.local import run_here

JOB = """\
isthmus: 1
name: tiny
parties:
  alice: {table: alice/people.csv, features: {Age: numeric, Trait1: categorical}}
  bob: {table: bob/events.csv, features: {ItemID: categorical}}
label: {party: bob, expression: "Clicked == 1"}
align: {key: ID}
train: {epochs: 1, model: {dim: 2, bottom: [4], top: []}}
evaluate: {alone: false}
"""


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def fails(monkeypatch, capsys, *arguments):
    """Exit code and standard error of a call that fails."""
    monkeypatch.setattr(sys, "argv", ["isthmus", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code, capsys.readouterr().err


@pytest.fixture
def job_file(tmp_path):
    synthetic_tables(1, SyntheticOptions(rows=300, users=40, items=20)).write(tmp_path)
    path = tmp_path / "job.yaml"
    path.write_text(JOB)
    return path


def commands():
    import typer

    def walk(command, path):
        inner = getattr(command, "commands", {})
        for name, below in inner.items():
            yield from walk(below, (*path, name))
        if not inner:
            yield path

    return sorted(walk(typer.main.get_command(app), ()))


@pytest.mark.parametrize("path", commands(), ids=" ".join)
def test_every_verb_has_help_with_examples(path):
    shown = call(*path, "--help")
    assert shown.exit_code == 0
    assert "Examples" in shown.output
    assert f"isthmus {' '.join(path)}" in shown.output


def test_the_verbs_are_those_of_the_issue():
    assert {" ".join(path) for path in commands()} >= {
        "identity new",
        "identity show",
        "identity trust",
        "data get",
        "data describe",
        "run",
        "party",
        "job schema",
        "job validate",
        "job hash",
        "demo",
        "report",
        "doctor",
    }


def used_by_children():
    """Seconds of processor time, which another load on the machine does not change much."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_help_is_quick_and_loads_no_heavy_library():
    loaded = "import sys; before = set(sys.modules); import isthmus.cli.main; "
    loaded += "print([m for m in ('torch', 'polars', 'numpy', 'ssl', 'pydantic', 'cryptography')"
    loaded += " if m in sys.modules])"
    began = used_by_children()
    command = [sys.executable, "-c", loaded]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert used_by_children() - began < 0.5


def test_version():
    assert call("--version").output.strip() == f"isthmus {__version__}"


def test_job_verbs(job_file, monkeypatch, capsys):
    job = load_job(job_file)
    assert call("job", "hash", job_file).output.strip() == job.hash
    assert call("job", "hash", job_file, "--set", "seed=5").output.strip() != job.hash
    canonical = json.loads(call("job", "hash", job_file, "--canonical").output)
    assert "table" not in canonical["parties"]["alice"]
    valid = json.loads(call("job", "validate", job_file, "--format", "json").output)
    assert valid == {"valid": True, "name": "tiny", "hash": job.hash}
    fits = call("job", "validate", job_file, "--as", "alice")
    assert (fits.exit_code, "the table of alice fits it" in fits.output) == (0, True)
    assert json.loads(call("job", "schema").output)["title"] == "Isthmus job file"

    code, said = fails(monkeypatch, capsys, "job", "validate", job_file, "--as", "carol")
    assert (code, "Its parties: alice, bob" in said) == (2, True)
    job_file.write_text(JOB.replace("Age: numeric", "Aga: numeric"))
    code, said = fails(monkeypatch, capsys, "job", "validate", job_file, "--as", "alice")
    assert code == 3
    assert "no column 'Aga'" in said
    assert "Did you mean 'Age'?" in said
    assert "Traceback" not in said
    code, said = fails(monkeypatch, capsys, "job", "validate", job_file, "--as", "alice", "--debug")
    assert "Traceback" in said


def test_identity_verbs(tmp_path, monkeypatch, capsys):
    alice, bob = tmp_path / "a", tmp_path / "b"
    made = json.loads(
        call("identity", "new", "alice", "--folder", alice, "--format", "json").output
    )
    assert len(made["fingerprint"].split()) == 16
    assert call("identity", "new", "bob", "--folder", bob).exit_code == 0
    trusted = call("identity", "trust", made["certificate"], "--folder", bob, "--yes")
    assert made["fingerprint"] in trusted.output
    shown = json.loads(call("identity", "show", "--folder", bob, "--format", "json").output)
    assert [entry["name"] for entry in shown["own"]] == ["bob"]
    assert [entry["fingerprint"] for entry in shown["trusted"]] == [made["fingerprint"]]
    assert "PRIVATE" not in call("identity", "show", "--folder", bob).output

    code, said = fails(monkeypatch, capsys, "identity", "new", "alice", "--folder", alice)
    assert (code, "--replace" in said) == (4, True)
    code, said = fails(monkeypatch, capsys, "identity", "show", "--folder", tmp_path / "none")
    assert (code, "isthmus identity new" in said) == (4, True)


@pytest.fixture
def alices(tmp_path):
    """The facts of alice's certificate, as bob received it."""
    made = call("identity", "new", "alice", "--folder", tmp_path / "a", "--format", "json")
    return json.loads(made.output)


def is_trusted(folder):
    return (folder / "trusted" / "alice.cert.pem").exists()


def test_a_fingerprint_is_seen_before_it_is_trusted(alices, tmp_path):
    shown = call("identity", "show", alices["certificate"], "--folder", tmp_path / "b")
    assert alices["fingerprint"] in shown.output
    facts = call("identity", "show", alices["certificate"], "--format", "json")
    assert json.loads(facts.output) == alices
    assert not (tmp_path / "b").exists()

    trust = ["identity", "trust", alices["certificate"], "--folder", str(tmp_path / "b")]
    for answer in ("n\n", "\n", ""):
        refused = CliRunner().invoke(app, trust, input=answer)
        assert alices["fingerprint"] in refused.stderr
        assert "nobody has compared" in str(refused.exception)
        assert not is_trusted(tmp_path / "b")
    agreed = CliRunner().invoke(app, [*trust, "--format", "json"], input="y\n")
    # The runner shows what was typed.
    assert json.loads(agreed.stdout.removeprefix(" y"))["name"] == "alice"
    assert is_trusted(tmp_path / "b")


def test_a_told_fingerprint_must_be_the_whole_one(alices, tmp_path, monkeypatch, capsys):
    trust = ["identity", "trust", alices["certificate"], "--folder", tmp_path / "b"]
    digits = alices["fingerprint"].replace(" ", "")
    for wrong in (digits[:8], digits[:-1] + "G", "", f"{digits}00"):
        code, said = fails(monkeypatch, capsys, *trust, "--fingerprint", wrong)
        assert (code, "is another" in said) == (4, True)
        assert not is_trusted(tmp_path / "b")
    assert call(*trust, "--fingerprint", digits.lower()).exit_code == 0
    assert is_trusted(tmp_path / "b")
    assert call(*trust, "--fingerprint", alices["fingerprint"]).exit_code == 0


def test_a_certificate_that_changes_while_it_is_compared_is_not_trusted(
    alices, tmp_path, monkeypatch
):
    other = call("identity", "new", "alice", "--folder", tmp_path / "m", "--format", "json")
    theirs = Path(json.loads(other.output)["certificate"]).read_bytes()
    certificate = Path(alices["certificate"])

    def swap(*_, **__):
        certificate.write_bytes(theirs)
        return True

    monkeypatch.setattr("typer.confirm", swap)
    done = call("identity", "trust", certificate, "--folder", tmp_path / "b")
    assert "has changed" in str(done.exception)
    assert not is_trusted(tmp_path / "b")


def test_the_own_certificate_is_not_trusted(alices, tmp_path, monkeypatch, capsys):
    trust = ["identity", "trust", alices["certificate"], "--folder", tmp_path / "a", "--yes"]
    code, said = fails(monkeypatch, capsys, *trust)
    assert (code, "alice's own certificate" in said) == (4, True)
    assert not is_trusted(tmp_path / "a")


def test_trust_is_taken_back(alices, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "b"
    call("identity", "trust", alices["certificate"], "--folder", folder, "--yes")
    assert "no longer" in call("identity", "untrust", "alice", "--folder", folder).output
    assert not is_trusted(folder)
    for name in ("alice", "../a/alice"):
        code, said = fails(monkeypatch, capsys, "identity", "untrust", name, "--folder", folder)
        assert (code, "trusts no" in said) == (4, True)
    assert Path(alices["certificate"]).exists()


def test_data_describe(tmp_path):
    table = tmp_path / "t.csv"
    pl.DataFrame({"ID": [1, 2, 3], "Genres": ["a|b", "b", "a"]}).write_csv(table)
    shown = call("data", "describe", table, "--out", tmp_path / "schema.yaml")
    assert shown.exit_code == 0
    assert f"{table}: 3 rows, 2 columns" in shown.output
    assert "Genres" in shown.output
    assert f"The schema is in {tmp_path / 'schema.yaml'}" in shown.stderr
    assert (tmp_path / "schema.yaml").exists()
    facts = json.loads(call("data", "describe", table, "--format", "json").output)
    assert [column["name"] for column in facts["columns"]] == ["ID", "Genres"]
    assert facts["rows"] == 3


def test_data_describe_says_why_and_what_could_be_the_key(tmp_path, monkeypatch, capsys):
    table = tmp_path / "t.csv"
    pl.DataFrame({"customer_no": [70, 99, 5], "pet": ["a", "b", "c"], "s": "x"}).write_csv(table)
    lines = call("data", "describe", table).output.splitlines()
    assert lines[2].split()[:2] == ["customer_no", "key"]
    assert lines[3].endswith("3 distinct; can be the key")
    assert lines[4].endswith("1 distinct; ignored: one value")
    table.write_bytes("id,name\n1,Zoë\n".encode("latin-1"))
    code, said = fails(monkeypatch, capsys, "data", "describe", table)
    assert (code, "not UTF-8" in said, "unexpected" in said) == (3, True, False)
    code, said = fails(monkeypatch, capsys, "data", "describe", tmp_path / "none.csv")
    assert (code, "there is no table" in said, "job file" in said) == (3, True, False)


def test_data_get_of_an_unknown_set(monkeypatch, capsys):
    code, said = fails(monkeypatch, capsys, "data", "get", "netflix")
    assert code == 3
    assert "error [data.source]" in said


def test_doctor_says_which_extras_are_here(tmp_path, monkeypatch):
    import tomllib
    from importlib.metadata import PackageNotFoundError, version

    from isthmus.cli import doctor

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert set(doctor.EXTRAS) == set(project["optional-dependencies"]) - {"dev", "docs"}
    for extra, (package, _) in doctor.EXTRAS.items():
        assert any(one.startswith(package) for one in project["optional-dependencies"][extra])

    def here(package):
        if package == "optuna":
            raise PackageNotFoundError(package)
        return version(package)

    monkeypatch.setattr(doctor, "version", here)
    shown = call("doctor", "--folder", tmp_path, "--out", tmp_path)
    assert shown.exit_code == 0, shown.output
    assert "pip install 'isthmus[tune]' for searches" in shown.output
    assert f"tenseal {version('tenseal')}" in shown.output


def test_doctor(tmp_path):
    call("identity", "new", "alice", "--folder", tmp_path, "--days", "5")
    done = call("doctor", "--folder", tmp_path, "--out", tmp_path, "--format", "json")
    findings = {finding["what"]: finding for finding in json.loads(done.output)}
    assert findings["isthmus"]["found"] == __version__
    assert findings["port"]["good"]
    assert not findings["certificate"]["good"]
    assert done.exit_code == 1
    wrong = call("doctor", "--folder", tmp_path, "--listen", "127.0.0.1:99999")
    assert wrong.exit_code == 1
    assert "cannot listen" in wrong.output


def test_report_is_made_again(job_file, tmp_path, monkeypatch, capsys):
    page = run_here(load_job(job_file), tmp_path / "runs")["bob"]
    before = page.read_text()
    page.unlink()
    shown = call("report", page.parent)
    assert shown.exit_code == 0
    assert "federation" in shown.output
    assert page.read_text() == before
    facts = json.loads(call("report", page.with_suffix(".json"), "--format", "json").output)
    assert facts["job"]["name"] == "tiny"
    assert facts["job"]["label"] == "Clicked == 1"
    assert facts["training"]["hyper_parameters"]["patience"] == 3
    assert facts["warnings"][-1].startswith("Only ")
    code, said = fails(monkeypatch, capsys, "report", job_file)
    assert (code, f"{job_file} is not a report" in said) == (2, True)
    assert "runs/<job>-<hash>/<party>" in said
    code, said = fails(monkeypatch, capsys, "report", tmp_path)
    assert (code, "cannot read the report" in said) == (7, True)
    page.with_suffix(".json").write_text("{}")
    code, said = fails(monkeypatch, capsys, "report", page)
    assert (code, "not a report of this version" in said) == (7, True)


def test_every_error_has_an_exit_code():
    def codes(kind):
        yield kind.code
        for below in kind.__subclasses__():
            yield from codes(below)

    found = {code: exit_code(code) for code in codes(IsthmusError)}
    assert found.pop("error") == 1
    assert set(found.values()) == set(BY_CODE.values())
    assert found["link.gone"] == BY_CODE["link"]
    assert len(set(BY_CODE.values())) == len(BY_CODE)


def test_an_unforeseen_error_is_one_line(monkeypatch, capsys, job_file):
    import isthmus.jobs.job

    def broken(*_):
        raise RuntimeError("surprise")

    monkeypatch.setattr(isthmus.jobs.job, "load_job", broken)
    code, said = fails(monkeypatch, capsys, "job", "hash", job_file)
    assert code == 1
    assert "unexpected RuntimeError: surprise" in said
    assert "--debug" in said
    assert "Traceback" not in said


def test_the_demo_writes_its_job_beside_the_data(tmp_path, monkeypatch):
    import isthmus.cli.run
    import isthmus.data.demo
    import isthmus.data.sources

    started, split = [], []
    monkeypatch.setattr(isthmus.data.sources, "get", lambda *_, **__: tmp_path)
    monkeypatch.setattr(
        isthmus.data.demo, "two_organisations", lambda *a, **k: split.append((a, k))
    )
    monkeypatch.setattr(
        isthmus.cli.run, "launch_and_show", lambda what, _, again: started.append(what)
    )
    folder = tmp_path / "demo"
    shown = call("demo", "--folder", folder, "--entity", "--set", "train.epochs=1")
    assert shown.exit_code == 0, shown.output
    assert (folder / "job.yaml").read_text() == example("movielens_entity")
    assert started[0].job.spec.train.epochs == 1
    assert split[0][1]["keys"] == "entity"
    assert Path(started[0].out) == folder / "runs"
    monkeypatch.chdir(folder)
    assert call("demo").exit_code == call("demo", "--entity").exit_code == 0
    assert {"demo", "demo-entity"} <= {path.name for path in folder.iterdir()}
    runs = len(started)
    shown = call("demo", "--entity", "--files-only", "--folder", tmp_path / "files")
    assert shown.exit_code == 0, shown.output
    assert "Written, not run" in shown.output
    assert (tmp_path / "files" / "job.yaml").read_text() == example("movielens_entity")
    assert len(started) == runs


def test_the_demo_of_three_splits_alices_columns(tmp_path, monkeypatch, capsys):
    import isthmus.cli.run
    import isthmus.data.demo
    import isthmus.data.sources

    people = {"ID": range(20), "Age": range(20), "Occupation": ["x"] * 20, "Zip-code": ["007"] * 20}

    def two(_, out, **__):
        (out / "alice").mkdir()
        pl.DataFrame(people).write_csv(out / "alice" / "ratings.csv")

    started = []
    monkeypatch.setattr(isthmus.data.sources, "get", lambda *_, **__: tmp_path)
    monkeypatch.setattr(isthmus.data.demo, "two_organisations", two)
    monkeypatch.setattr(
        isthmus.cli.run, "launch_and_show", lambda what, _, again: started.append(what)
    )
    folder = tmp_path / "demo"
    shown = call("demo", "--folder", folder, "--three")
    assert shown.exit_code == 0, shown.output
    assert "three organisations" in shown.output
    assert "alice, carol and bob are 3 processes" in shown.output
    assert started[0].job.spec.train.secure_sum == 32
    assert started[0].job.spec.feature_parties == ("alice", "carol")
    alice = pl.read_csv(folder / "alice" / "ratings.csv")
    carol = pl.read_csv(folder / "carol" / "ratings.csv", schema_overrides={"Zip-code": pl.String})
    assert (alice.columns, len(alice)) == (["ID", "Age"], 20)
    assert (carol.columns, len(carol)) == (["ID", "Occupation", "Zip-code"], 18)
    assert carol["ID"].to_list() != sorted(carol["ID"])
    assert set(carol["Zip-code"]) == {"007"}
    code, said = fails(monkeypatch, capsys, "demo", "--three", "--entity", "--folder", folder)
    assert (code, "do not go together" in said) == (2, True)


@pytest.mark.parametrize("owner", ["alice", "bob"])
def test_the_demo_of_histories(tmp_path, monkeypatch, capsys, owner):
    import isthmus.cli.run
    import isthmus.data.demo
    import isthmus.data.sources

    started, calls = [], []
    monkeypatch.setattr(isthmus.data.sources, "get", lambda *_, **__: tmp_path)
    for name in ("two_organisations", "add_views"):
        monkeypatch.setattr(
            isthmus.data.demo, name, lambda *a, _name=name, **k: calls.append((_name, k))
        )
    monkeypatch.setattr(
        isthmus.cli.run, "launch_and_show", lambda what, _, again: started.append(what)
    )
    monkeypatch.chdir(tmp_path)
    shown = call("demo", "--history", owner)
    assert shown.exit_code == 0, shown.output
    job_file = tmp_path / f"demo-history-{owner}" / "job.yaml"
    assert job_file.read_text() == example(f"movielens_history_{owner}")
    assert started[0].job.spec.train.model.name == "din"
    assert calls[0][1]["keys"] == "entity"
    assert [name for name, _ in calls[1:]] == ["add_views"] * (owner == "alice")
    code, said = fails(monkeypatch, capsys, "demo", "--three", "--history", owner)
    assert (code, "--three and --history do not go together" in said) == (2, True)


def test_the_demo_keeps_an_edited_job(tmp_path):
    place = claim(tmp_path / "demo", keys="row", force=False)
    assert place.write_job("name: a")
    again = claim(tmp_path / "demo", keys="row", force=False)
    assert again.write_job("name: b")  # a newer demo writes its own file anew
    place.job_file.write_text("name: mine")
    assert not claim(tmp_path / "demo", keys="row", force=False).write_job("name: c")
    assert place.job_file.read_text() == "name: mine"
    with pytest.raises(JobError, match="another kind of demo"):
        claim(tmp_path / "demo", keys="entity", force=False)
    assert claim(tmp_path / "demo", keys="row", force=True).write_job("name: d")
    assert place.job_file.read_text() == "name: d"


def test_the_demo_leaves_a_folder_of_others_alone(tmp_path):
    empty, full = tmp_path / "empty", tmp_path / "full"
    empty.mkdir()
    full.mkdir()
    (full / "job.yaml").write_text("mine")
    claim(empty, keys="row", force=False)
    with pytest.raises(JobError, match="is not empty, and the demo did not make it") as caught:
        claim(full, keys="row", force=False)
    assert "--force" in caught.value.mend
    assert [path.name for path in full.iterdir()] == ["job.yaml"]
    assert claim(full, keys="row", force=True).write_job("the demo's")


def test_options_of_a_party(job_file, monkeypatch, capsys):
    party = ("party", job_file, "--as", "bob")
    code, said = fails(monkeypatch, capsys, *party, "--dial", "foo")
    assert (code, "--dial foo: 'foo' is not HOST:PORT" in said) == (2, True)
    for option in ("--wait", "--reconnect"):
        code, said = fails(monkeypatch, capsys, *party, option, "-1")
        assert (code, f"Invalid value for '{option}'" in said) == (2, True)
    code, said = fails(monkeypatch, capsys, "party", job_file, "--as", "carol", "--dial", "x:1")
    assert (code, "Its parties: alice, bob" in said) == (2, True)
    three = JOB.replace("label:", "  carol: {features: {X: numeric}}\nlabel:")
    job_file.write_text(three)
    code, said = fails(monkeypatch, capsys, *party, "--dial", "x:1")
    assert (code, "with one of alice, carol" in said) == (2, True)


@pytest.mark.parametrize("verb", ["run", "party", "demo", "report", "doctor", "job hash"])
def test_flags_take_no_value(verb):
    lines = call(*verb.split(), "--help").output.splitlines()
    assert any("--debug" in line for line in lines)
    assert not any("bool" in line for line in lines if "--help" not in line)


def test_a_finished_run_shows_every_report(job_file, tmp_path, capsys):
    pages = run_here(load_job(job_file), tmp_path / "runs")
    show_summary(pages["bob"], pages["alice"])
    shown = capsys.readouterr().out
    for page in pages.values():
        assert f"Report: {page}\n" in shown
