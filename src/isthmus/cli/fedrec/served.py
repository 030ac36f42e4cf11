"""What a run on devices has come to, as `isthmus fedrec serve` and `demo` show it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer

from isthmus.cli.fedrec.run import show
from isthmus.cli.options import Format

if TYPE_CHECKING:
    from isthmus.fedrec.devices import Served


def show_served(served: Served, output: Format) -> None:
    """The result, and who was left out when."""
    if output is Format.json:
        found = {"result": served.result.to_json(), "devices": served.to_json()}
        typer.echo(json.dumps(found, indent=2))
        return
    show([served.result])
    if not served.result.privacy.get("secure_sum"):
        what = "each client's rows one by one"
        if served.result.backbone is None:
            what = "each shard's sum"
        elif served.result.algorithm == "fedca-sketched":
            what = "each client's noised sketch and each shard's sums by group"
        elif served.result.leaves == "vectors":
            what = "each client's rows and its user's vector, one by one"
        elif served.result.leaves == "tables":
            what = "each client's rows or table, of those it asked for them"
        typer.echo(f"The server saw {what} (no --secure-sum).")
    for name, (up, down) in sorted(served.traffic.items()):
        typer.echo(f"{name}: {up / 2**20:,.1f} MiB up, {down / 2**20:,.1f} MiB down")
    short = [one for one in served.rounds if one.left_out or one.absent]
    if short:
        typer.echo(f"Clients were missing in {len(short)} of {len(served.rounds)} rounds:")
    for one in short[:10]:
        why = "; ".join(f"{name} {reason}" for name, reason in one.left_out.items())
        typer.echo(f"  round {one.number}: {one.trained} of {one.wanted}" + (why and f" ({why})"))
    for name, why in served.refused.items():
        typer.echo(f"{name} was refused: {why}")
