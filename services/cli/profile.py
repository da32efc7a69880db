"""`onward profile`: what a user wants to be notified of, and how, by plain HTTP."""

import re
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from onward_sdk import Api

from services.cli import options
from services.cli.outcome import run
from services.cli.output import print_json, printable

_QUIET = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)-([01]?\d|2[0-3]):([0-5]\d)")
_DAYS = re.compile(r"[1-7](,[1-7])*")
_NONE = "none"


def profile_get(
    user: options.Whose = "",
    url: options.Url = options.DEFAULT_URL,
    token: options.Token = "",
    json: options.Json = False,
) -> None:
    """Show what a user wants, and the categories that there are."""

    async def ask() -> None:
        async with Api(url, token=token) as api:
            found = await options.data_of(api, user).profile()
        profile = found.get("profile") or {}
        if json:
            print_json({"event": "profile", **profile, "categories": found.get("categories") or []})
            return
        _show(profile)
        for one in found.get("categories") or ():
            said = "on" if one.get("allowed") else "off"
            name, title = printable(one.get("name", "")), printable(one.get("title", ""))
            typer.echo(f"category     {name} ({title}), {said} by default")

    run(ask())


def profile_set(
    user: options.Whose = "",
    locale: Annotated[
        str | None, typer.Option("--locale", help="A language, as in pt-BR; empty: not known.")
    ] = None,
    time_zone: Annotated[
        str | None, typer.Option("--time-zone", help="As in Europe/Berlin; empty: UTC.")
    ] = None,
    quiet: Annotated[
        str | None,
        typer.Option("--quiet", metavar="22:00-07:00", help="Hours not to disturb; or `none`."),
    ] = None,
    days: Annotated[
        str,
        typer.Option(
            "--days", metavar="1,2,…", help="Days on which they begin, 1: Monday. Without: all."
        ),
    ] = "",
    prefer: Annotated[
        list[str] | None,
        typer.Option(
            "--prefer",
            metavar="CATEGORY/CHANNEL=on",
            help="Or =off; either name may be missing. Repeatable; replaces all preferences. "
            "`none`: there are none.",
        ),
    ] = None,
    url: options.Url = options.DEFAULT_URL,
    token: options.Token = "",
    json: options.Json = False,
) -> None:
    """Change what a user wants; what is not named stays."""
    parts: dict[str, Any] = {}
    if locale is not None:
        parts["locale"] = locale
    if time_zone is not None:
        parts["timeZone"] = time_zone
    if quiet is not None:
        parts["quietHours"] = None if quiet == _NONE else _quiet_hours(quiet, days)
    elif days:
        raise typer.BadParameter("goes with --quiet", param_hint="--days")
    if prefer:
        parts["preferences"] = [] if prefer == [_NONE] else [_preference(one) for one in prefer]
    if not parts:
        raise typer.BadParameter("name what to change", param_hint="--locale, --quiet, …")

    async def ask() -> None:
        async with Api(url, token=token) as api:
            profile = await options.data_of(api, user).update_profile(parts)
        if json:
            print_json({"event": "profile", **profile})
        else:
            _show(profile)

    run(ask())


def _quiet_hours(text: str, days: str) -> dict[str, Any]:
    found = _QUIET.fullmatch(text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is not like 22:00-07:00", param_hint="--quiet")
    hours = [int(one) for one in found.groups()]
    if days and not _DAYS.fullmatch(days):
        raise typer.BadParameter(f"{days!r} is not like 1,2,5", param_hint="--days")
    return {
        "fromMinute": hours[0] * 60 + hours[1],
        "toMinute": hours[2] * 60 + hours[3],
        "days": [int(one) for one in days.split(",") if one],
    }


def _preference(text: str) -> dict[str, Any]:
    names, equals, said = text.rpartition("=")
    category, slash, channel = names.partition("/")
    if not equals or not slash or said not in ("on", "off"):
        raise typer.BadParameter(
            f"{text!r} is not like chat/mailto=off, chat/=on or /mailto=off", param_hint="--prefer"
        )
    return {"category": category, "channel": channel, "allowed": said == "on"}


def _show(profile: Mapping[str, Any]) -> None:
    typer.echo(f"locale       {printable(profile.get('locale') or '–')}")
    typer.echo(f"time zone    {printable(profile.get('timeZone') or 'UTC')}")
    quiet = profile.get("quietHours")
    typer.echo(f"quiet hours  {_hours(quiet) if quiet else '–'}")
    for one in profile.get("preferences") or ():
        said = "on" if one.get("allowed") else "off"
        category = printable(one.get("category") or "any category")
        typer.echo(
            f"preference   {category} by {printable(one.get('channel') or 'any channel')}: {said}"
        )
    for one in profile.get("mutes") or ():
        until = options.until_words(one.get("until")) or "it is ended"
        typer.echo(f"muted        {printable(one.get('subject', ''))} until {until}")


def _hours(quiet: Mapping[str, Any]) -> str:
    first, last = int(quiet.get("fromMinute", 0)), int(quiet.get("toMinute", 0))
    text = f"{first // 60:02}:{first % 60:02}-{last // 60:02}:{last % 60:02}"
    days = [str(day) for day in quiet.get("days") or ()]
    return text if len(days) in (0, 7) else f"{text}, days {','.join(days)}"
