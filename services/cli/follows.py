"""`onward follows`: what users follow, as a backend has it, by plain HTTP."""

from typing import Annotated, Any

import typer
from onward_sdk import Api
from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.cli import options
from services.cli.outcome import run
from services.cli.output import print_json, printable

Subjects = Annotated[list[str], typer.Argument(help="For example /chat/1; as many as you like.")]
Users = Annotated[
    list[str] | None,
    typer.Option("--user", show_default=False, help="Who; repeatable. Without: you."),
]


def follows_add(
    subjects: Subjects,
    user: Users = None,
    url: options.Url = options.DEFAULT_URL,
    token: options.Token = "",
    json: options.Json = False,
) -> None:
    """Have users follow subjects from now on, who need never have connected."""

    async def ask() -> None:
        async with Api(url, token=token) as api:
            added = await (api.follow(user, subjects) if user else api.me.follow(subjects))
        _tell("added", added, json)

    run(ask())


def follows_remove(
    subjects: Subjects,
    user: Users = None,
    everywhere: Annotated[
        bool, typer.Option("--everywhere", help="Also what their clients follow.")
    ] = False,
    url: options.Url = options.DEFAULT_URL,
    token: options.Token = "",
    json: options.Json = False,
) -> None:
    """End what backends have had users follow; yours everywhere."""

    async def ask() -> None:
        async with Api(url, token=token) as api:
            removed = await (
                api.unfollow(user, subjects, everywhere) if user else api.me.unfollow(subjects)
            )
        _tell("removed", removed, json)

    run(ask())


def follows_list(
    user: options.Whose = "",
    url: options.Url = options.DEFAULT_URL,
    token: options.Token = "",
    json: options.Json = False,
) -> None:
    """List what a user follows, and with what."""

    async def ask() -> None:
        async with Api(url, token=token) as api:
            found = [one async for one in options.data_of(api, user).follows()]
        if json:
            for one in found:
                print_json({"event": "follow", **one})
        else:
            Console(highlight=False).print(_table(found))

    run(ask())


def _tell(event: str, count: int, json: bool) -> None:
    if json:
        print_json({"event": event, "count": count})
    else:
        typer.echo(f"{count} {'follow' if count == 1 else 'follows'} {event}")


def _table(found: list[Any]) -> Table:
    table = Table()
    for column in ("Subject", "Client", "Since", "Muted until"):
        table.add_column(column)
    for one in found:
        table.add_row(
            Text(printable(str(one.get("subject", "")))),
            Text(printable(str(one.get("clientId", ""))) or "(backend)"),
            Text(f"after {one.get('base', 0)}"),
            Text(options.until_words(one.get("mutedUntil"))),
        )
    return table
