"""`isthmus fedrec`: federated recommenders, one client a user."""

from __future__ import annotations

import typer

from isthmus.cli.fedrec import attack, compare, demo, devices, images, list, run

app = typer.Typer(
    help="Federated recommenders, one client a user: simulated, or served to shards elsewhere.",
    no_args_is_help=True,
)
app.command("run", epilog=run.EXAMPLES)(run.run)
app.command("compare", epilog=compare.EXAMPLES)(compare.compare)
app.command("attack", epilog=attack.EXAMPLES)(attack.attack)
app.command("split", epilog=devices.SPLIT_EXAMPLES)(devices.split)
app.command("part", epilog=devices.PART_EXAMPLES)(devices.part)
app.command("serve", epilog=devices.SERVE_EXAMPLES)(devices.serve)
app.command("join", epilog=devices.JOIN_EXAMPLES)(devices.join)
app.command("demo", epilog=demo.EXAMPLES)(demo.demo)
app.command("images", epilog=images.EXAMPLES)(images.images)
app.command("list", epilog=list.EXAMPLES)(list.list_)
