"""`onward subscribe`: follows subjects until Ctrl-C, and goes on where it was after any restart.

A message is printed, then its position is made durable, then it is acknowledged. So a kill at any
point loses nothing: what was not printed is recovered by the next run, or notified.
"""

import asyncio
import os
import signal
from pathlib import Path
from typing import Annotated, Any

import typer
from onward_sdk import (
    Client,
    Connected,
    Disconnected,
    EndpointGone,
    Message,
    Options,
    Resynced,
    Status,
    Subscribed,
    Subscription,
    Synced,
    TokenExpiring,
    Unsubscribed,
)
from onward_sdk.protocol import claims_of

from services.cli import options
from services.cli.outcome import run
from services.cli.output import People, message_fields, print_json
from services.cli.state_file import StateFile, default_path


def subscribe(
    subjects: Annotated[list[str], typer.Argument(metavar="SUBJECT…", help="Such as /chat/1.")],
    user: options.User = "",
    client_id: Annotated[
        str,
        typer.Option(
            "--client-id", show_default=False, help="Which client; else one is drawn and kept."
        ),
    ] = "",
    external_token: Annotated[
        list[str] | None,
        typer.Option(
            "--external-token",
            metavar="URI",
            help="Where to reach you when offline, such as mailto:ann@example.org. Repeatable.",
        ),
    ] = None,
    after: Annotated[
        int | None,
        typer.Option("--after", min=0, help="Begin after this number, not where you left off."),
    ] = None,
    history: Annotated[
        int,
        typer.Option(
            "--history",
            min=0,
            max=1_000,
            show_default=False,
            help="Begin with the last N messages, not where you left off.",
        ),
    ] = 0,
    snapshot: Annotated[
        bool,
        typer.Option("--snapshot", help="Begin with the retained message, not where you left off."),
    ] = False,
    state_file: Annotated[
        Path | None,
        typer.Option(
            "--state-file",
            show_default=False,
            help="Where to keep positions; else under $XDG_STATE_HOME or ~/.local/state.",
        ),
    ] = None,
    url: options.Url = options.DEFAULT_URL,
    token: options.Token = "",
    json: options.Json = False,
) -> None:
    """Print messages as they come; after a restart or a kill, first those missed."""
    if (after is not None) + bool(history) + snapshot > 1:
        raise typer.BadParameter(
            "give one of --after, --history and --snapshot", param_hint="--snapshot"
        )
    who = user or str(claims_of(token).get("sub", ""))
    path = state_file or default_path(os.environ, url, who, client_id)
    wanted = [
        Subscription(subject, after, history, snapshot) for subject in dict.fromkeys(subjects)
    ]
    run(_follow(StateFile(path, client_id), wanted, external_token or [], url, user, token, json))


async def _follow(
    state_file: StateFile,
    wanted: list[Subscription],
    external_tokens: list[str],
    url: str,
    user: str,
    token: str,
    json: bool,
) -> None:
    identity = state_file.open()
    view = JsonView() if json else PeopleView(show_subject=len(wanted) > 1)
    if state_file.shared:
        view.remark("another process is this client; this one takes a new id and keeps nothing")
    client = Client(
        [url],
        user=user,
        token=token,
        identity=identity,
        # At once: whoever is killed next shall not be notified of what was printed.
        options=Options(ack_delay_s=0.0, info={"app": "onward-cli"}),
        on_message=view.message,
        on_status=view.status,
        keep=state_file.keep,
    )
    for uri in external_tokens:
        await client.set_external_token(uri)
    await client.subscribe(*wanted)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    stopping = asyncio.create_task(stop.wait())
    living = asyncio.create_task(_live(client))
    try:
        await asyncio.wait({stopping, living}, return_when=asyncio.FIRST_COMPLETED)
        await client.disconnect()
        if living.done():
            await living  # raises what ended it
    finally:
        stopping.cancel()
        living.cancel()


async def _live(client: Client) -> None:
    await client.connect()
    await client.wait_closed()


class JsonView:
    """Everything as JSON, one object a line."""

    def message(self, message: Message) -> None:
        """Prints a message."""
        print_json(message_fields(message))

    def status(self, status: Status) -> None:
        """Prints how connection and subjects stand."""
        print_json(_status_fields(status))

    def remark(self, sentence: str) -> None:
        """Prints something beside the results."""
        print_json({"event": "remark", "text": sentence})


class PeopleView:
    """Messages on stdout; how things stand on stderr."""

    def __init__(self, show_subject: bool) -> None:
        self._people = People()
        self._show_subject = show_subject

    def message(self, message: Message) -> None:
        """Prints a message."""
        self._people.message(message, self._show_subject)

    def status(self, status: Status) -> None:
        """Prints how connection and subjects stand, where a person wants to know."""
        sentence = _sentence(status)
        if sentence:
            self._people.remark(sentence)

    def remark(self, sentence: str) -> None:
        """Prints something beside the results."""
        self._people.remark(sentence)


def _status_fields(status: Status) -> dict[str, Any]:
    match status:
        case Connected():
            return {
                "event": "connected",
                "clientId": status.client_id,
                "user": status.user,
                "generation": status.generation,
                "sessionId": status.session_id,
                "logId": status.log_id,
                "edgeId": status.edge_id,
                "logReplaced": status.log_replaced,
            }
        case Disconnected(reason, will_retry, code, retry_in_s):
            fields = {"event": "disconnected", "reason": reason, "willRetry": will_retry}
            return fields | {"code": code, "retryInS": round(retry_in_s, 3)}
        case Subscribed(subject, seq, recovered):
            fields = {"event": "subscribed", "subject": subject, "seq": seq}
            return fields | {"recovered": recovered}
        case Unsubscribed(subject, reason):
            return {"event": "unsubscribed", "subject": subject, "reason": reason}
        case Synced(subject, seq, recovered):
            fields = {"event": "synced", "subject": subject, "seq": seq}
            return fields | {"recovered": recovered}
        case Resynced(subject, seq, reason, from_seq, to_seq):
            fields = {"event": "gap", "subject": subject, "seq": seq, "reason": reason}
            return fields | {"fromSeq": from_seq, "toSeq": to_seq}
        case TokenExpiring(expires_in_s):
            return {"event": "token_expiring", "expiresInS": expires_in_s}
        case EndpointGone(uri):
            return {"event": "endpoint_gone", "uri": uri}


def _sentence(status: Status) -> str:
    match status:
        case Connected():
            replaced = "; the server's log is another one" if status.log_replaced else ""
            return f"connected as {status.user}, client {status.client_id}{replaced}"
        case Disconnected(reason, will_retry, _, retry_in_s):
            # Without a retry the command ends with this reason, and says it then.
            again = f"disconnected: {reason}; trying again in {retry_in_s:.1f} s"
            return again if will_retry else ""
        case Unsubscribed(_, reason):
            return reason
        case Synced(subject, seq, recovered):
            return f"{subject} is up to date at {seq}, {recovered} recovered"
        case Resynced(subject, seq, reason, from_seq, to_seq):
            lost = f"{from_seq}–{to_seq} will not come" if to_seq else "positions have changed"
            return f"{subject}: {lost} ({reason}); going on after {seq}"
        case TokenExpiring(expires_in_s):
            return f"the token expires in {expires_in_s:.0f} s"
        case EndpointGone(uri):
            return f"{uri} was reported gone and is removed"
        case Subscribed():
            return ""
