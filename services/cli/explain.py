"""`onward explain`: what became of messages for a user, and why, by plain HTTP.

As JSON it prints each outcome as the server tells it (`Outcome` of `presence.proto`), and with it
how the user's clients stand. For people, one message fits a screen; `story_lines` writes it.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Annotated, Any

import typer
from onward_sdk import Api
from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.cli import options
from services.cli.local_times import localised
from services.cli.outcome import run
from services.cli.output import print_json, printable
from services.cli.story_lines import client_lines, message_lines, seqs

Story = Mapping[str, Any]  # a message of presence.proto, as JSON

_STATE_STYLES = {
    "ACKNOWLEDGED": "green",
    "ANSWERED_FOR": "green",
    "NOTIFIED": "cyan",
    "PENDING": "yellow",
    "HELD": "yellow",
    "DEFERRED": "yellow",
    "NOT_YET": "yellow",
    "FAILED": "red",
    "UNKNOWN": "red",
}


def explain(
    user: Annotated[str, typer.Option("--user", help="Whose story.")],
    subject: Annotated[str, typer.Option("--subject", help="For example /chat/1.")],
    seq: Annotated[
        int, typer.Option("--seq", min=0, help="One message; 0: the newest.", show_default=False)
    ] = 0,
    url: options.Url = options.DEFAULT_URL,
    token: options.Token = "",
    json: options.Json = False,
) -> None:
    """Tell why a user was, or was not, notified of messages."""

    async def ask() -> None:
        async with Api(url, token=token) as api:
            story = await api.explain(user, subject, seq)
        outcomes, clients = story.get("outcomes") or [], story.get("clients") or []
        if json:
            for outcome in outcomes:
                about = {"event": "outcome", "user": user, "subject": subject}
                print_json({**about, **outcome, "clients": clients})
        else:
            _show(user, subject, outcomes, clients)

    run(ask())


def _show(user: str, subject: str, outcomes: Sequence[Story], clients: Sequence[Story]) -> None:
    console = Console(highlight=False)
    whose = f"{printable(subject)} for {printable(user)}"
    if not outcomes:
        console.print(Text(f"There is nothing to tell of {whose}."))
    elif len(outcomes) == 1:
        first, *lines = message_lines(whose, outcomes[0], console.width)
        console.print(Text(first, style=f"bold {_style(outcomes[0])}"))
        _print(console, lines)
    else:
        console.print(_table(whose, outcomes))
    if clients:
        console.print()
        _print(console, client_lines(clients, console.width))


def _print(console: Console, lines: Sequence[str]) -> None:
    for line in lines:
        console.print(Text(line), soft_wrap=True)


def _table(whose: str, outcomes: Sequence[Story]) -> Table:
    """One row for each message, or for all in a row of which the same is told."""
    table = Table(title=Text(whose), title_justify="left")
    for column in ("Seq", "State", "Why", "Deliveries"):
        table.add_column(column, justify="right" if column == "Seq" else "left")
    for (state, reason, text, deliveries), group in groupby(outcomes, key=_told):
        same = list(group)
        why = ": ".join(part for part in (reason, localised(text)) if part)
        table.add_row(
            Text(seqs({"fromSeq": same[0].get("fromSeq"), "toSeq": same[-1].get("toSeq")})),
            Text(state, style=_style(same[0])),
            Text(printable(why)),
            Text(printable(deliveries)),
        )
    return table


def _told(outcome: Story) -> tuple[str, str, str, str]:
    deliveries = []
    for delivery in outcome.get("deliveries") or ():
        tries = len(delivery.get("attempts") or ())
        retried = f", {tries} tries" if tries > 1 else ""
        deliveries.append(f"{delivery.get('channel', '')} {delivery.get('state', '')}{retried}")
    return (
        str(outcome.get("state", "")),
        str(outcome.get("reason", "")),
        str(outcome.get("text", "")),
        "; ".join(deliveries),
    )


def _style(outcome: Story) -> str:
    return _STATE_STYLES.get(str(outcome.get("state", "")), "")
