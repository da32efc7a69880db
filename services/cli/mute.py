"""`onward mute` and `onward unmute`: nothing of a subject is notified, by plain HTTP."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from onward_sdk import Api

from services.cli import options
from services.cli.outcome import run
from services.cli.output import print_json

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_LENGTH = re.compile(r"([1-9]\d{0,4})([mhdw])")

Subject = Annotated[str, typer.Argument(help="For example /chat/1, or /chat/* for all below.")]


def mute(
    subject: Subject,
    user: options.Whose = "",
    length: Annotated[
        str,
        typer.Option(
            "--for", metavar="8h", help="For so long (m, h, d, w). Without: until `onward unmute`."
        ),
    ] = "",
    url: options.Url = options.DEFAULT_URL,
    token: options.Token = "",
    json: options.Json = False,
) -> None:
    """Notify a user of nothing of a subject."""
    until = datetime.now(UTC) + _length(length) if length else None

    async def ask() -> None:
        async with Api(url, token=token) as api:
            await options.data_of(api, user).mute(subject, until)
        if json:
            shown = until and until.isoformat(timespec="seconds")
            print_json({"event": "muted", "subject": subject, "until": shown})

    run(ask())


def unmute(
    subject: Subject,
    user: options.Whose = "",
    url: options.Url = options.DEFAULT_URL,
    token: options.Token = "",
    json: options.Json = False,
) -> None:
    """End a mute, by the name that it was given."""

    async def ask() -> None:
        async with Api(url, token=token) as api:
            removed = await options.data_of(api, user).unmute(subject)
        if json:
            print_json({"event": "unmuted", "subject": subject, "removed": removed})
        elif not removed:
            typer.echo("it was not muted by that name")

    run(ask())


def _length(text: str) -> timedelta:
    found = _LENGTH.fullmatch(text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is not like 30m, 8h, 2d or 1w", param_hint="--for")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})
