"""`onward endpoints`: the external tokens of a user, by plain HTTP.

A token that a provider drew is as good as a password, so people are shown its beginning; `--json`
prints the whole.
"""

from typing import Annotated, Any

import typer
from onward_sdk import Api
from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.cli import options
from services.cli.outcome import run
from services.cli.output import print_json, printable

_SHOWN = 24
_KNOWN_TO_MANY = ("mailto:", "tel:")  # addresses, not secrets

Uri = Annotated[
    str, typer.Argument(help="For example mailto:ann@example.org; - reads it from stdin.")
]


def endpoints_add(
    uri: Uri,
    user: options.Whose = "",
    url: options.Url = options.DEFAULT_URL,
    token: options.Token = "",
    json: options.Json = False,
) -> None:
    """Add an external token to a user, who need never have connected."""
    uri = _read(uri)

    async def ask() -> None:
        async with Api(url, token=token) as api:
            await options.data_of(api, user).add_endpoint(uri)
        if json:
            print_json({"event": "added", "uri": uri})

    run(ask())


def endpoints_remove(
    uri: Uri,
    user: options.Whose = "",
    url: options.Url = options.DEFAULT_URL,
    token: options.Token = "",
    json: options.Json = False,
) -> None:
    """Remove an external token from a user, whoever registered it."""
    uri = _read(uri)

    async def ask() -> None:
        async with Api(url, token=token) as api:
            removed = await options.data_of(api, user).remove_endpoint(uri)
        if json:
            print_json({"event": "removed", "uri": uri, "removed": removed})
        elif not removed:
            typer.echo("there was none")

    run(ask())


def endpoints_list(
    user: options.Whose = "",
    url: options.Url = options.DEFAULT_URL,
    token: options.Token = "",
    json: options.Json = False,
) -> None:
    """List the external tokens of a user."""

    async def ask() -> None:
        async with Api(url, token=token) as api:
            found = await options.data_of(api, user).endpoints()
        if json:
            for one in found:
                print_json({"event": "endpoint", **one})
        else:
            Console(highlight=False).print(_table(found))

    run(ask())


def _read(uri: str) -> str:
    """Arguments are seen by who lists processes; stdin is not."""
    return typer.get_text_stream("stdin").readline().strip() if uri == "-" else uri


def _table(found: Any) -> Table:
    table = Table()
    for column in ("External token", "Clients", "Registered", ""):
        table.add_column(column)
    for one in found:
        clients = [printable(str(each)) for each in one.get("clientIds") or ()]
        table.add_row(
            Text(_cut(printable(str(one.get("uri", ""))))),
            Text(", ".join(clients) or "(backend)"),
            Text(str(one.get("registeredAt", ""))[:19].replace("T", " ")),
            Text("takes nothing" if one.get("optedOut") else ""),
        )
    return table


def _cut(uri: str) -> str:
    if uri.startswith(_KNOWN_TO_MANY) or len(uri) <= _SHOWN:
        return uri
    return f"{uri[:_SHOWN]}…"
