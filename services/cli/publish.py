"""`onward publish`: one message, by plain HTTP."""

from typing import Annotated

import typer
from onward_sdk import Api

from services.cli import options
from services.cli.outcome import run
from services.cli.output import print_json


def publish(
    subject: Annotated[str, typer.Argument(help="For example /chat/1.")],
    text: Annotated[str, typer.Argument(help="The message.")],
    user: options.User = "",
    header: Annotated[
        list[str] | None, typer.Option("--header", metavar="NAME=VALUE", help="Repeatable.")
    ] = None,
    publication_id: Annotated[
        str, typer.Option("--publication-id", help="Makes a repeat harmless.", show_default=False)
    ] = "",
    retain: Annotated[
        bool,
        typer.Option(
            "--retain", help="Also keep it for who subscribes with --snapshot; empty: keep none."
        ),
    ] = False,
    transient: Annotated[
        bool,
        typer.Option("--transient", help="Only for who is subscribed now; nothing is kept."),
    ] = False,
    url: options.Url = options.DEFAULT_URL,
    token: options.Token = "",
    json: options.Json = False,
) -> None:
    """Publish a message; prints its number once it is durable."""
    if retain and transient:
        raise typer.BadParameter("give either --retain or --transient", param_hint="--transient")
    headers = dict(_read_header(one) for one in header or ())

    async def send() -> None:
        async with Api(url, user=user, token=token) as api:
            published = await api.publish(
                subject,
                text,
                headers=headers,
                publication_id=publication_id,
                retain=retain,
                transient=transient,
            )
        if json:
            print_json(
                {
                    "event": "published",
                    "subject": subject,
                    "seq": published.seq,
                    "epoch": published.epoch,
                    "duplicate": published.duplicate,
                }
            )
        elif not transient:
            typer.echo(published.seq)

    run(send())


def _read_header(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise typer.BadParameter(f"{text!r} is no NAME=VALUE", param_hint="--header")
    return name, value
