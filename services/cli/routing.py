"""`onward routing check`: whether presence would take a routing file, and what the file says.

Asks no server: the rules are those of the presence service that is installed here, which is run as
a program of its own. With `--json` what it tells is printed as it is.
"""

import asyncio
import json as json_text
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli import options
from services.cli.outcome import EXIT_FAILED, Failure, run
from services.cli.output import print_json, printable

Told = Mapping[str, Any]

_CHECK = "services.presence.routing_check"
_CHECK_DEADLINE_S = 60.0
_EXPIRY_S = 86_400.0


def routing_check(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="The routing file.")
    ],
    expiry_s: Annotated[
        float,
        typer.Option(
            "--expiry-s",
            envvar="ONWARD_PRESENCE_EXPIRY_S",
            min=1,
            help="The expiry of presence's settings, which counts where the file says none.",
        ),
    ] = _EXPIRY_S,
    json: options.Json = False,
) -> None:
    """Tell all that is wrong with a routing file, by line (exit code 1), or what it says."""

    path = str(file.absolute())

    async def ask() -> None:
        told = await _checked(path, expiry_s)
        problems = [one for one in told if one["event"] == "problem"]
        if json:
            for one in told:
                print_json(dict(one))
        elif problems:
            for one in problems:
                print(f"{printable(str(file))}:{one['line']}: {printable(one['text'])}")
            print(f"{_count(len(problems), 'mistake')}; presence would not take this file.")
        else:
            _show(told)
        if problems:
            raise typer.Exit(EXIT_FAILED)

    run(ask())


async def _checked(path: str, expiry_s: float) -> list[Told]:
    """What presence's own check tells. Raises Failure if it cannot be run."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        _CHECK,
        path,
        str(expiry_s),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_CHECK_DEADLINE_S):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise Failure(f"the check took more than {_CHECK_DEADLINE_S:g} s; try again") from None
    try:
        told = [json_text.loads(line) for line in out.splitlines()]
    except ValueError:
        told = []
    if not told or process.returncode not in (0, 1):
        last = (err.decode(errors="replace").strip().splitlines() or ["it told nothing"])[-1]
        raise Failure(
            f"the check could not run ({printable(last)[:200]}); install the presence service "
            "beside this command, as with `pip install onward[presence]`"
        )
    return told


def _show(told: Sequence[Told]) -> None:
    """A line for each part of the file; routes in their order, of which the first counts."""
    for one in told:
        print(printable(_SENTENCES[one["event"]](one)))


def _route(one: Told) -> str:
    parts = [f"by {_channels(one)}", f"policy {one['policy']}", f"priority {one['priority']}"]
    parts += [f"{name} {one[name]}" for name in ("category", "template") if one[name]]
    parts += _times(one)
    parts.append(f"quiet hours {one['quietHours']}")
    return f"{_which(one)}: {', '.join(parts)}."


def _which(route: Told) -> str:
    if route["event"] == "defaults":
        return "anything else"
    headers = ", ".join(f"{name}: {value}" for name, value in route["headers"].items())
    return f"{route['subject']} {{{headers}}}" if headers else str(route["subject"])


def _channels(route: Told) -> str:
    steps = [" + ".join(step) for step in route["channels"]]
    return f", after {route['escalateS']:g} s by ".join(steps) or "all channels"


def _times(route: Told) -> list[str]:
    return [
        f"{word} {route[name]:g} s"
        for name, word in (("digestS", "digest"), ("collapseS", "collapse"), ("expiryS", "expiry"))
        if route[name] is not None and (route[name] or name != "digestS")
    ]


def _category(one: Told) -> str:
    off = f", off on {', '.join(one['offOn'])}" if one["offOn"] else ""
    said = "on" if one["default"] else "off"
    return f"Category {one['name']} ({one['title']}): {said} by default{off}."


def _rate(one: Told) -> str:
    channel = "any other channel" if one["channel"] == "*" else one["channel"]
    then = "dropped" if one["then"] == "drop" else "put off"
    return f"At most {one['atMost']} in {one['perS']:g} s by {channel}; what is more is {then}."


def _end(one: Told) -> str:
    channels = ", ".join(one["channels"]) or "none"
    counted = _count(one["routes"], "route")
    return f"Presence would take this file: {counted}; channels that it names: {channels}."


_SENTENCES: Mapping[str, Callable[[Told], str]] = {
    "route": _route,
    "defaults": _route,
    "category": _category,
    "rate": _rate,
    "template": lambda one: f"Template {one['name']}.",
    "checked": _end,
}


def _count(number: int, one: str) -> str:
    return f"{number:,} {one}{'' if number == 1 else 's'}"
