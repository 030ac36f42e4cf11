"""`isthmus identity`: a party's key and certificate, and the partners it trusts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli.options import DEFAULT_IDENTITY, Debug, Format, IdentityFolder, Output, examples

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from isthmus.errors import IdentityError

app = typer.Typer(
    help="A party's key and certificate, and the partners it trusts.", no_args_is_help=True
)

Replace = Annotated[
    bool, typer.Option("--replace", metavar="", help="In place of one that is still valid.")
]


@app.command(
    epilog=examples(
        "isthmus identity new alice", "isthmus identity new alice --folder ~/.isthmus --days 365"
    )
)
def new(
    name: Annotated[str, typer.Argument(help="The party's name, as in the job file.")],
    folder: IdentityFolder = DEFAULT_IDENTITY,
    days: Annotated[int, typer.Option(min=1, max=3650, help="Days of validity.")] = 825,
    replace: Replace = False,
    output: Output = Format.text,
    debug: Debug = False,
) -> None:
    """Make a key pair and a certificate to give to partners."""
    del debug
    from isthmus.link.identity import create_identity

    identity = create_identity(folder, name, days=days, replace=replace)
    facts = _facts(name, identity.certificate_path, identity.certificate)
    if output is Format.json:
        typer.echo(json.dumps(facts, indent=2))
        return
    _print(facts)
    typer.echo("Give the certificate to your partners and compare the fingerprint by voice.")


@app.command(epilog=examples("isthmus identity show", "isthmus identity show bob.cert.pem"))
def show(
    certificate: Annotated[
        Path | None, typer.Argument(help="A certificate to look at, such as one you received.")
    ] = None,
    folder: IdentityFolder = DEFAULT_IDENTITY,
    output: Output = Format.text,
    debug: Debug = False,
) -> None:
    """Show the own identities and the trusted partners, or one certificate before it is trusted."""
    del debug
    if certificate is not None:
        _show_received(_received(certificate), output)
        return
    _show_folder(folder, output)


@app.command(
    epilog=examples(
        "isthmus identity trust bob.cert.pem",
        "isthmus identity trust bob.cert.pem --fingerprint '1A2B 3C4D ...'",
        "isthmus identity trust new.pem --replace",
    )
)
def trust(
    certificate: Annotated[Path, typer.Argument(help="The certificate that the partner sent.")],
    name: Annotated[str | None, typer.Option(help="The name it must carry.")] = None,
    fingerprint: Annotated[
        str | None, typer.Option(help="The whole fingerprint, as the partner told it.")
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", metavar="", help="It was compared: do not ask.")
    ] = False,
    folder: IdentityFolder = DEFAULT_IDENTITY,
    replace: Replace = False,
    output: Output = Format.text,
    debug: Debug = False,
) -> None:
    """Trust a partner's certificate, after comparing its fingerprint by voice."""
    del debug
    from isthmus.link.identity import trust as trust_certificate

    received = _received(certificate)
    _refuse_own(received, folder)
    if fingerprint is not None:
        _compare(received, fingerprint)
    elif not yes:
        _ask(received)
    partner = trust_certificate(folder, certificate, name, replace=replace)
    facts = _facts(partner.name, partner.path, partner.certificate)
    if facts["fingerprint"] != received["fingerprint"]:
        partner.path.unlink()
        raise _fault(f"{certificate} has changed since it was shown", "Compare it again.")
    if output is Format.json:
        typer.echo(json.dumps(facts, indent=2))
        return
    typer.echo(f"{partner.name} is trusted from now on.")
    _print(facts)


@app.command(epilog=examples("isthmus identity untrust bob"))
def untrust(
    name: Annotated[str, typer.Argument(help="The partner.")],
    folder: IdentityFolder = DEFAULT_IDENTITY,
    output: Output = Format.text,
    debug: Debug = False,
) -> None:
    """Trust a partner's certificate no longer."""
    del debug
    from isthmus.files import storage_error

    path = {_party(path): path for path in (folder / "trusted").glob(f"*{_ENDING}")}.get(name)
    if path is None:
        raise _fault(f"{folder} trusts no {name!r}", "`isthmus identity show` lists whom it does.")
    try:
        path.unlink()
    except OSError as error:
        raise storage_error(path, error) from error
    if output is Format.json:
        typer.echo(json.dumps({"name": name, "certificate": str(path)}, indent=2))
        return
    typer.echo(f"{name} is trusted no longer: {path} is removed.")


_ENDING = ".cert.pem"


def _party(path: Path) -> str:
    return path.name.removesuffix(_ENDING)


def _show_folder(folder: Path, output: Format) -> None:
    from isthmus.link.identity import load_identity, trusted_partners

    names = sorted(path.name.removesuffix(".key.pem") for path in folder.glob("*.key.pem"))
    partners = trusted_partners(folder)
    if not names and not partners:
        raise _fault(f"there is no identity in {folder}", "Make one: `isthmus identity new NAME`.")
    own = [load_identity(folder, name) for name in names]
    mine = [_facts(one.name, one.certificate_path, one.certificate) for one in own]
    trusted = [_facts(one.name, one.path, one.certificate) for one in partners.values()]
    if output is Format.json:
        typer.echo(json.dumps({"own": mine, "trusted": trusted}, indent=2))
        return
    for title, entries in (("own", mine), ("trusted", trusted)):
        for entry in entries:
            typer.echo(f"{title}:")
            _print(entry)


def _received(path: Path) -> dict[str, Any]:
    """The facts of a party's certificate, wherever it lies."""
    from isthmus.link.certificates import party_of, read_certificate

    certificate = read_certificate(path)
    return _facts(party_of(certificate, path), path, certificate)


def _show_received(facts: dict[str, Any], output: Format) -> None:
    if output is Format.json:
        typer.echo(json.dumps(facts, indent=2))
        return
    _print(facts)
    typer.echo(f"If {facts['name']} tells you the same fingerprint by voice, it is theirs.")


def _refuse_own(facts: dict[str, Any], folder: Path) -> None:
    own = folder / f"{facts['name']}{_ENDING}"
    if own.exists() and _received(own)["fingerprint"] == facts["fingerprint"]:
        raise _fault(
            f"{facts['certificate']} is {facts['name']}'s own certificate",
            "Trust the one that the partner sent. Each party has an identity folder of its own.",
        )


def _compare(facts: dict[str, Any], told: str) -> None:
    """See that `told`, in groups or not, is the whole fingerprint."""
    digits = re.sub(r"[\s:]", "", told).upper()
    if digits != facts["fingerprint"].replace(" ", ""):
        raise _fault(
            f"the fingerprint of {facts['certificate']} is another: {facts['fingerprint']}",
            f"Do not trust it. Ask {facts['name']} by voice, and for the certificate anew.",
        )


def _ask(facts: dict[str, Any]) -> None:
    """Let the user compare; on standard error, since the output may be JSON."""
    _print(facts, err=True)
    question = f"Did {facts['name']} tell you this fingerprint by voice?"
    try:
        agreed = typer.confirm(question, default=False, err=True)
    except typer.Abort:
        typer.echo(err=True)
        agreed = False
    if not agreed:
        raise _fault(
            f"{facts['name']} is not trusted: nobody has compared the fingerprint",
            "Compare it by voice. Where nobody can be asked, say `--fingerprint` or `--yes`.",
        )


def _fault(message: str, mend: str) -> IdentityError:
    from isthmus.errors import IdentityError

    return IdentityError(message, mend=mend)


def _facts(name: str, path: Path, certificate: Certificate) -> dict[str, Any]:
    from isthmus.link.identity import fingerprint

    return {
        "name": name,
        "certificate": str(path),
        "fingerprint": fingerprint(certificate),
        "valid_until": f"{certificate.not_valid_after_utc:%Y-%m-%d}",
    }


def _print(facts: dict[str, Any], *, err: bool = False) -> None:
    for label, value in facts.items():
        typer.echo(f"  {label.replace('_', ' '):<12} {value}", err=err)
