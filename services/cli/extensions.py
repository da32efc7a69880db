"""`onward extensions list|add|remove`: the programs that presence tells what happens.

By plain HTTP, through any edge; for administrators.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from onward_sdk import Api
from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.cli import options
from services.cli.outcome import run
from services.cli.output import print_json, printable

Name = Annotated[str, typer.Argument(help="Under which it is registered: a-z, 0-9 and -.")]


def extensions_list(
    url: options.Url = options.DEFAULT_URL,
    token: options.Token = "",
    json: options.Json = False,
) -> None:
    """List them: where each is, how far behind, and what it last failed with."""

    async def ask() -> None:
        async with Api(url, token=token) as api:
            found = await api.extensions()
        if json:
            for one in found:
                print_json({"event": "extension", **one})
        else:
            _show(found)

    run(ask())


def extensions_add(
    name: Name,
    address: Annotated[str, typer.Argument(help="host:port of its gRPC server.")],
    subjects: Annotated[
        list[str] | None,
        typer.Option(
            "--subjects",
            help="Subjects whose messages it is told, as in /chat/*; may be given several times. "
            "Without it: all.",
            show_default=False,
        ),
    ] = None,
    plain: Annotated[
        bool,
        typer.Option("--plain", help="Call it without TLS, with the shared secret, in any case."),
    ] = False,
    server_name: Annotated[
        str,
        typer.Option(
            "--server-name", help="In its certificate, if not its host.", show_default=False
        ),
    ] = "",
    url: options.Url = options.DEFAULT_URL,
    token: options.Token = "",
    json: options.Json = False,
) -> None:
    """Register one, or change where it is. A new one is told what happens from now on."""

    async def ask() -> None:
        async with Api(url, token=token) as api:
            await api.add_extension(
                name, address, subjects=subjects or (), plain=plain, server_name=server_name
            )
        if json:
            print_json({"event": "added", "name": name})
        else:
            typer.echo(f"{printable(name)} is registered at {printable(address)}")

    run(ask())


def extensions_remove(
    name: Name,
    url: options.Url = options.DEFAULT_URL,
    token: options.Token = "",
    json: options.Json = False,
) -> None:
    """Remove one, with how far it was."""

    async def ask() -> None:
        async with Api(url, token=token) as api:
            removed = await api.remove_extension(name)
        if json:
            print_json({"event": "removed", "name": name, "removed": removed})
        elif removed:
            typer.echo(f"{printable(name)} is registered no more")
        else:
            typer.echo(f"no extension is registered as {printable(name)}")

    run(ask())


def _show(found: Sequence[Mapping[str, Any]]) -> None:
    console = Console(highlight=False)
    if not found:
        console.print("No extension is registered.")
        return
    table = Table(title="Extensions", title_justify="left")
    for column in ("Name", "Address", "Subjects", "Behind", "Fault"):
        table.add_column(column, justify="right" if column == "Behind" else "left")
    for one in found:
        address = printable(one.get("address", "")) + (" (no TLS)" if one.get("plain") else "")
        subjects = ", ".join(printable(str(each)) for each in one.get("subjects") or ()) or "all"
        fault = printable(one.get("fault", ""))
        table.add_row(
            Text(printable(one.get("name", ""))),
            Text(address),
            Text(subjects),
            Text(printable(str(one.get("behind", "0")))),
            Text(fault, style="red" if fault else ""),
        )
    console.print(table)
