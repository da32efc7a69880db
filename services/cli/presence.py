"""`onward presence`: who is there, on a subject or of one user, by plain HTTP."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from onward_sdk import Api
from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.cli import options
from services.cli.outcome import run
from services.cli.output import print_json, printable


def presence(
    subject: Annotated[
        str, typer.Option("--subject", help="Who follows it.", show_default=False)
    ] = "",
    user: Annotated[
        str, typer.Option("--user", help="Or one user, with all clients.", show_default=False)
    ] = "",
    watch: Annotated[
        bool, typer.Option("--watch", help="Again whenever it changes, until Ctrl-C.")
    ] = False,
    url: options.Url = options.DEFAULT_URL,
    token: options.Token = "",
    json: options.Json = False,
) -> None:
    """Show who is there."""
    if bool(subject) == bool(user):
        raise typer.BadParameter("give one of the two", param_hint="--subject, --user")

    def show(found: Mapping[str, Any]) -> None:
        if json:
            print_json({"event": "presence", "subject": subject, "user": user, **found})
        else:
            _show(subject, user, found)

    async def ask() -> None:
        async with Api(url, token=token) as api:
            if watch:
                async for found in api.watch_presence(subject=subject, user=user):
                    show(found)
            elif user:
                show(await api.presence(user=user))
            else:
                show(await _whole(api, subject))

    run(ask())


async def _whole(api: Api, subject: str) -> Mapping[str, Any]:
    """All pages as one."""
    page = await api.presence(subject=subject, limit=1_000)
    clients = list(page.get("clients") or ())
    while after := str(page.get("nextAfterUser") or ""):
        page = await api.presence(subject=subject, limit=1_000, after=after)
        clients += page.get("clients") or ()
    return {**page, "clients": clients}


def _show(subject: str, user: str, found: Mapping[str, Any]) -> None:
    console = Console(highlight=False)
    clients = found.get("clients") or ()
    title = printable(subject or user)
    if subject:
        title += f": {found.get('present', 0)} there, {found.get('absent', 0)} away"
    elif found.get("lastSeen"):
        title += f": last seen {_time(found['lastSeen'])}"
    elif not clients:
        title += ": never seen"
    console.print(Text(f"{datetime.now(UTC):%H:%M:%S}  {title}"))
    if not clients:
        return
    table = Table()
    for column in ("User", "Client", "State", "Since"):
        table.add_column(column)
    for one in clients:
        state = str(one.get("state", ""))
        if state == "online" and one.get("active") is False:
            state = "online, in the background"
        table.add_row(
            Text(printable(str(one.get("user", "")))),
            Text(printable(str(one.get("clientId", "")))),
            Text(printable(state)),
            Text(_time(one.get("since", ""))),
        )
    console.print(table)


def _time(timestamp: str) -> str:
    return timestamp[:19].replace("T", " ")
