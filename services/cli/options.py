"""The options that commands share, as annotated types; and what is checked of them."""

from typing import Annotated

import typer

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
