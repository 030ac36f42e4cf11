"""`isthmus doctor`: what could stop a job on this machine, found before it runs."""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer

from isthmus.cli.options import DEFAULT_IDENTITY, Debug, Format, IdentityFolder, Output, examples

EXAMPLES = examples("isthmus doctor", "isthmus doctor --listen 0.0.0.0:7600 --format json")

EXTRAS = {
    "vertical": ("tenseal", "bins, correlation, linear models"),
    "fedrec": ("numba", "federated recommenders"),
    "tune": ("optuna", "searches"),
    "retrieval": ("faiss-cpu", "approximate retrieval"),
    "tensorboard": ("tensorboard", "curves of a training"),
}
"""What tells that an extra is installed, and what it is for."""
PACKAGES = ("torch", "numpy", "polars", "cryptography", "pydantic", "safetensors")
LEAST_DISK = 1e9
"""Bytes below which the disk is called full."""
SOON = 30
"""Days before its end at which a certificate is called old."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    found: str
    good: bool
    mend: str = ""


def doctor(
    folder: IdentityFolder = DEFAULT_IDENTITY,
    out: Annotated[Path, typer.Option(help="Folder for results.")] = Path("runs"),
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="The address to listen on.")
    ] = "127.0.0.1:0",
    output: Output = Format.text,
    debug: Debug = False,
) -> None:
    """Look at versions, cores, disk, port and certificates; exit code 1 if something is wrong."""
    del debug
    findings = [
        *_versions(),
        *_extras(),
        _spu(),
        _cores(),
        _disk(out),
        _port(listen),
        *_certificates(folder),
    ]
    if output is Format.json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            mark = (
                typer.style("ok   ", fg="green") if finding.good else typer.style("wrong", fg="red")
            )
            typer.echo(f"{mark} {finding.what:<14} {finding.found}")
            if finding.mend and not finding.good:
                typer.echo(f"      {finding.mend}")
    if not all(finding.good for finding in findings):
        raise typer.Exit(1)


def _versions() -> list[Finding]:
    from isthmus import __version__

    found = [
        Finding("isthmus", __version__, True),
        Finding("python", platform.python_version(), True),
        _tls(),
    ]
    for package in PACKAGES:
        try:
            found.append(Finding(package, version(package), True))
        except PackageNotFoundError:
            mend = "Install isthmus again: pip install --force-reinstall isthmus"
            found.append(Finding(package, "not installed", False, mend))
    return found


def _extras() -> list[Finding]:
    """What can be left out is never wrong."""
    found = []
    for extra, (package, purpose) in EXTRAS.items():
        try:
            said = f"{package} {version(package)}"
        except PackageNotFoundError:
            said = f"not installed: pip install 'isthmus[{extra}]' for {purpose}"
        found.append(Finding(f"[{extra}]", said, True))
    return found


def _spu() -> Finding:
    """In an environment of its own; not wrong where nobody has named one."""
    from isthmus.align.rr22_spu import VARIABLE, VERSION, find_spu
    from isthmus.errors import JobError

    try:
        return Finding("spu (rr22)", f"{VERSION} in {find_spu()}", True)
    except JobError as error:
        if VARIABLE in os.environ:
            return Finding("spu (rr22)", error.message, False, error.mend)
        return Finding("spu (rr22)", f"not installed: {VARIABLE} names no Python that has it", True)


def _tls() -> Finding:
    from isthmus.link.remote import tls

    mend = "Use a Python that is built with OpenSSL 1.1.1 or later."
    return Finding("tls", *tls.version(), mend)


def _cores() -> Finding:
    from isthmus.jobs.launcher import available_cores

    return Finding("cores", str(available_cores()), True)


def _disk(out: Path) -> Finding:
    there = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free
    mend = f"Free some space where {there} lies, or choose another folder with --out."
    return Finding("free disk", f"{free / 1e9:.1f} GB at {there}", free >= LEAST_DISK, mend)


def _port(listen: str) -> Finding:
    host, _, port = listen.rpartition(":")
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.bind((host.strip("[]"), int(port)))
    except (OSError, ValueError, OverflowError) as error:
        return Finding("port", f"cannot listen on {listen}: {error}", False, "Choose another port.")
    return Finding("port", f"can listen on {listen}", True)


def _certificates(folder: Path) -> list[Finding]:
    from isthmus.errors import IdentityError
    from isthmus.link.identity import load_identity, trusted_partners

    names = sorted(path.name.removesuffix(".key.pem") for path in folder.glob("*.key.pem"))
    if not names:
        return [Finding("identity", f"none in {folder} (only needed between companies)", True)]
    try:
        own = [
            (name, load_identity(folder, name).certificate.not_valid_after_utc) for name in names
        ]
        partners = trusted_partners(folder)
    except IdentityError as error:
        return [Finding("identity", error.message, False, error.mend)]
    theirs = [(name, one.certificate.not_valid_after_utc) for name, one in partners.items()]
    return [_expiry(name, end) for name, end in own + theirs]


def _expiry(name: str, end: datetime) -> Finding:
    left = (end - datetime.now(UTC)).days
    mend = (
        f"{name} makes a new one with `isthmus identity new {name} --replace`; partners trust it."
    )
    return Finding("certificate", f"{name}: valid until {end:%Y-%m-%d}", left >= SOON, mend)
