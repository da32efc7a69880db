"""`onward dead-letters list|show|replay|drop`: deliveries that were given up.

By plain HTTP, through any edge; for administrators. Neither tokens nor contents are shown.
"""

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

Letter = Mapping[str, Any]  # a message of deliveries.proto, as JSON

User = Annotated[str, typer.Option("--user", show_default=False, help="Only those of this user.")]
Channel = Annotated[
    str, typer.Option("--channel", show_default=False, help="Only those of this, as in mailto.")
]
Reason = Annotated[
    str,
    typer.Option(
        "--reason", show_default=False, help="Only those for this, as in TRIES_EXHAUSTED."
    ),
]
Ids = Annotated[list[str] | None, typer.Argument(help="Ids of deliveries.", show_default=False)]
All = Annotated[bool, typer.Option("--all", help="All that there are.")]

_PAGE: Final = 1_000


def dead_letters_list(
    user: User = "",
    channel: Channel = "",
    reason: Reason = "",
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many at most.")] = 100,
    url: options.Url = options.DEFAULT_URL,
    token: options.Token = "",
    json: options.Json = False,
) -> None:
    """List them, by id."""

    async def ask() -> None:
        letters: list[Letter] = []
        after = ""
        async with Api(url, token=token) as api:
            while len(letters) < limit:
                page = await api.dead_letters(
                    user=user, channel=channel, reason=reason, after=after,
                    limit=min(_PAGE, limit - len(letters)),
                )  # fmt: skip
                letters += page.get("letters") or ()
                after = str(page.get("nextAfterId") or "")
                if not after:
                    break
        if json:
            for letter in letters:
                print_json({"event": "deadLetter", **letter})
        else:
            _show(letters, more=bool(after))

    run(ask())


def dead_letters_show(
    delivery_id: Annotated[str, typer.Argument(metavar="ID", help="Of the delivery.")],
    url: options.Url = options.DEFAULT_URL,
    token: options.Token = "",
    json: options.Json = False,
) -> None:
    """Show one, with every try."""

    async def ask() -> None:
        async with Api(url, token=token) as api:
            found = await api.dead_letter(delivery_id)
        if json:
            print_json({"event": "deadLetter", **found})
        else:
            _show_one(found)

    run(ask())


def dead_letters_replay(
    ids: Ids = None,
    everything: All = False,
    user: User = "",
    channel: Channel = "",
    reason: Reason = "",
    url: options.Url = options.DEFAULT_URL,
    token: options.Token = "",
    json: options.Json = False,
) -> None:
    """Have some sent again, with the ids that they have. What has expired stays."""
    which = _which(ids, everything, user, channel, reason)

    async def ask() -> None:
        async with Api(url, token=token) as api:
            done = await api.replay_dead_letters(**which)
        if json:
            print_json({"event": "replayed", **done})
        else:
            expired = done["expired"]
            rest = f"; {_count(expired, 'has expired and stays', 'have expired and stay')}"
            typer.echo(
                f"{_count(done['replayed'], 'is', 'are')} due again{rest if expired else ''}"
            )

    run(ask())


def dead_letters_drop(
    ids: Ids = None,
    everything: All = False,
    user: User = "",
    channel: Channel = "",
    reason: Reason = "",
    url: options.Url = options.DEFAULT_URL,
    token: options.Token = "",
    json: options.Json = False,
) -> None:
    """Give some up for good. `onward explain` goes on telling of them."""
    which = _which(ids, everything, user, channel, reason)

    async def ask() -> None:
        async with Api(url, token=token) as api:
            dropped = await api.drop_dead_letters(**which)
        if json:
            print_json({"event": "dropped", "dropped": dropped})
        else:
            typer.echo(f"{_count(dropped, 'is', 'are')} dropped")

    run(ask())


def _which(
    ids: Sequence[str] | None, everything: bool, user: str, channel: str, reason: str
) -> dict[str, Any]:
    """What was said of them. Nothing is not everything."""
    narrowed = bool(ids or user or channel or reason)
    if narrowed is everything:
        raise typer.BadParameter("name ids, or --user, --channel or --reason; or else --all")
    return {"ids": ids or (), "user": user, "channel": channel, "reason": reason,
            "everything": everything}  # fmt: skip


def _count(number: int, one: str, many: str) -> str:
    return f"{number} dead letter {one}" if number == 1 else f"{number} dead letters {many}"


def _show(letters: Sequence[Letter], more: bool) -> None:
    console = Console(highlight=False)
    if not letters:
        console.print("There are none.")
        return
    table = Table(title="Dead letters", title_justify="left")
    for column in ("Id", "User", "Subject", "Channel", "Reason", "Tries", "Last word", "Expires"):
        table.add_column(column, justify="right" if column == "Tries" else "left", overflow="fold")
    for letter in letters:
        last = letter.get("lastAttempt") or {}
        cells = (
            letter.get("deliveryId", ""), letter.get("user", ""), letter.get("subject", ""),
            letter.get("channel", ""), letter.get("reason", ""), letter.get("attempts", 0),
            _word(last), _time(letter.get("expiresAt", "")),
        )  # fmt: skip
        table.add_row(*(Text(printable(str(cell))) for cell in cells))
    console.print(table)
    if more:
        console.print("There are more; --limit shows them.")


def _show_one(found: Mapping[str, Any]) -> None:
    letter = found.get("letter") or {}
    first, last = found.get("firstSeq", 0), found.get("lastSeq", 0)
    seqs = str(first) if first == last else f"{first} to {last} ({found.get('count', 0)})"
    lines = [
        ("Id", letter.get("deliveryId", "")),
        ("User", letter.get("user", "")),
        ("Subject", f"{letter.get('subject', '')}, messages {seqs}"),
        ("Channel", letter.get("channel", "")),
        ("Reason", letter.get("reason", "")),
        ("Expires", _time(letter.get("expiresAt", ""))),
        *(("Try", f"{_time(one.get('at', ''))} {_word(one)}") for one in found.get("attempts", ())),
    ]
    console = Console(highlight=False, soft_wrap=True)
    for name, text in lines:
        console.print(Text.assemble((f"{name:<8}", "bold"), printable(str(text))))


def _word(attempt: Mapping[str, Any]) -> str:
    detail = f" ({attempt['detail']})" if attempt.get("detail") else ""
    return f"{attempt.get('outcome', '')}{detail}"


def _time(timestamp: str) -> str:
    """`2026-11-22T12:00:00.123456Z` as `2026-11-22 12:00:00`, in UTC as it came."""
    return timestamp[:19].replace("T", " ")
