"""What the user sees of events, on a terminal and in a log."""

import io
import re

import pytest
from rich.console import Console

from isthmus.cli.display import Display
from isthmus.cli.run import _show_failures
from isthmus.jobs.artefacts import PartyFolder
from isthmus.jobs.going_on import can_go_on
from isthmus.jobs.launcher import Outcome


def show(events, terminal=False, parties=("alice", "bob"), width=80):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=terminal, width=width, color_system=None)
    with Display(parties, console) as display:
        for party, event in events:
            display.show(party, event)
    return screen.getvalue()


def epochs(party, ok=True):
    return [
        (party, {"event": "task", "id": 2, "name": "epochs", "total": 20}),
        (party, {"event": "at", "id": 2, "done": 15}),
        (party, {"event": "note", "id": 2, "text": "epoch 1/2 AUC 0.7012"}),
        (party, {"event": "note", "id": 2, "text": "epoch 2/2 AUC 0.7112"}),
        (party, {"event": "end", "id": 2, "ok": ok}),
    ]


def story(parties=("alice", "bob"), ok=True):
    events = [("alice", {"event": "say", "text": "waiting for [bob]"})]
    for party in parties:
        events.append((party, {"event": "task", "id": 1, "name": "train", "total": None}))
        events += epochs(party, ok)
        events.append((party, {"event": "end", "id": 1, "ok": ok}))
    return events


def test_plain_lines_say_each_thing_once():
    assert show(story()).splitlines() == [
        "alice waiting for [bob]",
        "train: epoch 1/2 AUC 0.7012",
        "train: epoch 2/2 AUC 0.7112",
        "alice train done",
        "bob train done",
    ]
    assert show(story(("alice",)), parties=("alice",)).splitlines() == [
        "alice waiting for [bob]",
        "alice train: epoch 1/2 AUC 0.7012",
        "alice train: epoch 2/2 AUC 0.7112",
        "alice train done",
    ]


def test_plain_lines_are_not_broken():
    long = [("bob", {"event": "say", "text": "word " * 60})]
    assert len(show(long).splitlines()) == 1
    assert len(show(long, terminal=True).splitlines()) > 4


def test_a_step_that_failed_is_not_done():
    assert "done" not in show(story(ok=False))


def last_screen(seen):
    """The bars as they were last drawn."""
    return [line for line in re.split(r"[\r\n]|\x1b\[[0-9;?]*[A-Za-z]", seen) if line.strip()][-2:]


def test_a_terminal_of_80_columns_shows_everything():
    events = [
        event
        for party in ("alice", "bob")
        for event in (
            (party, {"event": "task", "id": 1, "name": "evaluate", "total": None}),
            (party, {"event": "task", "id": 3, "name": "bob alone", "total": None}),
            *epochs(party)[:-1],
            (party, {"event": "note", "id": 2, "text": "epoch 12/30 AUC 0.7712"}),
        )
    ]
    for line in last_screen(show(events, terminal=True)):
        assert "evaluate · bob alone" in line
        assert "epoch 12/30 AUC 0.7712" in line
        assert "…" not in line
        assert len(line) <= 80
    assert "━" in line


def test_the_bar_of_a_training_does_not_begin_anew_and_none_pulses():
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    display = Display(("bob",), console)
    (line,) = display._bars.tasks
    seen = []
    for _, event in story(("bob",))[1:]:
        display.show("bob", event)
        seen.append((line.completed, line.total))
    assert seen == [(0, 1), (0, 20), (15, 20), (15, 20), (15, 20), (15, 20), (15, 20)]


def test_events_out_of_order_do_no_harm():
    events = [("bob", {"event": "end", "id": 9}), ("bob", {"event": "at", "id": 9, "done": 1})]
    assert show([*events, ("bob", {"event": "unknown"})]) == ""


def failure(code, party):
    return {"event": "error", "code": code, "message": f"{party} broke", "mend": "Mend it."}


def test_the_cause_comes_before_its_consequences(capsys):
    outcomes = [
        Outcome("alice", returncode=8, error=failure("link.failed", "alice")),
        Outcome("bob", returncode=5, error=failure("align", "bob")),
        Outcome("carol", returncode=0),
    ]
    assert _show_failures(outcomes, debug=False) == 5
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "bob: error [align] bob broke"
    assert lines[1] == "  Mend it."
    assert lines[2] == "alice: error [link.failed] alice broke"
    assert not any("carol" in line for line in lines)


@pytest.mark.parametrize(
    ("code", "begun", "helps"),
    [
        ("storage", True, True),
        ("storage", False, False),
        ("align", True, False),
        ("job", True, False),
        ("data.schema", True, False),
    ],
)
def test_resume_is_named_only_where_it_helps(capsys, code, begun, helps):
    outcomes = [
        Outcome("alice", returncode=8, error=failure("link.failed", "alice")),
        Outcome("bob", returncode=5, error=failure(code, "bob")),
    ]
    _show_failures(outcomes, debug=False, begun=begun)
    assert ("--resume" in capsys.readouterr().err) is helps


@pytest.mark.parametrize(
    ("code", "finished", "can"),
    [("stopped", True, True), ("stopped", False, False), ("data", True, False)],
)
def test_what_is_finished_can_be_gone_on_from(tmp_path, code, finished, can):
    folder = PartyFolder(tmp_path)
    folder.step("align").create()
    if finished:
        folder.step("align").seal("0", 1.0)
    assert can_go_on(folder, code) is can


def test_a_killed_party_is_told_as_such(capsys):
    gone = Outcome("bob", returncode=8, error=failure("link.gone", "bob"))
    killed = Outcome("alice", returncode=-9)
    killed.noise.append("Killed")
    assert _show_failures([gone, killed], debug=False) == 1
    said = capsys.readouterr().err
    assert said.index("was killed by signal 9") < said.index("bob broke")
    assert "--resume" in said
    assert "Killed" in said
    stopped = Outcome("alice", returncode=-15, stopped=True)
    assert _show_failures([stopped, gone], debug=False) in (1, 8)
    assert "was stopped, since a partner had failed" in capsys.readouterr().err
