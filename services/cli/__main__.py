"""The `onward` command: its sub-commands, put together. Drive it with `main()`.

Each is imported when it is called: `onward up` must not wait for an HTTP client that it never
uses, nor `onward publish` for the supervisor.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

# Name, and where the function stands, in the order in which help lists them. A function is named as
# the words of its command, joined by `_`: `onward dead-letters list` is `dead_letters_list`.
COMMANDS = {
    "up": "services.cli.up_options",
    "publish": "services.cli.publish",
    "subscribe": "services.cli.subscribe",
    "history": "services.cli.history",
    "explain": "services.cli.explain",
    "presence": "services.cli.presence",
    "mute": "services.cli.mute",
    "unmute": "services.cli.mute",
    "revoke": "services.cli.erase",
    "erase": "services.cli.erase",
    "status": "services.cli.status",
    "drain": "services.cli.drain",
    "conformance": "services.cli.conformance",
    "send-test": "services.cli.send_test",
}


@dataclass(frozen=True, slots=True)
class Group:
    """Commands of two words: what the first is about, and by the second where each stands."""

    help: str
    commands: Mapping[str, str]


# Listed behind the commands of one word.
GROUPS: Mapping[str, Group] = {
    "follows": Group(
        "What users follow: add, remove, list.",
        dict.fromkeys(("add", "remove", "list"), "services.cli.follows"),
    ),
    "endpoints": Group(
        "External tokens of a user: add, remove, list.",
        dict.fromkeys(("add", "remove", "list"), "services.cli.endpoints"),
    ),
    "profile": Group(
        "What a user wants: language, quiet hours, preferences.",
        dict.fromkeys(("get", "set"), "services.cli.profile"),
    ),
    "notifiers": Group(
        "Plugins that send notifications.",
        dict.fromkeys(("list", "add", "remove"), "services.cli.notifiers"),
    ),
    "routing": Group(
        "The file that says who is notified, when, and how.",
        {"check": "services.cli.routing"},
    ),
    "dead-letters": Group(
        "Deliveries that were given up.",
        dict.fromkeys(("list", "show", "replay", "drop"), "services.cli.dead_letters"),
    ),
    "extensions": Group(
        "Programs that are told who comes and goes, and what is published.",
        dict.fromkeys(("list", "add", "remove"), "services.cli.extensions"),
    ),
}


class _Commands(TyperGroup):
    """Finds a command by its name, and imports no other."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*COMMANDS, *GROUPS]

    def get_command(self, ctx: Any, cmd_name: str) -> TyperCommand | TyperGroup | None:
        if cmd_name in GROUPS:
            return _group(cmd_name, GROUPS[cmd_name])
        return _command(cmd_name, cmd_name, COMMANDS) if cmd_name in COMMANDS else None


def _command(name: str, words: str, commands: Mapping[str, str]) -> TyperCommand:
    """The command `name`, whose function is named after its `words`."""
    function = getattr(import_module(commands[name]), words.replace("-", "_"))
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    alone.command(name)(function)
    command = get_command(alone)
    assert isinstance(command, TyperCommand)
    return command


def _group(name: str, group: Group) -> TyperGroup:
    """The command `name` that finds the group's, each when it is called."""

    class _OfGroup(TyperGroup):
        def list_commands(self, ctx: Any) -> list[str]:
            return list(group.commands)

        def get_command(self, ctx: Any, cmd_name: str) -> TyperCommand | None:
            if cmd_name not in group.commands:
                return None
            return _command(cmd_name, f"{name}_{cmd_name}", group.commands)

    whole = typer.Typer(
        name=name,
        cls=_OfGroup,
        help=group.help,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    whole.callback()(_nothing)  # a group has no options of its own
    found = get_command(whole)
    assert isinstance(found, TyperGroup)
    return found


def _nothing() -> None:
    pass


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
