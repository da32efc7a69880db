"""`onward send-test`: hands a test notification to the plugin that serves an external token.

By plain HTTP, through any edge; for administrators. Exit code 0: the plugin has accepted it; 1: it
has not, or could not be called.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import typer
from onward_sdk import Api

from services.cli import options
from services.cli.outcome import EXIT_FAILED, run
from services.cli.output import print_json, printable

_SENT: Final = ("ACCEPTED", "DELIVERED")


def send_test(
    endpoint: Annotated[str, typer.Argument(metavar="TOKEN", help="As in mailto:ann@example.org.")],
    text: Annotated[
        str, typer.Option("--text", show_default=False, help="What to say; else a sentence.")
    ] = "",
    user: Annotated[
        str, typer.Option("--user", show_default=False, help="Whose name stands in it.")
    ] = "",
    url: options.Url = options.DEFAULT_URL,
    token: options.Token = "",
    json: options.Json = False,
) -> None:
    """Send a test notification, now, and tell what became of it. Nothing is recorded."""
    told: Mapping[str, Any] = {}

    async def ask() -> None:
        nonlocal told
        async with Api(url, token=token) as api:
            told = await api.send_test(endpoint, user=user, text=text)

    run(ask())
    if json:
        print_json({"event": "tested", **told})
    else:
        typer.echo(_sentence(told))
    if told.get("outcome") not in _SENT:
        raise typer.Exit(EXIT_FAILED)


def _sentence(told: Mapping[str, Any]) -> str:
    said = f"{told.get('plugin', '')}: {told.get('outcome', '')}"
    if told.get("detail"):
        said += f" ({told['detail']})"
    if told.get("providerId"):
        said += f", by the provider's name {told['providerId']}"
    return printable(said)
