"""The options that commands share, as annotated types; and what is checked of them."""

from typing import Annotated

import typer
from onward_sdk import Api, UserData

DEFAULT_URL = "http://127.0.0.1:8080"


def _url(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise typer.BadParameter(f"{url!r} is no address; write it as {DEFAULT_URL}")
    return url.rstrip("/")


Url = Annotated[
    str,
    typer.Option("--url", envvar="ONWARD_URL", callback=_url, help="Where an edge listens."),
]
Token = Annotated[
    str,
    typer.Option(
        "--token", envvar="ONWARD_TOKEN", show_default=False, help="Who you are, as a JWT."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")]
User = Annotated[
    str,
    typer.Option("--user", show_default=False, help="Who you are, where anonymous access is on."),
]
Whose = Annotated[
    str,
    typer.Option("--user", show_default=False, help="Whose; for administrators. Without: yours."),
]

# What the contract says for a mute that has no end.
_NEVER = "9999-12-31T23:59:59"


def data_of(api: Api, user: str) -> UserData:
    """What there is of a user; empty: of whoever asks."""
    return api.user(user) if user else api.me


def until_words(timestamp: str | None) -> str:
    """A time as people read it; empty: none."""
    if not timestamp:
        return ""
    shown = timestamp[:19]
    return "it is ended" if shown == _NEVER else f"{shown.replace('T', ' ')} UTC"
