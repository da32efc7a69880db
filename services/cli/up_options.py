"""The options of `onward up`; what it does stands in `services.cli.up`."""

from pathlib import Path
from typing import Annotated

import typer

from services.cli.up import DATA_DIR, PORT, run_up


def up(
    data_dir: Annotated[
        Path, typer.Option("--data-dir", help="Where everything durable is kept.")
    ] = DATA_DIR,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65_535, help="Where clients connect; 0 draws one.")
    ] = PORT,
) -> None:
    """Run everything on this machine, until Ctrl-C."""
    run_up(data_dir, port)
