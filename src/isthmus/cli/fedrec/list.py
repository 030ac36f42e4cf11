"""`isthmus fedrec list`: what can be run."""

from __future__ import annotations

import json

import typer

from isthmus.cli.options import Debug, Format, Output, examples

EXAMPLES = examples("isthmus fedrec list", "isthmus fedrec list --format json")


def list_(output: Output = Format.text, debug: Debug = False) -> None:
    """Show algorithms, backbones, protocols and data sets."""
    del debug
    from isthmus.fedrec import PROTOCOLS, algorithm, algorithm_names, backbone_names
    from isthmus.fedrec.masked import runs_on_devices, takes_secure_sum
    from isthmus.fedrec.sources import PUBLIC

    found = [algorithm(name) for name in algorithm_names()]
    masked = {one.name for one in found if takes_secure_sum(one.name)}
    devices = {one.name for one in found if runs_on_devices(one.name)}
    there = {one.name for one in found if runs_on_devices(one.name, masked=True)}
    if output is Format.json:
        facts = {
            "algorithms": [
                {
                    "name": one.name,
                    "title": one.title,
                    "kind": one.kind,
                    "leaves": one.leaves,
                    "secure_sum": one.name in masked,
                    "devices": one.name in devices,
                    "devices_secure_sum": one.name in there,
                    "private": one.private,
                    "backbones": one.backbones,
                    "rounds": one.rounds,
                    "paper": one.paper,
                }
                for one in found
            ],
            "backbones": backbone_names(),
            "protocols": sorted(PROTOCOLS),
            "data": sorted(PUBLIC),
        }
        typer.echo(json.dumps(facts, indent=2))
        return
    wide = max(len(one.name) for one in found)
    for one in found:
        with_ = ", ".join(one.backbones) or "no backbone"
        source = "" if one.paper == "none" else f" ({one.paper})"
        typer.echo(f"{one.name:<{wide}}  {one.title}{source}")
        needs: str = one.leaves
        if needs == "sums":
            needs += f" ({_masks(one.name in masked, one.name in there)})"
        where = "; also between devices" if one.name in devices else ""
        typer.echo(f"{'':<{wide}}  the server needs: {needs}; {with_}{where}")
    typer.echo(f"\nprotocols: {', '.join(PROTOCOLS)}")
    typer.echo(f"data: {', '.join(PUBLIC)}, or a table of users and items")


def _masks(here: bool, there: bool) -> str:
    if here:
        return "--secure-sum"
    return "--secure-sum between devices" if there else "not run under --secure-sum"
