"""The options of `onward up`; what it does stands in `services.cli.up`."""

from pathlib import Path
from typing import Annotated

import typer

from services.cli.up import DATA_DIR, PORT, run_up
from services.cli.up_plan import Sizes

_MEMBERS_MAX = 16  # of a kind; one machine has no use for more


def up(
    data_dir: Annotated[
        Path, typer.Option("--data-dir", help="Where everything durable is kept.")
    ] = DATA_DIR,
    port: Annotated[
        int,
        typer.Option(
            "--port",
            min=0,
            max=65_535,
            help="Where clients connect, with those after it for further edges; 0 draws one.",
        ),
    ] = PORT,
    coordinators: Annotated[
        int, typer.Option(min=1, max=_MEMBERS_MAX, help="How many; more than 1 need --store.")
    ] = 1,
    edges: Annotated[int, typer.Option(min=1, max=_MEMBERS_MAX, help="How many.")] = 1,
    presence: Annotated[
        int, typer.Option(min=1, max=_MEMBERS_MAX, help="How many; more than 1 need --store.")
    ] = 1,
    etcd: Annotated[int, typer.Option(min=1, max=7, help="How many members: 1, 3, 5 or 7.")] = 1,
    store: Annotated[
        str,
        typer.Option(
            show_default=False,
            help="A PostgreSQL for the log and presence, as postgresql://user@host/database (its "
            "password in PGPASSFILE); without one they are SQLite files, for one process each.",
        ),
    ] = "",
) -> None:
    """Run everything on this machine, until Ctrl-C."""
    run_up(data_dir, port, Sizes(coordinators, presence, edges, etcd), store)
