"""Moments of a run, drawn from a seed, and what goes wrong then: killed parties, broken lines."""

import json
import math
import os
import random
import signal
import socket
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from safetensors.numpy import load_file
from tests.end_to_end.conftest import ENVIRONMENT, PATIENCE, Site

PARTIES = ("alice", "bob")
OVERRIDES = (
    "train.epochs=3",
    "train.patience=0",
    "train.batch_size=16",
    "train.checkpoint_steps=8",
    "train.model.dropout=0.2",
    "train.guards.gradient=topk:0.5+int8",
)
OPTIONS = ("--resume", *(part for override in OVERRIDES for part in ("--set", override)))
"""Of every command: the first is given as those after it."""
TOPICS = {"align": "align.", "train": "train.", "validation": "train.valid", "predict": "predict."}
"""Phases whose moments are messages, and how their topics begin."""
EVENTS = {"encode": ("step.start", "encode"), "evaluate": ("step.start", "evaluate"),
          "report": ("end", None)}  # fmt: skip
"""Phases whose moments are lines of the log: event and step."""

DEADLY = """\
import os, signal

FOLDER, COUNT, NOTES = (os.environ[name] for name in ("DIE_IN", "DIE_AT", "DIE_NOTES"))
left = int(COUNT)

def deadly(call):
    def wrapped(first, *rest):
        path = os.readlink(f"/proc/self/fd/{first}") if isinstance(first, int) else str(first)
        if FOLDER in path:
            global left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            with open(NOTES, "a") as notes:
                notes.write(path + chr(10))
        return call(first, *rest)
    return wrapped

os.fsync, os.replace = deadly(os.fsync), deadly(os.replace)
"""
"""Read by Python at its start: notes each time a file or folder under DIE_IN is synced or renamed,
and kills the process before the one that is number DIE_AT."""
WRITES = {"checkpoint": "/train/checkpoints", "write": "/runs/"}
"""Phases whose moments are such writes, and in which folders."""


@dataclass(frozen=True)
class Moment:
    """When something happens, and what."""

    phase: str
    share: float
    """How far into the phase."""
    what: str
    """`kill alice`, `kill bob`, `kill both`: -9. `run: kill alice`, `run: kill all`: under `isthmus
    run`. `drop`: the line breaks for good. `silence`: nothing comes through any more. `blink`: it
    breaks once."""

    def __str__(self):
        return f"{self.phase} {self.share:.3f} {self.what}"


def draw(seed):
    """The moments of a test run: every phase, every kind of trouble, where exactly is chance."""
    rng = random.Random(seed)
    plan = [
        *(("train", what) for what in ("kill alice", "kill bob", "kill both", "drop", "blink")),
        *(("train", what) for what in ("silence", "run: kill alice", "run: kill all")),
        *(("checkpoint", what) for what in ("kill alice", "kill bob", "kill alice")),
        *(("write", what) for what in ("kill alice", "kill bob")),
        *(("validation", what) for what in ("kill both", "drop")),
        *((phase, None) for phase in ("align", "encode", "evaluate", "predict", "report")),
    ]
    kills = ("kill alice", "kill bob", "kill both", "run: kill bob")
    return [Moment(phase, rng.random(), what or rng.choice(kills)) for phase, what in plan]


class Proxy:
    """A line to `target` that can be broken, or fall silent with its connections open."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._server = socket.create_server(("127.0.0.1", 0))
        self._lines: list[socket.socket] = []
        self._broken = False
        self._silent = threading.Event()
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def disturb(self, what: str) -> None:
        if what == "silence":
            self._silent.set()
            return
        self._broken = what == "drop"
        for line in self._lines:
            _hang_up(line)

    def close(self) -> None:
        self._server.close()
        self.disturb("drop")

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                line, _ = self._server.accept()
                if self._broken:
                    line.close()
                    continue
                try:
                    other = socket.create_connection(("127.0.0.1", self._target))
                except OSError:  # nobody listens yet
                    line.close()
                    continue
                self._lines += [line, other]
                for ends in ((line, other), (other, line)):
                    threading.Thread(target=self._pump, args=ends, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if not self._silent.is_set():
                    sink.sendall(data)
        _hang_up(source)
        _hang_up(sink)


def _hang_up(line: socket.socket) -> None:
    with suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)
    line.close()


@dataclass
class Ended:
    """How a process ended."""

    code: int
    said: str


@dataclass
class Stage:
    """Runs a site's job, disturbed or not."""

    site: Site
    totals: dict = field(default_factory=dict)
    """How many messages a party sends, or how often it writes, in a phase of an undisturbed run."""

    def folder(self, party: str) -> Path:
        return self.site.results(party, *OVERRIDES)

    def undisturbed(self) -> dict:
        """Run all to the end; gives what is to be the same in every other run."""
        never = {party: self._deadly(party, "write", 0) for party in PARTIES}
        self._whole(self._start_parties(deadly=never))
        for party in PARTIES:
            notes = Path(never[party]["DIE_NOTES"]).read_text().splitlines()
            for phase, folder in WRITES.items():
                self.totals[party, phase] = sum(folder in path for path in notes)
            topics = [entry["topic"] for entry in self._lines(party, "transcript.jsonl")]
            for phase, begin in TOPICS.items():
                self.totals[party, phase] = sum(topic.startswith(begin) for topic in topics)
        return self.results()

    def disturbed(self, moment: Moment) -> dict[str, Ended]:
        """Run until the moment, do what it says, and wait until all have ended."""
        proxy = Proxy(self.site.port) if moment.what in ("drop", "blink", "silence") else None
        running: dict[str, subprocess.Popen] = {}
        try:
            if moment.what.startswith("run:"):
                running = {"run": self._start_run()}
            else:
                running = self._start_parties(proxy, self._deaths(moment))
            if moment.phase not in WRITES:
                self._await(moment, list(running.values()))
                if proxy:
                    proxy.disturb(moment.what)
                else:
                    self._kill(moment.what, running)
            return _ends(running)
        finally:
            for process in running.values():
                _end_group(process)
            if proxy:
                proxy.close()

    def rerun(self, moment: Moment) -> None:
        """The same commands again, to the end."""
        self._whole({"run": self._start_run()} if "run:" in moment.what else self._start_parties())

    def results(self) -> dict:
        """What a run leaves that must not depend on its interruptions."""
        found = {}
        for party in PARTIES:
            folder = self.folder(party)
            for path in sorted(folder.glob("*/*.safetensors")):
                for name, array in load_file(path).items():
                    found[party, path.name, name] = array.tobytes()
            report = json.loads((folder / "report.json").read_text())
            for name in ("alignment", "metrics", "uplift", "curves"):
                found[party, "report", name] = _untimed(report[name])
        predictions = self.folder("bob") / "predict" / "predictions.parquet"
        found["bob", "predictions"] = predictions.read_bytes()
        return found

    def leftovers(self) -> list[Path]:
        """Files that a process did not come to finish or to clear away."""
        runs = self.site.folder / "runs"
        return [*runs.rglob("*.part"), *runs.rglob("new.safetensors")]

    def _start_parties(self, proxy=None, deadly=None) -> dict[str, subprocess.Popen]:
        port = f"127.0.0.1:{self.site.port}"
        ends = {"alice": ("--dial", proxy.address if proxy else port), "bob": ("--listen", port)}
        started = {}
        for party in PARTIES:
            out, identity = self.site.folder / "runs", self.site.identities[party]
            command = ("party", self.site.job_file, "--as", party, "--identity", identity)
            options = ("--out", out, *ends[party], "--reconnect", "2", *OPTIONS)
            started[party] = _start(
                self.site.command(*command, *options), (deadly or {}).get(party, {})
            )
        return started

    def _start_run(self) -> subprocess.Popen:
        out = self.site.folder / "runs"
        return _start(self.site.command("run", self.site.job_file, "--out", out, *OPTIONS), {})

    def _deaths(self, moment: Moment) -> dict[str, dict[str, str]]:
        """Which party is to die in the midst of a write, by what it is told at its start."""
        if moment.phase not in WRITES:
            return {}
        victim = moment.what.split()[1]
        at = 1 + int(moment.share * self.totals[victim, moment.phase])
        return {victim: self._deadly(victim, moment.phase, at)}

    def _deadly(self, party: str, phase: str, at: int) -> dict[str, str]:
        folder = self.site.folder / "deadly"
        folder.mkdir(exist_ok=True)
        (folder / "sitecustomize.py").write_text(DEADLY)
        path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
        notes = str(folder / f"{party}.txt")
        return {
            "PYTHONPATH": path, "DIE_IN": WRITES[phase], "DIE_AT": str(at), "DIE_NOTES": notes
        }  # fmt: skip

    def _await(self, moment: Moment, running: list[subprocess.Popen]) -> None:
        """Return as soon as the watched party has come to the moment."""
        watched = next((party for party in PARTIES if party in moment.what), None)
        if moment.phase == "validation":
            watched = "alice"  # it sends, the other scores
        watched = watched or PARTIES[int(moment.share * 1000) % 2]
        if moment.phase in EVENTS:
            event, step = EVENTS[moment.phase]
            wanted, name = 1, "log.jsonl"

            def hit(line):
                return line["event"] == event and line.get("step") == step
        else:
            begin, name = TOPICS[moment.phase], "transcript.jsonl"
            wanted = max(1, math.ceil(moment.share * self.totals[watched, moment.phase]))

            def hit(line):
                return line["topic"].startswith(begin)

        def reached():
            ended = {process.poll() for process in running} - {None}
            assert ended <= {0}, "it failed before the moment"
            # A report is soon written: it may be too late to disturb that.
            return ended or sum(map(hit, self._lines(watched, name))) >= wanted

        end = time.monotonic() + PATIENCE
        while not reached():
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.002)

    def _lines(self, party: str, name: str) -> list[dict]:
        try:
            text = (self.folder(party) / name).read_text()
        except OSError:
            return []
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def _kill(self, what: str, running: dict[str, subprocess.Popen]) -> None:
        victim = what.split()[-1]
        if victim == "all":
            os.killpg(running["run"].pid, signal.SIGKILL)
        elif "run" in running:
            os.kill(_child(running["run"].pid, victim), signal.SIGKILL)
        else:
            for party in PARTIES if victim == "both" else (victim,):
                running[party].kill()

    def _whole(self, running: dict[str, subprocess.Popen]) -> None:
        ended = _ends(running)
        assert all(one.code == 0 for one in ended.values()), ended


def _start(command: list[str], more: dict[str, str]) -> subprocess.Popen:
    def two_cores():
        # As many threads a party as `isthmus party` takes by itself: results are compared bitwise.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])

    return subprocess.Popen(
        command,
        env=ENVIRONMENT | more,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=two_cores,
    )


def _ends(running: dict[str, subprocess.Popen]) -> dict[str, Ended]:
    said = {name: process.communicate(timeout=PATIENCE) for name, process in running.items()}
    return {name: Ended(running[name].returncode, said[name][1]) for name in running}


def _end_group(process: subprocess.Popen) -> None:
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _child(parent: int, party: str) -> int:
    """The process of `party` under the launcher `parent`."""
    for task in Path(f"/proc/{parent}/task").iterdir():
        for child in (task / "children").read_text().split():
            arguments = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
            if party.encode() in arguments[arguments.index(b"--as") :][:2]:
                return int(child)
    raise AssertionError(f"{party} does not run")


def _untimed(value):
    if isinstance(value, dict):
        return {name: _untimed(one) for name, one in value.items() if "seconds" not in name}
    return [_untimed(one) for one in value] if isinstance(value, list) else value
