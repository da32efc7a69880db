"""`onward explain`: what became of messages for a user, and why, by plain HTTP.

As JSON it prints each outcome as the server tells it (`Outcome` of `presence.proto`), and with it
how the user's clients stand.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from onward_sdk import Api
from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.cli import options
from services.cli.outcome import run
from services.cli.output import print_json, printable

Story = Mapping[str, Any]  # a message of presence.proto, as JSON

_STATE_STYLES = {
    "ACKNOWLEDGED": "green",
    "ANSWERED_FOR": "green",
    "NOTIFIED": "cyan",
    "PENDING": "yellow",
    "HELD": "yellow",
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
    if not outcomes:
        console.print(Text(f"There is nothing to tell of {subject} for {user}."))
    else:
        table = Table(title=Text(f"{subject} for {user}"), title_justify="left")
        for column in ("Seq", "State", "Why", "Deliveries"):
            table.add_column(column, justify="right" if column == "Seq" else "left")
        for outcome in outcomes:
            table.add_row(_seqs(outcome), _state(outcome), _why(outcome), _deliveries(outcome))
        console.print(table)
    if clients:
        console.print(_clients_table(clients))


def _clients_table(clients: Sequence[Story]) -> Table:
    table = Table(title="Clients", title_justify="left")
    for column in ("Client", "State", "Session", "Follows since", "Acknowledged"):
        table.add_column(column)
    for client in clients:
        state = str(client.get("state", ""))
        if state == "online" and client.get("active") is False:
            state = "online, in the background"
        table.add_row(
            Text(printable(client.get("clientId", ""))),
            Text(f"{state}, follow ended" if client.get("ended") else state),
            Text(str(client.get("generation", 0))),
            Text(f"after {client.get('base', 0)}"),
            Text(f"up to {client.get('acked', 0)}"),
        )
    return table


def _seqs(outcome: Story) -> Text:
    first, last = outcome.get("fromSeq", 0), outcome.get("toSeq", 0)
    return Text(str(first) if first == last else f"{first}–{last}")


def _state(outcome: Story) -> Text:
    state = str(outcome.get("state", ""))
    return Text(state, style=_STATE_STYLES.get(state, ""))


def _why(outcome: Story) -> Text:
    parts = (outcome.get("reason", ""), outcome.get("text", ""))
    return Text(printable(": ".join(part for part in parts if part)))


def _deliveries(outcome: Story) -> Text:
    lines = []
    for delivery in outcome.get("deliveries") or ():
        line = f"{delivery.get('channel', '')}: {delivery.get('state', '')}"
        if delivery.get("dueAt"):
            line += f", due {_time(delivery['dueAt'])}"
        lines.append(line)
        for attempt in delivery.get("attempts") or ():
            detail = f" ({attempt['detail']})" if attempt.get("detail") else ""
            lines.append(f"  {_time(attempt.get('at', ''))} {attempt.get('outcome', '')}{detail}")
    return Text("\n".join(printable(line) for line in lines))


def _time(timestamp: str) -> str:
    """`2026-11-22T12:00:00.123456Z` as `12:00:00`, in UTC as it came."""
    return timestamp[11:19]
