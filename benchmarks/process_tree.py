"""Run a command and measure its whole process tree: wall time, CPU time, peak memory.

Memory is PSS, which shares the pages that several processes map among them, so that the sum over a
tree is what the tree takes. Linux only: it reads /proc.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class TreeUsage:
    """What a command and all its descendants used."""

    wall_seconds: float
    cpu_seconds: float
    """Sum over all processes seen, those ended included."""
    peak_pss_mb: float
    """Largest sum of PSS over the tree, in 10^6 bytes."""
    peak_rss_mb: float
    """The same of RSS, which counts shared pages once per process."""
    peak_processes: int
    other_cores: float
    """Cores kept busy meanwhile by everything else on the machine, in the mean; 0 is quiet."""

    def as_json(self) -> dict[str, Any]:
        """All fields, rounded."""
        return {name: round(value, 2) for name, value in asdict(self).items()}


class CommandFailed(RuntimeError):
    """A measured command ended with an error or ran past its time."""


def measure(
    commands: Sequence[Sequence[str]],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    timeout: float = 1800,
    every: float = 0.5,
) -> TreeUsage:
    """Run `commands` side by side to their end and return what they used together.

    Args:
        commands: one or several command lines, started together.
        log: file that gets the output of all.
        env: the environment; ours when None.
        timeout: seconds until all are killed.
        every: seconds between two looks at /proc.

    Raises:
        CommandFailed: with the end of the log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        processes = [
            subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=env)
            for command in commands
        ]
        sampler = _Sampler([process.pid for process in processes], every)
        failed = _wait(processes, time.monotonic() + timeout)
        usage = sampler.stop()
    if failed:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-25:])
        raise CommandFailed(f"{failed}; the end of {log}:\n{tail}")
    return usage


def _wait(processes: Sequence[subprocess.Popen[bytes]], deadline: float) -> str:
    """Empty when all ended well, else what went wrong, with nothing left running."""
    while True:
        codes = [process.poll() for process in processes]
        bad = [code for code in codes if code not in (None, 0)]
        if not bad and None not in codes:
            return ""
        if bad or time.monotonic() > deadline:
            time.sleep(3 if bad else 0)  # the others may end by themselves and say why
            for process in processes:
                process.kill()
                process.wait()
            return f"a command ended with {bad[0]}" if bad else "a command ran past its time"
        time.sleep(0.1)


class _Sampler:
    def __init__(self, roots: Sequence[int], every: float) -> None:
        self._roots = roots
        self._every = every
        self._seen: set[int] = set()
        self._cpu: dict[int, float] = {}
        self._pss = self._rss = self._processes = 0
        self._begin = time.monotonic()
        self._busy = _machine_busy_seconds()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> TreeUsage:
        self._stop.set()
        self._thread.join()
        wall = time.monotonic() - self._begin
        cpu = sum(self._cpu.values())
        others = max(0.0, _machine_busy_seconds() - self._busy - cpu) / wall
        return TreeUsage(wall, cpu, self._pss / 1e6, self._rss / 1e6, self._processes, others)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._look()
            self._stop.wait(self._every)

    def _look(self) -> None:
        children, cpu = _processes()
        tree = _descendants([*self._roots, *self._seen], children) & cpu.keys()
        self._seen |= tree  # a daemon keeps being counted after its parent has gone
        self._cpu.update({pid: cpu[pid] for pid in tree})
        memory = [_memory(pid) for pid in tree]
        self._pss = max(self._pss, sum(pss for pss, _ in memory))
        self._rss = max(self._rss, sum(rss for _, rss in memory))
        self._processes = max(self._processes, len(tree))


def _processes() -> tuple[dict[int, list[int]], dict[int, float]]:
    """Children by parent, and CPU seconds by process, of everything that runs."""
    children: dict[int, list[int]] = {}
    cpu: dict[int, float] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - a tenth of the time of iterdir
        if not name.isdigit():
            continue
        try:
            with Path(f"/proc/{name}/stat").open() as file:
                fields = file.read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(name))
        cpu[int(name)] = (int(fields[11]) + int(fields[12])) / _TICKS
    return children, cpu


def _descendants(roots: Sequence[int], children: Mapping[int, Sequence[int]]) -> set[int]:
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting += children.get(pid, [])
    return found


def _memory(pid: int) -> tuple[int, int]:
    """PSS and RSS of one process in bytes; zero when it has gone."""
    sizes = {"Pss": 0, "Rss": 0}
    try:
        with Path(f"/proc/{pid}/smaps_rollup").open() as file:
            for line in file:
                name = line.split(":", 1)[0]
                if name in sizes:
                    sizes[name] = int(line.split()[1]) * 1024
    except OSError:
        pass
    return sizes["Pss"], sizes["Rss"]


def _machine_busy_seconds() -> float:
    """CPU seconds that all cores together were not idle since boot."""
    with Path("/proc/stat").open() as file:
        ticks = [int(value) for value in file.readline().split()[1:]]
    user_nice_system_idle_wait = ticks[:8]
    return (sum(user_nice_system_idle_wait) - ticks[3] - ticks[4]) / _TICKS
