"""The `onward` command: its sub-commands, put together. Drive it with `main()`.

Each is imported when it is called: `onward up` must not wait for an HTTP client that it never
uses, nor `onward publish` for the supervisor.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

# Name, and where the function stands, in the order in which help lists them.
COMMANDS = {
    "up": "services.cli.up_options",
    "publish": "services.cli.publish",
    "subscribe": "services.cli.subscribe",
    "history": "services.cli.history",
    "explain": "services.cli.explain",
    "status": "services.cli.status",
    "drain": "services.cli.drain",
    "conformance": "services.cli.conformance",
}


class _Commands(TyperGroup):
    """Finds a command by its name, and imports no other."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> TyperCommand | None:
        if cmd_name not in COMMANDS:
            return None
        alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        alone.command(cmd_name)(getattr(import_module(COMMANDS[cmd_name]), cmd_name))
        command = get_command(alone)
        assert isinstance(command, TyperCommand)
        return command


app = typer.Typer(
    cls=_Commands,
    help="Realtime messaging that carries on when users go offline.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # they print local variables, and so tokens
)


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
