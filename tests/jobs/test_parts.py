"""The small parts of a job: artefacts, coordination, traffic, events, schema, tables."""

import io
import json
import threading
from contextlib import suppress

import pytest

from isthmus.errors import BadMessage, JobError, StorageError
from isthmus.jobs import traffic
from isthmus.jobs.artefacts import PartyFolder, StepFolder
from isthmus.jobs.coordination import agree_on_end, agree_on_step
from isthmus.jobs.events import EventProgress, error_event, json_lines, read_event
from isthmus.jobs.schema import field_reference, schema_text
from isthmus.jobs.tables import check_party
from isthmus.link import TopicMeter, memory_links
from isthmus.session import Session, run_parties


def test_a_marker_holds_only_while_the_files_are_as_they_were(tmp_path):
    folder = StepFolder(tmp_path / "train")
    folder.create()
    folder.file("a.bin").write_bytes(b"1")
    (folder.path / "deep").mkdir()
    (folder.path / "deep" / "b.bin").write_bytes(b"2")
    assert folder.marker() is None
    folder.seal("token", 1.23456)
    marker = folder.marker()
    assert (marker.step, marker.token, marker.seconds) == ("train", "token", 1.235)
    assert set(marker.files) == {"a.bin", "deep/b.bin"}
    folder.file("a.bin").write_bytes(b"3")
    assert folder.marker() is None
    folder.file("a.bin").write_bytes(b"1")
    assert folder.marker() == marker
    (folder.path / "deep" / "b.bin").unlink()
    assert folder.marker() is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"step": "x"}',
        '{"step": 1, "other": 2}',
        '{"step": "x", "token": "t", "seconds": 1.0, "files": []}',
        '{"step": "x", "token": "t", "seconds": 1.0, "files": {"a": 1}}',
        '{"step": "x", "token": "t", "seconds": "1"}',
        '{"step": "x", "token": ["t"], "seconds": 1.0}',
    ],
)
def test_a_broken_marker_is_none(tmp_path, text):
    folder = StepFolder(tmp_path)
    folder.file("done.json").write_text(text)
    assert folder.marker() is None


def test_a_party_s_folder_is_its_own(tmp_path):
    folder = PartyFolder(tmp_path / "runs" / "job-1234" / "alice")
    folder.create()
    assert folder.path.stat().st_mode & 0o777 == 0o700
    folder.path.chmod(0o750)  # its owner may open it
    folder.create()
    assert folder.path.stat().st_mode & 0o777 == 0o750
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        PartyFolder(tmp_path / "file" / "alice").create()


def test_clearing_and_reading(tmp_path):
    folder = StepFolder(tmp_path / "x")
    folder.clear()
    folder.create()
    folder.file("a.json").write_text("{")
    with pytest.raises(StorageError, match=r"cannot read .*a\.json"):
        folder.read_json("a.json")
    folder.clear()
    assert not folder.path.exists()


@pytest.mark.parametrize(
    ("tokens", "run"),
    [
        ({"alice": "t", "bob": "t", "carol": "t"}, False),
        ({"alice": "t", "bob": "t", "carol": "u"}, True),
        ({"alice": None, "bob": "t", "carol": "t"}, True),
        ({"alice": "t", "bob": None, "carol": "t"}, True),
        ({"alice": None, "bob": None, "carol": None}, True),
    ],
)
def test_a_step_is_skipped_only_where_all_have_it_from_one_execution(tokens, run):
    def program(session):
        plan = agree_on_step(session, "train", tokens[session.me])
        agree_on_end(session)
        return plan

    plans = run_parties(dict.fromkeys(tokens, program), label_party="bob")
    assert len(set(plans.values())) == 1
    assert plans["bob"].run is run
    assert (plans["bob"].token == "t") is not run


def test_partners_at_different_steps_notice():
    errors = []

    def program(session):
        try:
            agree_on_step(session, "align" if session.me == "alice" else "train", None)
        except BadMessage as error:
            errors.append(error)
            raise

    with pytest.raises(BadMessage):
        run_parties({"alice": program, "bob": program}, label_party="bob")
    assert "alice is not at the step 'train'" in errors[0].message


@pytest.mark.parametrize(
    "header",
    [
        {"step": "train"},
        {"step": "train", "run": "yes", "token": "t"},
        {"step": "train", "run": True, "token": ["t"]},
        {"step": "other", "run": True, "token": "t"},
    ],
)
def test_a_plan_that_is_none(header):
    def label_party(session):
        session.link("alice").send("job.plan", header=header)
        session.link("alice").recv("job.step")

    def feature_party(session):
        with pytest.raises(BadMessage):
            agree_on_step(session, "train", None)

    run_parties({"alice": feature_party, "bob": label_party}, label_party="bob")


@pytest.mark.parametrize(("finished", "token"), [(None, "t"), ("t", "u"), ("t", None)])
def test_a_plan_that_skips_what_is_not_finished(finished, token):
    def label_party(session):
        session.link("alice").send(
            "job.plan", header={"step": "train", "run": False, "token": token}
        )
        session.link("alice").recv("job.step")

    def feature_party(session):
        with pytest.raises(BadMessage, match="bob skips the step 'train'"):
            agree_on_step(session, "train", finished)

    run_parties({"alice": feature_party, "bob": label_party}, label_party="bob")


def test_traffic_between_two_readings():
    left, right = memory_links("a", "b")
    left.send("x", header={"n": 1})
    left.send("job.step", header={})
    before = traffic.counts_now({"b": left})
    assert set(before["b"]) == {"x"}
    left.send("x", header={"n": 1})
    left.send("y", header={"n": 1})
    right.recv("x")
    new = traffic.added(before, traffic.counts_now({"b": left}))
    assert new["b"]["x"].sent_messages == new["b"]["y"].sent_messages == 1
    assert traffic.from_json(json.loads(json.dumps(traffic.to_json(new)))) == new
    total = traffic.summed([before, new])
    assert total["b"]["x"] == traffic.counts_now({"b": left})["b"]["x"]
    assert traffic.counts_now({"b": left}, coordination=True)["b"].keys() == {"job.step"}
    assert traffic.added(total, total) == {"b": {}}
    assert TopicMeter() not in new["b"].values()
    left.close()
    right.close()


def test_progress_as_events():
    stream = io.StringIO()
    now = [0.0]
    progress = EventProgress(json_lines(stream), clock=lambda: now[0])
    with progress.task("epoch", 10) as task:
        task.advance()
        task.advance()
        now[0] = 1.0
        task.advance(3)
        task.note("AUC 0.7")
    progress.say("waiting")
    found = [read_event(line) for line in stream.getvalue().splitlines()]
    assert found == [
        {"event": "task", "id": 1, "name": "epoch", "total": 10},
        {"event": "at", "id": 1, "done": 1},
        {"event": "at", "id": 1, "done": 5},
        {"event": "note", "id": 1, "text": "AUC 0.7"},
        {"event": "end", "id": 1, "ok": True},
        {"event": "say", "text": "waiting"},
    ]


def test_a_task_that_fails_ends_without_being_done():
    found = []
    progress = EventProgress(found.append)
    with suppress(StorageError), progress.task("train"):
        raise StorageError("no")
    assert found[-1] == {"event": "end", "id": 1, "ok": False}


def test_a_request_to_end_is_an_event_like_an_error():
    for request in (KeyboardInterrupt(), SystemExit(143)):
        event = error_event(request)
        assert (event["code"], event["message"]) == ("stopped", "was stopped by its user")


def test_events_survive_a_reader_that_left():
    class Broken(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    json_lines(Broken())({"event": "say", "text": "x"})
    assert read_event("a library's own line") is None
    assert read_event("[1]") is None
    assert read_event('{"event": 3}') is None


def test_errors_as_events():
    event = error_event(StorageError("the disk is full", mend="Free some space."))
    assert event == {
        "event": "error",
        "code": "storage",
        "message": "the disk is full",
        "mend": "Free some space.",
    }
    assert error_event(KeyError("x"))["message"] == "unexpected KeyError: 'x'"


def test_a_step_waits_for_a_partner_that_is_busy():
    links = dict(zip(("bob", "alice"), memory_links("alice", "bob", timeout=0.1), strict=True))
    sessions = {
        me: Session(me=me, parties=("alice", "bob"), label_party="bob", links={other: link})
        for me, other, link in (("alice", "bob", links["bob"]), ("bob", "alice", links["alice"]))
    }
    late = threading.Timer(0.4, agree_on_step, (sessions["bob"], "align", None))
    late.start()
    assert agree_on_step(sessions["alice"], "align", None).run
    late.join()


def test_the_schema_knows_every_field_and_the_short_form():
    import jsonschema
    import yaml

    from isthmus.jobs.examples import NAMES, example

    schema = json.loads(schema_text())
    for name in NAMES:
        jsonschema.validate(yaml.safe_load(example(name)), schema)
    broken = yaml.safe_load(example("movielens"))
    broken["parties"]["bob"]["features"]["Genres"] = "multihot"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, schema)
    reference = field_reference()
    for field in ("min_count", "patience", "share_metrics", "expression", "duplicates"):
        assert f"| `{field}` |" in reference


def test_a_party_is_known_or_not(workshop):
    job = workshop.job()
    check_party(job, "alice")
    with pytest.raises(JobError, match="Its parties: alice, bob"):
        check_party(job, "carol")
    with pytest.raises(JobError, match="Did you mean 'alice'"):
        check_party(job, "alcie")
