"""All parties of a job on this machine: a process each, throw-away identities, one display.

The processes are what `isthmus party` starts, and they talk over mutually authenticated TLS on
loopback: nothing differs from a run between two companies but the distance.
"""

from __future__ import annotations

import os
import queue
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from isthmus.errors import LinkError
from isthmus.jobs.events import Event, read_event
from isthmus.jobs.job import Job
from isthmus.jobs.rehearsal import rehearsal_secret
from isthmus.link.identity import create_identity, trust

GRACE = 12.0
"""Seconds that the other parties have to report a failure by themselves before they are ended."""

_PORTS = range(20_000, 32_000)
_PORT_TRIALS = 100

RECONNECT = 5.0
"""Seconds after which a silent partner on the same machine counts as gone."""

OnEvent = Callable[[str, Event], None]


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What to start."""

    job: Job
    overrides: Sequence[str] = ()
    out: Path = Path("runs")
    resume: bool = False
    debug: bool = False


@dataclass
class Outcome:
    """How one party ended."""

    party: str
    returncode: int | None = None
    error: Event | None = None
    """The last `error` event."""
    report: Path | None = None
    """The report's page, when the party finished."""
    stopped: bool = False
    """Whether the launcher ended it, since a partner had failed."""
    noise: deque[str] = field(default_factory=lambda: deque(maxlen=40))
    """The last lines of its standard error."""

    @property
    def failed(self) -> bool:
        """Whether the party did not finish."""
        return self.returncode != 0


def launch(what: Launch, on_event: OnEvent) -> dict[str, Outcome]:
    """Run every party of the job to its end; returns how each ended.

    Args:
        what: the job and where its results go.
        on_event: called in this thread with each party's name and event.
    """
    with tempfile.TemporaryDirectory(prefix="isthmus-") as temporary:
        spec = what.job.spec
        identities = throw_away_identities(Path(temporary), spec.everyone, seed=spec.seed)
        port = free_port()
        children: dict[str, subprocess.Popen[str]] = {}
        try:
            for party in spec.everyone:
                children[party] = _start(what, party, identities[party], port)
            return _attend(children, on_event)
        except BaseException:
            _end(children.values())
            raise


def throw_away_identities(folder: Path, parties: Sequence[str], *, seed: int) -> dict[str, Path]:
    """An identity folder for each party, each trusting all the others, valid for two days.

    Keys are random; the parties' secrets are those of a rehearsal of a job with `seed`.
    """
    made = {
        party: create_identity(folder / party, party, days=2, secret=rehearsal_secret(seed, party))
        for party in parties
    }
    for party in parties:
        for partner in parties:
            if partner != party:
                trust(folder / party, made[partner].certificate_path, name=partner)
    return {party: folder / party for party in parties}


def free_port() -> int:
    """A loopback port that nobody listens on just now.

    It is looked for below the range from which systems give out ports by themselves: a connection
    made by another program cannot take it before the party listens.
    """
    for _ in range(_PORT_TRIALS):
        port = secrets.choice(_PORTS)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise LinkError("this machine has no free port between 20000 and 32000 on 127.0.0.1")


def party_command(what: Launch, party: str, identity: Path, port: int) -> list[str]:
    """The command line that starts `party`."""
    spec = what.job.spec
    address = f"127.0.0.1:{port}"
    end = ["--listen", address] if party == spec.label.party else ["--dial", address]
    command = [sys.executable, "-m", "isthmus", "party", str(what.job.path), "--as", party]
    command += ["--identity", str(identity), *end, "--out", str(what.out), "--events"]
    command += ["--threads", str(threads_each(len(spec.everyone))), "--reconnect", str(RECONNECT)]
    command += ["--resume"] if what.resume else []
    command += ["--debug"] if what.debug else []
    for override in what.overrides:
        command += ["--set", override]
    return command


def threads_each(parties: int) -> int:
    """Cores of this machine a party."""
    return max(1, available_cores() // parties)


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start(what: Launch, party: str, identity: Path, port: int) -> subprocess.Popen[str]:
    threads = str(threads_each(len(what.job.spec.everyone)))
    return subprocess.Popen(
        party_command(what, party, identity, port),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        # Read by the number libraries when they are loaded, before our own code runs.
        env={**os.environ, "OMP_NUM_THREADS": threads, "POLARS_MAX_THREADS": threads},
    )


def _attend(children: Mapping[str, subprocess.Popen[str]], on_event: OnEvent) -> dict[str, Outcome]:
    outcomes = {party: Outcome(party) for party in children}
    inbox: queue.Queue[tuple[str, Event]] = queue.Queue()
    readers = [
        thread
        for party, child in children.items()
        for thread in _readers(child, outcomes[party], inbox)
    ]
    deadline = float("inf")
    while any(reader.is_alive() for reader in readers) or not inbox.empty():
        _deliver(inbox, outcomes, on_event)
        if deadline == float("inf") and any(child.poll() for child in children.values()):
            deadline = time.monotonic() + GRACE
        if time.monotonic() > deadline:
            for party, child in children.items():
                # Once more, if something still holds its output: it stays what it was.
                outcomes[party].stopped |= child.poll() is None
            _end(children.values())
            deadline = float("inf")
    for party, child in children.items():
        outcomes[party].returncode = child.wait()
    return outcomes


def _readers(
    child: subprocess.Popen[str], outcome: Outcome, inbox: queue.Queue[tuple[str, Event]]
) -> list[threading.Thread]:
    def events() -> None:
        assert child.stdout is not None
        with child.stdout as lines:
            for line in lines:
                event = read_event(line)
                if event is None:
                    outcome.noise.append(line.rstrip())
                else:
                    inbox.put((outcome.party, event))

    def noise() -> None:
        assert child.stderr is not None
        with child.stderr as lines:
            outcome.noise.extend(line.rstrip() for line in lines)

    threads = [threading.Thread(target=target, daemon=True) for target in (events, noise)]
    for thread in threads:
        thread.start()
    return threads


def _deliver(
    inbox: queue.Queue[tuple[str, Event]], outcomes: Mapping[str, Outcome], on_event: OnEvent
) -> None:
    try:
        party, event = inbox.get(timeout=0.1)
    except queue.Empty:
        return
    if event["event"] == "error":
        outcomes[party].error = event
    if event["event"] == "done":
        outcomes[party].report = Path(event["report"])
    on_event(party, event)


def _end(children: Iterable[subprocess.Popen[str]]) -> None:
    for child in children:
        if child.poll() is None:
            child.terminate()
    for child in children:
        try:
            child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            child.kill()
