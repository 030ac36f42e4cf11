"""`isthmus identity`: a party's key and certificate, and the partners it trusts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli.options import DEFAULT_IDENTITY, Debug, Format, IdentityFolder, Output, examples

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

app = typer.Typer(
    help="A party's key and certificate, and the partners it trusts.", no_args_is_help=True
)

Replace = Annotated[bool, typer.Option("--replace", help="In place of one that is still valid.")]


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


@app.command(epilog=examples("isthmus identity show", "isthmus identity show --format json"))
def show(
    folder: IdentityFolder = DEFAULT_IDENTITY,
    output: Output = Format.text,
    debug: Debug = False,
) -> None:
    """Show this folder's own identities and the trusted partners."""
    del debug
    from isthmus.errors import IdentityError
    from isthmus.link.identity import load_identity, trusted_partners

    names = sorted(path.name.removesuffix(".key.pem") for path in folder.glob("*.key.pem"))
    partners = trusted_partners(folder)
    if not names and not partners:
        raise IdentityError(
            f"there is no identity in {folder}", mend="Make one with `isthmus identity new NAME`."
        )
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


@app.command(
    epilog=examples(
        "isthmus identity trust bob.cert.pem", "isthmus identity trust new.pem --replace"
    )
)
def trust(
    certificate: Annotated[Path, typer.Argument(help="The certificate that the partner sent.")],
    name: Annotated[str | None, typer.Option(help="The name it must carry.")] = None,
    folder: IdentityFolder = DEFAULT_IDENTITY,
    replace: Replace = False,
    output: Output = Format.text,
    debug: Debug = False,
) -> None:
    """Trust a partner's certificate, after comparing its fingerprint by voice."""
    del debug
    from isthmus.link.identity import trust as trust_certificate

    partner = trust_certificate(folder, certificate, name, replace=replace)
    facts = _facts(partner.name, partner.path, partner.certificate)
    if output is Format.json:
        typer.echo(json.dumps(facts, indent=2))
        return
    typer.echo(f"{partner.name} is trusted from now on.")
    _print(facts)
    typer.echo("Compare the fingerprint with the partner by voice.")


def _facts(name: str, path: Path, certificate: Certificate) -> dict[str, Any]:
    from isthmus.link.identity import fingerprint

    return {
        "name": name,
        "certificate": str(path),
        "fingerprint": fingerprint(certificate),
        "valid_until": f"{certificate.not_valid_after_utc:%Y-%m-%d}",
    }


def _print(facts: dict[str, Any]) -> None:
    for label, value in facts.items():
        typer.echo(f"  {label.replace('_', ' '):<12} {value}")
