"""`onward notifiers list|add|remove`: the plugins that send notifications.

By plain HTTP, through any edge; for administrators.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import typer
from onward_sdk import Api
from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.cli import options
from services.cli.outcome import run
from services.cli.output import print_json, printable

Name = Annotated[str, typer.Argument(help="Under which it is registered: a-z, 0-9 and -.")]

# How long `add` waits for presence to reach what was added, and how often it looks.
_REACHED_S: Final = 3.0
_LOOK_S: Final = 0.2


def notifiers_list(
    url: options.Url = options.DEFAULT_URL,
    token: options.Token = "",
    json: options.Json = False,
) -> None:
    """List them: where each is, what it serves, and how it is; and who gets a channel of two."""

    async def ask() -> None:
        async with Api(url, token=token) as api:
            found = await api.notifiers()
        if json:
            for one in found:
                print_json({"event": "notifier", **one})
        else:
            _show(found)

    run(ask())


def notifiers_add(
    name: Name,
    address: Annotated[str, typer.Argument(help="host:port of its gRPC server.")],
    channels: Annotated[
        str,
        typer.Option(
            "--channels",
            help="Channels that it is used for, parted by commas, as in mailto,tel. Without it: "
            "all that it serves.",
            show_default=False,
        ),
    ] = "",
    plain: Annotated[
        bool,
        typer.Option("--plain", help="Call it without TLS, with the shared secret, in any case."),
    ] = False,
    server_name: Annotated[
        str,
        typer.Option(
            "--server-name", help="In its certificate, if not its host.", show_default=False
        ),
    ] = "",
    url: options.Url = options.DEFAULT_URL,
    token: options.Token = "",
    json: options.Json = False,
) -> None:
    """Register one, or change it. It is used at once, and gets what waits for its channels."""

    async def ask() -> None:
        async with Api(url, token=token) as api:
            await api.add_notifier(
                name,
                address,
                channels=[one.strip() for one in channels.split(",") if one.strip()],
                plain=plain,
                server_name=server_name,
            )
            found, listed = await _reached(api, name, address)
        if json:
            told = {"connected": found.get("connected") is True, "served": found.get("served", [])}
            shadows = [{"channel": channel, "of": of} for channel, of in _taken(name, listed)]
            told |= {"shadowed": found.get("shadowed", []), "shadows": shadows}
            print_json({"event": "added", "name": name, **told})
        else:
            typer.echo(f"{printable(name)} is registered at {printable(address)}{_how(found)}")
            for sentence in _shadow_sentences(name, found, listed):
                typer.echo(sentence)

    run(ask())


def notifiers_remove(
    name: Name,
    url: options.Url = options.DEFAULT_URL,
    token: options.Token = "",
    json: options.Json = False,
) -> None:
    """Remove one. Calls under way end; what waits for it waits for another."""

    async def ask() -> None:
        async with Api(url, token=token) as api:
            removed = await api.remove_notifier(name)
        if json:
            print_json({"event": "removed", "name": name, "removed": removed})
        elif removed:
            typer.echo(f"{printable(name)} is registered no more")
        else:
            typer.echo(f"no notifier is registered as {printable(name)}")

    run(ask())


async def _reached(
    api: Api, name: str, address: str
) -> tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]:
    """How the notifier stands once presence reaches it, or after a while; and all of them."""
    found: Mapping[str, Any] = {}
    listed: Sequence[Mapping[str, Any]] = ()
    for _ in range(int(_REACHED_S / _LOOK_S)):
        listed = await api.notifiers()
        for one in listed:
            if (one.get("name"), one.get("address")) == (name, address):
                found = one
        if found.get("connected"):
            break
        await asyncio.sleep(_LOOK_S)
    return found, listed


def _given_up(one: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Channels of a notifier that another gets, and who."""
    return [
        (str(each.get("channel", "")), str(each.get("by", "")))
        for each in one.get("shadowed") or ()
    ]


def _taken(name: str, listed: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Channels that the notifier gets in the place of others, and whose each would be."""
    return [
        (channel, str(other.get("name", "")))
        for other in listed
        for channel, by in _given_up(other)
        if by == name
    ]


def _shadow_sentences(
    name: str, found: Mapping[str, Any], listed: Sequence[Mapping[str, Any]]
) -> list[str]:
    said = [
        f"it is not used for {channel}: {_winner(by, name, listed)} gets that channel"
        for channel, by in _given_up(found)
    ]
    for channel, of in _taken(name, listed):
        if _is_before(name, of, listed):
            said.append(f"it gets {channel} from now on, and {of}, behind it in the list, does not")
        else:
            said.append(f"it gets {channel} for now, and {of}, which is not ready, does not")
    return [printable(sentence) for sentence in said]


def _winner(by: str, name: str, listed: Sequence[Mapping[str, Any]]) -> str:
    """Who gets a channel, and why."""
    before = _is_before(by, name, listed)
    return f"{by}, {'before it in the list' if before else 'which is ready while it is not'},"


def _is_before(one: str, other: str, listed: Sequence[Mapping[str, Any]]) -> bool:
    names = [str(each.get("name", "")) for each in listed]
    return one in names and other in names and names.index(one) < names.index(other)


def _how(found: Mapping[str, Any]) -> str:
    if not found.get("connected"):
        return "; it is not reached yet, see whether it runs there"
    served = ", ".join(printable(str(one)) for one in found.get("served") or ())
    if found.get("health") == "NOT_SERVING":
        return f", and serves {served}, but says that it is unable to now"
    return f", and serves {served}"


def _show(found: Sequence[Mapping[str, Any]]) -> None:
    console = Console(highlight=False)
    if not found:
        console.print("No notifier is registered, and none is in the settings.")
        return
    table = Table(title="Notifiers", title_justify="left")
    for column in ("Name", "Address", "Used for", "Serves", "State"):
        table.add_column(column)
    for one in found:
        name = "(settings)" if one.get("ofSettings") else printable(str(one.get("name", "")))
        address = printable(str(one.get("address", ""))) + (" (no TLS)" if one.get("plain") else "")
        table.add_row(
            Text(name, style="dim" if one.get("ofSettings") else ""),
            Text(address),
            Text(_listed(one.get("channels")) or "all"),
            Text(_listed(one.get("served"))),
            _state(one),
        )
    console.print(table)
    for one in found:
        for channel, by in _given_up(one):
            name = str(one.get("name", ""))
            said = f"{name} is not used for {channel}: {_winner(by, name, found)} gets it."
            console.print(Text(printable(said), style="yellow"), soft_wrap=True)


def _listed(words: Any) -> str:
    return ", ".join(printable(str(one)) for one in words or ())


def _state(one: Mapping[str, Any]) -> Text:
    if not one.get("connected"):
        return Text("not connected", style="red")
    if one.get("health") == "NOT_SERVING":
        return Text("not serving", style="red")
    return Text("works", style="green")
