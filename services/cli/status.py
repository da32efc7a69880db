"""`onward status`: how the cluster stands, by plain HTTP, alarms first.

Exit codes, for scripts: 0 all is well, 1 there is an alarm, 2 it could not be told. As JSON it
prints one object: what `GET /v1/status` answers (see docs/protocol.md), with `event` and `well`.
With `--watch` it goes on (`status_watch`), and ends with 0.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from onward_sdk import Api
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from services.cli import options
from services.cli.outcome import EXIT_INTERRUPTED, run
from services.cli.output import print_json, printable
from services.cli.status_facts import Holding, holdings
from services.cli.status_watch import watch as watch_status

EXIT_ALARM = 1
EXIT_UNKNOWN = 2
SHOWN_PARTITIONS_MAX = 12  # of those without an owner

Fields = Mapping[str, Any]

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def status(
    url: options.Url = options.DEFAULT_URL,
    token: options.Token = "",
    json: options.Json = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on, every second, until Ctrl-C.")
    ] = False,
) -> None:
    """Show members, partitions, plugins and alarms; exit code 1 if there is an alarm."""
    if watch:
        try:
            run(watch_status(url, token, json, picture), failed=EXIT_UNKNOWN)
        except typer.Exit as ended:
            raise typer.Exit(
                0 if ended.exit_code == EXIT_INTERRUPTED else ended.exit_code
            ) from None
        return
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
        Console(highlight=False).print(picture(url, found))
    if alarms:
        raise typer.Exit(EXIT_ALARM)


def picture(url: str, found: Fields) -> Group:
    """A status for people."""
    alarms = found.get("alarms") or []
    parts: list[RenderableType] = []
    if alarms:
        words = "1 alarm" if len(alarms) == 1 else f"{len(alarms)} alarms"
        parts.append(Text.assemble(f"Onward at {url}: ", (words, "bold red")))
        for alarm in alarms:
            parts += _alarm(alarm)
    else:
        parts.append(Text.assemble(f"Onward at {url}: ", ("all is well", "green")))
    parts += ["", _partitions(found.get("partitions") or {})]
    parts.append(Text.assemble(("Notifications  ", "bold"), _deliveries(found)))
    parts.append(Text.assemble(("Clients        ", "bold"), _clients(found)))
    tables = (_coordinators(found), _presences(found), _plugins(found), _edges(found))
    for table in tables:
        if table.row_count:
            parts += ["", table]
    return Group(*parts)


def _alarm(alarm: Fields) -> list[RenderableType]:
    who = " ".join(printable(str(alarm.get(one, ""))) for one in ("service", "member")).strip()
    since = str(alarm.get("since") or "")
    when = f", since {since[:10]} {since[11:19]} UTC" if since else ""
    return [
        Text.assemble(("  " + str(alarm.get("name", "")), "bold red"), f"  {who}{when}"),
        Padding(Text(printable(str(alarm.get("text", "")))), (0, 0, 0, 4)),
    ]


def _partitions(partitions: Fields) -> Text:
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
    if silent := partitions.get("withoutPresence") or []:
        parts.append(f"{len(silent)} without a presence replica")
    lag = int(partitions.get("lag") or 0)
    parts.append(f"{lag} log entries wait for presence" if lag else "presence is up to date")
    return Text.assemble(("Partitions     ", "bold"), "; ".join(parts))


def _deliveries(found: Fields) -> str:
    counts = found.get("deliveries") or {}
    said = [f"{count} {state.lower()}" for state, count in sorted(counts.items())]
    return ", ".join(said) or "none"


def _clients(found: Fields) -> str:
    """As any presence replica tells: they share a store."""
    said = [one for one in found.get("presences") or () if one.get("answered")]
    if not said:
        return "not known"
    counts = (
        ("online", "clientsOnline"), ("in grace", "clientsInGrace"), ("offline", "clientsOffline"),
        ("handovers", "handovers"), ("fan-outs", "fanouts"),
    )  # fmt: skip
    return ", ".join(f"{said[0].get(field, 0)} {words}" for words, field in counts)


def _coordinators(found: Fields) -> Table:
    table = _table("Coordinator", ">Owns", "Epochs", ">Lag", ">Queue", ">Log", ">of at most",
                   ">Edges")  # fmt: skip
    owned = holdings(found)
    for member in found.get("coordinators") or ():
        holding = owned.pop(str(member.get("name", "")), Holding())
        log_max = int(member.get("logBytesMax", 0))
        _row(
            table,
            member,
            str(holding.partitions),
            holding.epochs,
            str(holding.lag),
            str(member.get("queue", 0)),
            _bytes(int(member.get("logBytes", 0))),
            _bytes(log_max) if log_max else "",
            str(len(member.get("edges") or ())),
        )
    for name, holding in owned.items():
        # Its lease lives on without it, and what it owns with that.
        gone = Text("gone", style="red")
        table.add_row(Text(printable(name)), str(holding.partitions), holding.epochs, gone)
    return table


def _presences(found: Fields) -> Table:
    table = _table("Presence", ">Owns", ">Holds")
    for member in found.get("presences") or ():
        _row(table, member, str(member.get("owned", 0)), str(member.get("held", 0)))
    return table


def _edges(found: Fields) -> Table:
    table = _table(
        "Edge", ">Sockets", ">Sessions", ">Lagging", ">Subscriptions", ">Held", "Uplinks"
    )
    fields = ("sockets", "sessions", "lagging", "subscriptions", "heldPublishes")
    for member in sorted(found.get("edges") or (), key=_where):
        links = member.get("links") or ()
        up = sum(1 for link in links if link.get("up"))
        counts = (str(member.get(one, 0)) for one in fields)
        state = ", drains" if member.get("draining") else ""
        _row(table, {**member, "name": _where(member)}, *counts, f"{up} of {len(links)}{state}")
    return table


def _where(edge: Fields) -> str:
    return str(edge.get("clientAddress") or edge.get("name", ""))


def _plugins(found: Fields) -> Table:
    table = _table("Plugin", "Channels", "State", ">Queue", ">Calls", "Last fault")
    for plugin in found.get("plugins") or ():
        name, registered_as = (str(plugin.get(one, "")) for one in ("name", "registeredAs"))
        if registered_as not in ("", name):
            name += f" (registered as {registered_as})"
        table.add_row(
            Text(printable(name)),
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
    if plugin.get("health") == "NOT_SERVING":
        return Text("not serving", style="red")
    if breaker in ("", "closed"):
        return Text("works", style="green")
    until = str(plugin.get("breakerUntil") or "")
    wait = f" until {until[11:19]}" if until and breaker == "open" else ""
    return Text(f"breaker {breaker}{wait}", style="red")


def _row(table: Table, member: Fields, *cells: str | Text) -> None:
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
