"""`onward conformance`: drives a notifier plugin through its contract, with a verdict per rule.

Exit codes: 0 no rule is broken, 1 one is, or the plugin cannot be reached, 2 wrong usage. As JSON
it prints one object. Rules that want to see what is really sent read a file that the plugin writes
(`--sent`), see docs/writing-a-notifier.md.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.chassis.errors import StartError
from services.chassis.tls import Certificates, Trust
from services.cli import options
from services.cli.conformance_callbacks import Request, read_sample
from services.cli.conformance_plugin import Examined, Wishes, scheme_of
from services.cli.conformance_rules import RULES, Judged, Rule, Verdict, chosen, judge
from services.cli.outcome import EXIT_FAILED, Failure, run
from services.cli.output import print_json, printable

_STYLES = {Verdict.PASSED: "green", Verdict.FAILED: "bold red", Verdict.SKIPPED: "yellow"}

Address = Annotated[str, typer.Argument(help="Where the plugin listens, as host:port.")]
Secret = Annotated[
    str,
    typer.Option("--secret", envvar="ONWARD_SECRET", show_default=False, help="The shared secret."),
]
Ca = Annotated[
    Path | None, typer.Option("--ca", help="For TLS: the CAs that signed its certificate.")
]
Cert = Annotated[Path | None, typer.Option("--cert", help="For TLS: the certificate to show it.")]
Key = Annotated[Path | None, typer.Option("--key", help="For TLS: the key of that.")]
TlsName = Annotated[
    str,
    typer.Option(
        "--tls-name", show_default=False, help="What its certificate is for, if not the host."
    ),
]
Channel = Annotated[
    str,
    typer.Option("--channel", show_default=False, help="Send through this one; else its first."),
]
Endpoints = Annotated[
    list[str] | None,
    typer.Option(
        "--endpoint",
        help="An endpoint that can be sent to, `{n}` in it is a number; one for each channel.",
    ),
]
Slow = Annotated[
    str, typer.Option("--slow", show_default=False, help="An endpoint that takes 3 s or longer.")
]
Sent = Annotated[
    Path | None,
    typer.Option("--sent", help="Where the plugin writes a JSON line for each real send."),
]
Callback = Annotated[
    Path | None,
    typer.Option("--callback", help="JSON of a request that its provider signed; see the guide."),
]
RuleNames = Annotated[
    list[str] | None,
    typer.Option("--rule", help="Only this one and what it needs; may be given again."),
]
ListRules = Annotated[bool, typer.Option("--rules", help="List the rules.")]


def conformance(
    address: Address = "",
    secret: Secret = "",
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
    tls_name: TlsName = "",
    channel: Channel = "",
    endpoint: Endpoints = None,
    slow: Slow = "",
    sent: Sent = None,
    callback: Callback = None,
    rule: RuleNames = None,
    rules: ListRules = False,
    json: options.Json = False,
) -> None:
    """Examine a notifier plugin; exit code 1 if it breaks a rule."""
    if rules:
        _list(json)
        return
    _check_usage(address, endpoint or [], slow)
    try:
        tried = chosen(rule or [])
    except KeyError as error:
        raise typer.BadParameter(
            f"no rule is called {error.args[0]!r}; --rules lists all"
        ) from None
    trust = _trust(secret, ca, cert, key, tls_name)
    wishes = Wishes(channel.lower(), endpoint or (), slow, sent, _sample(callback))
    judged: list[Judged] = []

    async def examine() -> None:
        async with Examined(address, trust, wishes) as plugin:
            if not await plugin.reached():
                raise Failure(
                    f"{address} cannot be reached; is the plugin there, and is its TLS as here?"
                )
            judged.extend(await judge(plugin, tried))

    run(examine())
    conforms = not any(one.verdict is Verdict.FAILED for one in judged)
    if json:
        print_json(_fields(address, conforms, judged))
    else:
        Console(highlight=False).print(_table(judged))
        Console(highlight=False, soft_wrap=True).print(_summary(address, judged))
    if not conforms:
        raise typer.Exit(EXIT_FAILED)


def _check_usage(address: str, endpoints: Sequence[str], slow: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or not (port.isascii() and port.isdigit() and 0 < int(port) <= 65535):
        raise typer.BadParameter(f"{address!r} is no address; write host:port")
    for one in [*endpoints, *([slow] if slow else [])]:
        if ":" not in one or not scheme_of(one):
            raise typer.BadParameter(f"{one!r} is no endpoint; write it as scheme:rest")


def _sample(path: Path | None) -> Request | None:
    try:
        return None if path is None else read_sample(path)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _trust(
    secret: str, ca: Path | None, cert: Path | None, key: Path | None, name: str
) -> Trust | None:
    files = {"--ca": ca, "--cert": cert, "--key": key}
    missing = [option for option, path in files.items() if path is None]
    if len(missing) == len(files):
        return Trust(secret) if secret else None
    if missing:
        raise typer.BadParameter(f"{missing[0]} is missing; TLS needs --ca, --cert and --key")
    try:
        return Trust(secret, Certificates({one: str(path) for one, path in files.items()}, name))
    except StartError as error:
        raise typer.BadParameter(str(error)) from None


def _list(as_json: bool) -> None:
    if as_json:
        print_json({"event": "rules", "rules": [_named(rule) for rule in RULES]})
        return
    for rule in RULES:
        typer.echo(f"{rule.name:<18}{rule.sentence}")


def _named(rule: Rule) -> dict[str, str]:
    return {"name": rule.name, "sentence": rule.sentence}


def _fields(address: str, conforms: bool, judged: Sequence[Judged]) -> dict[str, object]:
    verdicts = [
        _named(one.rule) | {"verdict": one.verdict.value, "reason": printable(one.reason)}
        for one in judged
    ]
    return {"event": "conformance", "address": address, "conforms": conforms, "rules": verdicts}


def _table(judged: Sequence[Judged]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("Rule", no_wrap=True)
    table.add_column("Verdict")
    table.add_column("What was asked, and seen", overflow="fold")
    for one in judged:
        seen = printable(one.reason)
        what = Text.assemble(one.rule.sentence, "\n", (seen, _STYLES[one.verdict]))
        verdict = Text(one.verdict.upper(), style=_STYLES[one.verdict])
        table.add_row(one.rule.name, verdict, what)
    return table


def _summary(address: str, judged: Sequence[Judged]) -> Text:
    counts = {verdict: sum(1 for one in judged if one.verdict is verdict) for verdict in Verdict}
    said = ", ".join(f"{count} {verdict.value}" for verdict, count in counts.items() if count)
    if broken := [one.rule.name for one in judged if one.verdict is Verdict.FAILED]:
        words = f"does not conform: {', '.join(broken)}"
        return Text.assemble(f"\n{address} ", (words, "bold red"), f" ({said})")
    return Text.assemble(f"\n{address} ", ("conforms", "green"), f" ({said})")
