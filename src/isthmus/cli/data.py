"""`isthmus data`: public data sets, and what a table holds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isthmus.cli.options import Debug, Format, Output, examples

if TYPE_CHECKING:
    from isthmus.data import ColumnProfile, Schema

app = typer.Typer(help="Public data sets, and what a table holds.", no_args_is_help=True)


@app.command(
    epilog=examples(
        "isthmus data get ml-100k",
        "isthmus data get ml-1m --source ~/Downloads/ml-1m",
        "isthmus data get cifar-10 --source ~/Downloads/cifar-10-binary.tar.gz",
    )
)
def get(
    name: Annotated[
        str,
        typer.Argument(
            help="ml-100k, ml-1m, filmtrust or microlens-50k; of images cifar-10, cifar-100 or "
            "femnist."
        ),
    ],
    folder: Annotated[Path | None, typer.Option(help="Where to put it; a cache if unset.")] = None,
    source: Annotated[
        Path | None, typer.Option(help="A folder that has the published files, or the archive.")
    ] = None,
    output: Output = Format.text,
    debug: Debug = False,
) -> None:
    """Fetch a public data set, check it, and write it as Parquet tables."""
    del debug
    from isthmus.data.sources import get as get_data

    path = get_data(name, folder, source, say=lambda text: typer.echo(text, err=True))
    files = sorted(str(file) for file in path.iterdir())
    if output is Format.json:
        typer.echo(json.dumps({"name": name, "folder": str(path), "files": files}, indent=2))
        return
    typer.echo(f"{name} is in {path}")
    for file in files:
        typer.echo(f"  {file}")


@app.command(
    epilog=examples(
        "isthmus data describe ratings.csv", "isthmus data describe ratings.csv --out schema.yaml"
    )
)
def describe(
    table: Annotated[Path, typer.Argument(help="csv, tsv, parquet, jsonl or arrow.")],
    out: Annotated[Path | None, typer.Option(help="Also write the schema there, as YAML.")] = None,
    output: Output = Format.text,
    debug: Debug = False,
) -> None:
    """Show a table's columns and the features that they suggest; no value of a row is shown."""
    del debug
    from isthmus.data import read_table, save_schema
    from isthmus.data.infer import describe as profile
    from isthmus.data.infer import infer_schema

    frame = read_table(table)
    profiles = profile(frame, source=str(table))
    schema = infer_schema(frame, profiles=profiles)
    rows = profiles[0].rows if profiles else 0
    if out is not None:
        save_schema(schema, out)
    if output is Format.json:
        columns = [asdict(one) | {"suggestion": one.suggestion.short()} for one in profiles]
        facts = {"rows": rows, "columns": columns, "schema": schema.model_dump()}
        typer.echo(json.dumps(facts, indent=2))
    else:
        typer.echo(f"{table}: {rows:,} rows, {len(profiles)} columns\n")
        _show_columns(profiles, schema)
        typer.echo(f"\n{schema.to_yaml()}", nl=False)
    if out is not None:
        typer.echo(f"\nThe schema is in {out}, to be edited.", err=True)


def _show_columns(profiles: Sequence[ColumnProfile], schema: Schema) -> None:
    width = max((len(one.name) for one in profiles), default=0)
    for one in profiles:
        use = "key" if one.name in schema.key else one.suggestion.kind
        remarks = [one.summary]
        if use == "ignore" and one.reason:
            remarks.append(f"ignored: {one.reason}")
        if use != "key" and one.can_be_key:
            remarks.append("can be the key")
        typer.echo(f"{one.name:<{width}}  {use:<12} {one.dtype:<10} {'; '.join(remarks)}")
