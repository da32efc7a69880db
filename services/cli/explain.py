"""`onward explain`: what became of messages for a user, and why, by plain HTTP."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from onward_sdk import Api
from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.cli import options
from services.cli.outcome import run
from services.cli.output import print_json, printable

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
        outcomes = [_outcome(one) for one in story.get("outcomes") or ()]
        clients = [_client(one) for one in story.get("clients") or ()]
        if json:
            for fields in [*outcomes, *clients]:
                print_json(fields | {"user": user, "subject": subject})
        else:
            _show(user, subject, outcomes, clients)

    run(ask())


def _outcome(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """An outcome in the JSON of this command."""
    return {
        "event": "outcome",
        "from_seq": int(outcome.get("fromSeq", 0)),
        "to_seq": int(outcome.get("toSeq", 0)),
        "state": outcome.get("state", ""),
        "reason": outcome.get("reason", ""),
        "text": outcome.get("text", ""),
        "notification_id": outcome.get("notificationId", ""),
        "deliveries": [_delivery(one) for one in outcome.get("deliveries") or ()],
        "at": outcome.get("at", ""),
    }


def _delivery(delivery: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "delivery_id": delivery.get("deliveryId", ""),
        "channel": delivery.get("channel", ""),
        "state": delivery.get("state", ""),
        "attempts": [
            {
                "at": attempt.get("at", ""),
                "outcome": attempt.get("outcome", ""),
                "detail": attempt.get("detail", ""),
            }
            for attempt in delivery.get("attempts") or ()
        ],
        "due_at": delivery.get("dueAt", ""),
    }


def _client(client: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "event": "client",
        "client_id": client.get("clientId", ""),
        "state": client.get("state", ""),
        "generation": int(client.get("generation", 0)),
        "base": int(client.get("base", 0)),
        "acked": int(client.get("acked", 0)),
        "ended": bool(client.get("ended", False)),
    }


def _show(
    user: str, subject: str, outcomes: list[dict[str, Any]], clients: list[dict[str, Any]]
) -> None:
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


def _clients_table(clients: list[dict[str, Any]]) -> Table:
    table = Table(title="Clients", title_justify="left")
    for column in ("Client", "State", "Session", "Follows since", "Acknowledged"):
        table.add_column(column)
    for client in clients:
        state = f"{client['state']}, follow ended" if client["ended"] else client["state"]
        table.add_row(
            Text(printable(client["client_id"])),
            Text(state),
            Text(str(client["generation"])),
            Text(f"after {client['base']}"),
            Text(f"up to {client['acked']}"),
        )
    return table


def _seqs(outcome: dict[str, Any]) -> Text:
    first, last = outcome["from_seq"], outcome["to_seq"]
    return Text(str(first) if first == last else f"{first}–{last}")


def _state(outcome: dict[str, Any]) -> Text:
    return Text(outcome["state"], style=_STATE_STYLES.get(outcome["state"], ""))


def _why(outcome: dict[str, Any]) -> Text:
    parts = (outcome["reason"], outcome["text"])
    return Text(printable(": ".join(part for part in parts if part)))


def _deliveries(outcome: dict[str, Any]) -> Text:
    lines = []
    for delivery in outcome["deliveries"]:
        line = f"{delivery['channel']}: {delivery['state']}"
        if delivery["due_at"]:
            line += f", due {_time(delivery['due_at'])}"
        lines.append(line)
        for attempt in delivery["attempts"]:
            detail = f" ({attempt['detail']})" if attempt["detail"] else ""
            lines.append(f"  {_time(attempt['at'])} {attempt['outcome']}{detail}")
    return Text("\n".join(printable(line) for line in lines))


def _time(timestamp: str) -> str:
    """`2026-11-22T12:00:00.123456Z` as `12:00:00`, in UTC as it came."""
    return timestamp[11:19]
