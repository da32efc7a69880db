"""`onward status`: how the cluster stands, by plain HTTP, alarms first.

Exit codes, for scripts: 0 all is well, 1 there is an alarm, 2 it could not be told. As JSON it
prints one object: what `GET /v1/status` answers (see docs/protocol.md), with `event` and `well`.
"""

from collections.abc import Mapping
from typing import Any

import typer
from onward_sdk import Api
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from services.cli import options
from services.cli.outcome import run
from services.cli.output import print_json, printable

EXIT_ALARM = 1
EXIT_UNKNOWN = 2
SHOWN_PARTITIONS_MAX = 12  # of those without an owner

Fields = Mapping[str, Any]

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def status(
    url: options.Url = options.DEFAULT_URL,
    token: options.Token = "",
    json: options.Json = False,
) -> None:
    """Show members, partitions, plugins and alarms; exit code 1 if there is an alarm."""
    found: Fields = {}

    async def ask() -> None:
        nonlocal found
        async with Api(url, token=token) as api:
            found = await api.status()

    run(ask(), failed=EXIT_UNKNOWN)
    alarms = found.get("alarms") or []
    if json:
        print_json({"event": "status", "well": not alarms, **found})
    else:
        show(Console(highlight=False), url, found)
    if alarms:
        raise typer.Exit(EXIT_ALARM)


def show(console: Console, url: str, found: Fields) -> None:
    """Prints a status for people."""
    alarms = found.get("alarms") or []
    if alarms:
        words = "1 alarm" if len(alarms) == 1 else f"{len(alarms)} alarms"
        console.print(Text.assemble(f"Onward at {url}: ", (words, "bold red")))
        for alarm in alarms:
            _show_alarm(console, alarm)
    else:
        console.print(Text.assemble(f"Onward at {url}: ", ("all is well", "green")))
    console.print()
    _show_partitions(console, found.get("partitions") or {})
    console.print(Text.assemble(("Notifications  ", "bold"), _deliveries(found)))
    tables = (_coordinators(found), _presences(found), _plugins(found), _edges(found))
    for table in tables:
        if table.row_count:
            console.print()
            console.print(table)


def _show_alarm(console: Console, alarm: Fields) -> None:
    who = " ".join(printable(str(alarm.get(one, ""))) for one in ("service", "member")).strip()
    since = str(alarm.get("since") or "")
    when = f", since {since[:10]} {since[11:19]} UTC" if since else ""
    console.print(Text.assemble(("  " + str(alarm.get("name", "")), "bold red"), f"  {who}{when}"))
    console.print(Padding(Text(printable(str(alarm.get("text", "")))), (0, 0, 0, 4)))


def _show_partitions(console: Console, partitions: Fields) -> None:
    rows = partitions.get("list") or []
    held = sum(1 for row in rows if row.get("held"))
    missing = partitions.get("withoutOwner") or []
    parts = [f"{held} of {partitions.get('count', 0)} held"]
    if len(rows) > held:
        parts.append(f"{len(rows) - held} claimed and not held")
    if missing:
        named = ", ".join(map(str, missing[:SHOWN_PARTITIONS_MAX]))
        more = ", …" if len(missing) > SHOWN_PARTITIONS_MAX else ""
        parts.append(f"{len(missing)} without owner ({named}{more})")
    lag = int(partitions.get("lag") or 0)
    parts.append(f"{lag} log entries wait for presence" if lag else "presence is up to date")
    console.print(Text.assemble(("Partitions     ", "bold"), "; ".join(parts)))


def _deliveries(found: Fields) -> str:
    counts = found.get("deliveries") or {}
    said = [f"{count} {state.lower()}" for state, count in sorted(counts.items())]
    return ", ".join(said) or "none"


def _coordinators(found: Fields) -> Table:
    table = _table("Coordinator", ">Partitions", ">Queue", ">Log", ">of at most", ">Edges")
    for member in found.get("coordinators") or ():
        log_max = int(member.get("logBytesMax", 0))
        _row(
            table,
            member,
            str(member.get("held", "")),
            str(member.get("queue", 0)),
            _bytes(int(member.get("logBytes", 0))),
            _bytes(log_max) if log_max else "",
            str(len(member.get("edges") or ())),
        )
    return table


def _presences(found: Fields) -> Table:
    table = _table(
        "Presence", "Role", ">Online", ">In grace", ">Offline", ">Handovers", ">Fan-outs"
    )
    fields = ("clientsOnline", "clientsInGrace", "clientsOffline", "handovers", "fanouts")
    for member in found.get("presences") or ():
        role = "works" if member.get("owner") else "stands by"
        _row(table, member, role, *(str(member.get(one, 0)) for one in fields))
    return table


def _edges(found: Fields) -> Table:
    table = _table(
        "Edge", ">Sockets", ">Sessions", ">Lagging", ">Subscriptions", ">Held", "Uplinks"
    )
    fields = ("sockets", "sessions", "lagging", "subscriptions", "heldPublishes")
    for member in found.get("edges") or ():
        links = member.get("links") or ()
        up = sum(1 for link in links if link.get("up"))
        where = str(member.get("clientAddress") or member.get("name", ""))
        counts = (str(member.get(one, 0)) for one in fields)
        _row(table, {**member, "name": where}, *counts, f"{up} of {len(links)}")
    return table


def _plugins(found: Fields) -> Table:
    table = _table("Plugin", "Channels", "State", ">Queue", ">Calls", "Last fault")
    for plugin in found.get("plugins") or ():
        table.add_row(
            Text(printable(str(plugin.get("name", "")))),
            Text(printable(", ".join(plugin.get("channels") or ()))),
            _plugin_state(plugin),
            str(plugin.get("queue", 0)),
            str(plugin.get("calls", 0)),
            Text(printable(str(plugin.get("fault", "")))),
        )
    return table


def _plugin_state(plugin: Fields) -> Text:
    breaker = str(plugin.get("breaker", ""))
    if not plugin.get("connected"):
        return Text("not connected", style="red")
    if breaker in ("", "closed"):
        return Text("works", style="green")
    until = str(plugin.get("breakerUntil") or "")
    wait = f" until {until[11:19]}" if until and breaker == "open" else ""
    return Text(f"breaker {breaker}{wait}", style="red")


def _row(table: Table, member: Fields, *cells: str) -> None:
    """A member's row; an alarm tells why one did not answer."""
    name = Text(printable(str(member.get("name", ""))))
    if member.get("answered"):
        table.add_row(name, *cells)
    else:
        table.add_row(name, Text("silent", style="red"))


def _table(*columns: str) -> Table:
    """Columns by their titles; `>` in front aligns right."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for index, column in enumerate(columns):
        right = column.startswith(">")
        # A name longer than the terminal has room for is cut rather than broken over lines.
        overflow: Any = "ellipsis" if index == 0 else "fold"
        justify: Any = "right" if right else "left"
        table.add_column(column.lstrip(">"), justify=justify, overflow=overflow)
    return table


def _bytes(number: int) -> str:
    """1536 as `1.5 KiB`."""
    amount = float(number)
    for unit in _UNITS:
        if amount < 1024 or unit == _UNITS[-1]:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1024
    raise AssertionError("the last unit takes any number")
