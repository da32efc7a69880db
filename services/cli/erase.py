"""`onward erase` and `onward revoke`: the end of a user, or of what a user may read, by HTTP."""

from typing import Annotated

import typer
from onward_sdk import Api

from services.cli import options
from services.cli.outcome import run
from services.cli.output import print_json

User = Annotated[str, typer.Argument(help="Who.")]


def erase(
    user: User,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask whether it is meant.")] = False,
    url: options.Url = options.DEFAULT_URL,
    token: options.Token = "",
    json: options.Json = False,
) -> None:
    """Forget a user: external tokens, follows, preferences, records."""
    if not yes:
        typer.confirm(f"Forget all that there is of {user}?", abort=True, err=True)

    async def ask() -> None:
        async with Api(url, token=token) as api:
            await api.user(user).erase()
        if json:
            print_json({"event": "erased", "user": user})

    run(ask())


def revoke(
    user: User,
    subject: Annotated[
        str, typer.Argument(help="For example /chat/1. Without: all.", show_default=False)
    ] = "",
    url: options.Url = options.DEFAULT_URL,
    token: options.Token = "",
    json: options.Json = False,
) -> None:
    """End what a user follows who may not read it any more; what waits to be sent is cancelled."""

    async def ask() -> None:
        async with Api(url, token=token) as api:
            ended = await api.user(user).revoke(subject)
        if json:
            print_json({"event": "revoked", "user": user, "subject": subject, "ended": ended})
        else:
            typer.echo(f"{ended} {'follow' if ended == 1 else 'follows'} ended")

    run(ask())
