"""The `onward` command: its sub-commands, put together. Drive it with `main()`."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer

from services.cli import explain, history, publish, subscribe

app = typer.Typer(
    help="Realtime messaging that carries on when users go offline.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # they print local variables, and so tokens
)

app.command("publish")(publish.publish)
app.command("subscribe")(subscribe.subscribe)
app.command("history")(history.history)
app.command("explain")(explain.explain)


@app.command("up")
def up(
    data_dir: Annotated[
        Path, typer.Option("--data-dir", help="Where everything durable is kept.")
    ] = Path("onward-data"),
    port: Annotated[
        int, typer.Option("--port", min=0, max=65_535, help="Where clients connect; 0 draws one.")
    ] = 8080,
) -> None:
    """Run everything on this machine, until Ctrl-C."""
    from services.cli.up import run_up  # here, so that the other commands start without it

    run_up(data_dir, port)


@app.callback(invoke_without_command=True)
def _options(
    show_version: Annotated[
        bool, typer.Option("--version", is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    if show_version:
        try:
            typer.echo(f"onward {version('onward')}")
        except PackageNotFoundError:
            typer.echo("onward (from a source tree)")
        raise typer.Exit


def main() -> None:
    """The entry point of `onward` and of `python -m services.cli`."""
    app(prog_name="onward")


if __name__ == "__main__":
    main()
