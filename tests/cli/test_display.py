"""What the user sees of events, on a terminal and in a log."""

import io

from rich.console import Console

from isthmus.cli.display import Display
from isthmus.cli.run import _show_failures
from isthmus.jobs.launcher import Outcome


def show(events, terminal=False):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=terminal, width=120, color_system=None)
    with Display(("alice", "bob"), console) as display:
        for party, event in events:
            display.show(party, event)
    return screen.getvalue()


def epoch(party, id, note):
    return [
        (party, {"event": "task", "id": id, "name": f"epoch {id}", "total": 10}),
        (party, {"event": "at", "id": id, "done": 5}),
        (party, {"event": "note", "id": id, "text": note}),
        (party, {"event": "end", "id": id}),
    ]


def story():
    events = [("alice", {"event": "say", "text": "waiting for [bob]"})]
    for party in ("alice", "bob"):
        events.append((party, {"event": "task", "id": 1, "name": "train", "total": None}))
        events += epoch(party, 2, "AUC 0.7")
        events.append((party, {"event": "end", "id": 1}))
        events.append((party, {"event": "done", "report": "x"}))
    return events


def test_plain_lines_say_each_thing_once():
    assert show(story()).splitlines() == [
        "alice waiting for [bob]",
        "alice train · epoch 2: AUC 0.7",
        "alice train done",
        "bob train done",
    ]


def test_a_terminal_shows_bars():
    seen = show(story(), terminal=True)
    assert "train · epoch 2" in seen
    assert "AUC 0.7" in seen


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
