"""Environments of the peers: a Python of their own, made once under the work folder."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

WORK = Path(os.environ.get("ISTHMUS_BENCH_WORK", Path(__file__).parent / ".work"))
"""Where peers' environments, data and logs go; never committed."""


def environment(folder: Path, interpreter: str, install: Callable[[Path], None]) -> Path:
    """The Python of the environment in `folder`, made and filled by `install` if it is not there.

    Raises:
        RuntimeError: `interpreter` does not run on this machine.
    """
    python = folder / "bin" / "python"
    done = folder / ".complete"
    if python.exists() and (done.exists() or not (folder / ".making").exists()):
        return python
    found = shutil.which(interpreter)
    # A version manager's stand-in is found, but may not run.
    if found is None or subprocess.run([found, "-c", ""], capture_output=True).returncode:
        raise RuntimeError(f"the peer needs {interpreter}, and it does not run here: name its path")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".making").touch()
    subprocess.run([found, "-m", "venv", folder], check=True)
    install(python)
    done.touch()
    return python


def pip(python: Path, *arguments: str) -> None:
    """`pip install` in the environment of `python`."""
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*command, *arguments], check=True)


def requirements_of(python: Path, package: str) -> list[str]:
    """What the installed `package` asks for, extras left out."""
    code = (
        f"from importlib.metadata import requires; print('\\n'.join(requires({package!r}) or []))"
    )
    lines = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout
    return [line for line in lines.splitlines() if "extra ==" not in line]
