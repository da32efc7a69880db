"""`onward drain`: has one member of the cluster end in peace, by plain HTTP.

The edge that is asked passes it on to the member. It answers when that has begun, not when the
member has ended: `onward status` shows until when it is there.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from onward_sdk import Api

from services.cli import options
from services.cli.outcome import run
from services.cli.output import print_json, printable


def drain(
    member: Annotated[
        str,
        typer.Argument(
            help="A coordinator's or presence service's name, an edge's id or an address, as "
            "`onward status` shows it."
        ),
    ],
    url: options.Url = options.DEFAULT_URL,
    token: options.Token = "",
    json: options.Json = False,
) -> None:
    """Have a member hand over what it has, and end."""

    async def ask() -> None:
        async with Api(url, token=token) as api:
            found = await api.drain(member)
        if json:
            print_json({"event": "draining", **found})
        else:
            typer.echo(_sentence(found))

    run(ask())


def _sentence(found: Mapping[str, Any]) -> str:
    who = " ".join(printable(str(found.get(one, ""))) for one in ("service", "name"))
    seconds = int(found.get("atMostMs", 0)) / 1000
    return f"{who} is draining, and ends within {seconds:g} s"
