"""SecretFlow's `spu` in a process of its own: where it is, and one run of RR22 by it.

`spu` 0.9 needs NumPy below 2 and Python 3.10 or 3.11, so it has an environment of its own, whose
interpreter the variable `ISTHMUS_SPU_PYTHON` names (`integrations/spu` says how to make one).
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from isthmus.align.order import random_order
from isthmus.align.protocol import Names
from isthmus.align.rr22_tunnel import Tunnel
from isthmus.errors import AlignError, JobError, StorageError
from isthmus.link import Link
from isthmus.link.printable import printable

VARIABLE = "ISTHMUS_SPU_PYTHON"
"""Environment variable: the interpreter that has `spu`."""
VERSION = "0.9.5"
"""The release that was looked at; both parties must have the same."""
NAME_BYTES = 12
"""Divisible by three, so that each has its own characters in base 64."""
_SCRIPT = Path(__file__).with_name("rr22_child.py")
_MEMORY = Path("/dev/shm")
_BYTES_PER_ID = 150
"""Of files, at the most, while a run lasts."""
_MEND = (
    "Make an environment with Python 3.10 or 3.11, run `pip install spu==0.9.5` in it, and give "
    f"the path of its python in the environment variable {VARIABLE}; or align with protocol: kkrt."
)


def interpreter() -> str:
    """The Python that is to have `spu`: the one that the variable names, or our own."""
    return os.environ.get(VARIABLE) or sys.executable


def find_spu() -> str:
    """See that the interpreter has the right `spu`, which takes some tenths of a second.

    Raises:
        JobError: it has not.
    """
    python = interpreter()
    found = installed(python)
    if found is None:
        raise JobError(f"rr22: the package spu is not installed for {python}", mend=_MEND)
    if found != VERSION:
        raise JobError(f"rr22: {python} has spu {found}, and {VERSION} is needed", mend=_MEND)
    return python


def installed(python: str) -> str | None:
    """The version of `spu` that an interpreter has.

    Raises:
        JobError: it does not run.
    """
    try:
        said = subprocess.run(
            [*_command(python), "--version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=60,
        ).stdout
        found = json.loads(said)["spu"]
    except (OSError, subprocess.TimeoutExpired, ValueError, LookupError, TypeError):
        raise JobError(f"rr22: {python} does not run as a Python", mend=_MEND) from None
    return None if found is None else printable(str(found), 40)


def run_rr22(
    python: str, link: Link, names: Names, theirs: int, *, receives: bool, seconds: int
) -> Names | None:
    """Run RR22 with one partner, which calls it at the same time.

    Args:
        python: the interpreter that has `spu`.
        link: to the partner.
        names: uint8 `[n, NAME_BYTES]`, what we have, all different.
        theirs: how many the partner has.
        receives: whether we get the result; exactly one of the two does.
        seconds: how long `spu` waits for a message of the other side.

    Returns:
        uint8 `[c, NAME_BYTES]` of what both have, in any order, at the party that receives.

    Raises:
        AlignError: `spu` failed.
        BadMessage: the partner did not keep to the protocol.
        StorageError: there is no room for the files.
    """
    with (
        _folder(len(names)) as folder,
        Tunnel(link, folder, receiver=receives, ids=len(names) + theirs) as tunnel,
        _child(python, folder) as child,
    ):
        _write(folder / "ids.csv", names)
        wanted = {"folder": str(folder), "rank": 0 if receives else 1, "seconds": seconds}
        found = tunnel.carry(partial(_ask, child, wanted))
        return _read(folder / "found.csv", found) if receives else None


def _command(python: str) -> list[str]:
    return [python, "-I", str(_SCRIPT)]


@contextlib.contextmanager
def _folder(count: int) -> Iterator[Path]:
    """A folder of our own, in memory where there is room for so many ids."""
    try:
        room = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > 2 * _BYTES_PER_ID * count
        folder = Path(tempfile.mkdtemp(prefix="isthmus-", dir=_MEMORY if room else None))
    except OSError as error:
        raise _no_room(error) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _child(python: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`spu` in a process group of its own, none of which is left afterwards."""
    environment = {"PATH": os.environ.get("PATH", os.defpath), "TMPDIR": str(folder)}
    child = subprocess.Popen(
        _command(python),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**environment, "LC_ALL": "C"},
        start_new_session=True,
    )
    try:
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def _ask(child: subprocess.Popen[bytes], wanted: Mapping[str, str | int]) -> int:
    """Have the child do it; how many ids it found. Raises AlignError where it fails."""
    assert child.stdin is not None
    assert child.stdout is not None
    with contextlib.suppress(OSError):
        child.stdin.write(json.dumps(wanted).encode() + b"\n")
        child.stdin.flush()
    said = child.stdout.readline(1 << 16)
    try:
        answer = json.loads(said)
        return int(answer["found"])
    except (ValueError, TypeError):
        reason = "it ended without an answer"
    except LookupError:
        # Native code's own words, a trace of its calls after them.
        words = " ".join(str(answer.get("error")).split("stacktrace")[0].split())
        reason = printable(words, 300)
    raise AlignError(
        f"rr22: spu failed: {reason}",
        mend="Look at the partner's message too: the first to stop names the cause.",
    )


def _write(path: Path, names: Names) -> None:
    """The names in an order that tells nothing, and one more that nobody else has.

    `spu` lets each side see a digest of the other's file: by the additional name it says nothing,
    and is never the same as one's own (which `spu` would take for equal sets).
    """
    own = np.frombuffer(secrets.token_bytes(NAME_BYTES), dtype=np.uint8)[None]
    rows = np.concatenate([names, own])[random_order(len(names) + 1)]
    text = np.frombuffer(base64.b64encode(rows.tobytes()), dtype=np.uint8).reshape(len(rows), -1)
    lines = np.full((len(rows), text.shape[1] + 1), ord("\n"), dtype=np.uint8)
    lines[:, :-1] = text
    try:
        with path.open("wb") as file:
            file.write(b"id\n")
            file.write(lines.data)
    except OSError as error:
        raise _no_room(error) from error


def _read(path: Path, count: int) -> Names:
    try:
        lines = path.read_bytes().partition(b"\n")[2].replace(b"\n", b"")
        raw = base64.b64decode(lines, validate=True)
    except (OSError, ValueError) as error:
        raise AlignError(f"rr22: the result of spu cannot be read: {error}") from error
    if len(raw) != NAME_BYTES * count:
        raise AlignError("rr22: the result of spu is not as long as it says")
    return np.frombuffer(raw, dtype=np.uint8).reshape(count, NAME_BYTES)


def _no_room(error: OSError) -> StorageError:
    return StorageError(
        f"rr22 cannot write its temporary files: {error.strerror}",
        mend=f"They take some {_BYTES_PER_ID} bytes an id, in {_MEMORY} or where TMPDIR says.",
    )
