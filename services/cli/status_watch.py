"""`onward status --watch`: the status again and again, as it changes.

On a terminal the picture is drawn anew every second. Elsewhere only what changed is printed, a line
each with its time, so that a log of it tells a story. With `--json`: one object whenever something
that is shown has changed. An edge that does not answer any more is left for another one that it
has told of.
"""

import asyncio
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from onward_sdk import Api, OnwardError, Refused, Unreachable
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from services.cli.output import print_json, printable
from services.cli.status_facts import changes, facts

EVERY_S = 1.0
Fields = Mapping[str, Any]
Picture = Callable[[str, Fields], Group]


async def watch(url: str, token: str, json: bool, picture: Picture) -> None:
    """Show until cancelled. `picture` draws a status for people. Raises Refused."""
    asked = _Asked(url, token)
    if json:
        await _as_json(asked)
    elif sys.stdout.isatty():
        await _on_terminal(asked, picture)
    else:
        await _as_lines(asked)


class _Asked:
    """The edge that is asked, and who may be asked in its place."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self._token = token
        self._others: list[str] = []

    async def status(self) -> Fields | None:
        """What some edge says; None: none of those known answers."""
        for url in [self.url, *self._others]:
            try:
                async with Api(url, token=self._token) as api:
                    found: Fields = await api.status()
            except Refused:
                raise
            except (Unreachable, OnwardError):
                continue
            self.url = url
            self._remember(found)
            return found
        return None

    def _remember(self, found: Fields) -> None:
        scheme = self.url.partition("://")[0]
        told = [str(one.get("clientAddress") or "") for one in found.get("edges") or ()]
        self._others = [f"{scheme}://{one}" for one in told if one and one not in self.url]


async def _on_terminal(asked: _Asked, picture: Picture) -> None:
    console = Console(highlight=False)
    with Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
        drawn: Group | Text = Text("")
        while True:
            found = await asked.status()
            now = datetime.now().astimezone().strftime("%H:%M:%S")
            if found is not None:
                drawn, state = picture(asked.url, found), f"{now}, every second; Ctrl-C ends"
            else:
                state = f"{now}, no edge answers; what is above was before"
            live.update(Group(drawn, Text(f"\n{state}", style="dim")), refresh=True)
            await asyncio.sleep(EVERY_S)


async def _as_lines(asked: _Asked) -> None:
    before: dict[str, str] = {}
    while True:
        found = await asked.status()
        told = {"edges": "none answers"} | before if found is None else facts(found)
        if found is None:
            told["edges"] = "none answers"
        now = datetime.now(UTC).strftime("%H:%M:%S")
        for line in changes(before, told):
            print(f"{now}  {printable(line)}", flush=True)
        before = told
        await asyncio.sleep(EVERY_S)


async def _as_json(asked: _Asked) -> None:
    before: dict[str, str] | None = None
    while True:
        found = await asked.status()
        told = facts(found) if found is not None else {}
        if told != before:
            well = found is not None and not found.get("alarms")
            print_json({"event": "status", "well": well, **(found or {})})
        before = told
        await asyncio.sleep(EVERY_S)
