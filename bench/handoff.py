"""F12: from a publish to the notifier's call, and to an e-mail server, for people already offline.

Every person follows a subject of their own, so that nothing is joined with anything. They connect,
their program is killed, their grace passes; then one message is published to each in turn.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from bench import programs, suite
from bench.inbox import SCHEME, Inbox, open_inbox
from bench.report import Figure, percentile

_GRACE_S = "1"
_OFFLINE_S = 40.0  # until the last of them is offline, at the latest
_LATE_S = 20.0
_WARM = 5  # people whose messages are not counted


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    calls: int = 500  # people with the plugin's scheme
    call_pause_s: float = 0.02  # between one publish and the next
    mails: int = 300  # people with an e-mail address
    mail_pause_s: float = 0.05


def measure(directory: Path, size: Size) -> list[Figure]:
    """F12, and the same to the acceptance of an e-mail."""
    return asyncio.run(_measure(directory, size))


async def _measure(directory: Path, size: Size) -> list[Figure]:
    async with open_inbox() as (inbox, plugin_port, smtp_port):
        environ = {
            "ONWARD_PRESENCE_PLUGINS": f"127.0.0.1:{plugin_port}",
            "ONWARD_PRESENCE_GRACE_S": _GRACE_S,
            "ONWARD_SMTP_URL": f"smtp://127.0.0.1:{smtp_port}",
            "ONWARD_SMTP_FROM": "bench@onward.example",
        }
        # Started aside, because it asks this loop's plugin what it serves.
        running = suite.running(directory / "handoff", **environ)
        up = await asyncio.to_thread(running.__enter__)
        try:
            calls = await _latencies(
                directory, up, inbox, "push", size.calls, size.call_pause_s, _push
            )
            mails = await _latencies(
                directory, up, inbox, "mail", size.mails, size.mail_pause_s, _mail
            )
        finally:
            await asyncio.to_thread(running.__exit__, None, None, None)
    notes = {"count": len(calls), "max_ms": max(calls)}
    mail_notes = {"count": len(mails), "max_ms": max(mails)}
    return [
        Figure("F12", "publish → notifier's call, p50", "ms", [percentile(calls, 0.5)], 5.0,
               notes=notes),
        Figure("F12", "publish → notifier's call, p99", "ms", [percentile(calls, 0.99)], 20.0),
        Figure("", "publish → e-mail taken, p50", "ms", [percentile(mails, 0.5)], notes=mail_notes),
        Figure("", "publish → e-mail taken, p99", "ms", [percentile(mails, 0.99)]),
    ]  # fmt: skip


def _push(number: str) -> str:
    return f"{SCHEME}:bench-{number}"


def _mail(number: str) -> str:
    return f"mailto:bench-{number}@onward.example"


async def _latencies(
    directory: Path,
    up: suite.Suite,
    inbox: Inbox,
    kind: str,
    people: int,
    pause_s: float,
    endpoint: Callable[[str], str],
) -> list[float]:
    """Milliseconds from each publish to its notification."""
    count = people + _WARM
    connect = (
        f'{{"id":"c","connect":{{"clientId":"{kind}{{i}}","acknowledges":"PONG",'
        f'"externalTokens":[{{"uri":"{endpoint("{i}")}"}}],'
        f'"subscriptions":{{"list":[{{"subject":"/bench/{kind}/{{i}}"}}]}}}}}}'
    )
    with programs.running(
        directory, "subscribe", port=up.port, clients=count, user=f"{kind}{{i}}", connect=connect
    ) as program:
        await asyncio.to_thread(program.wait_for, "ready", 60)
        await asyncio.sleep(1)
    sent: dict[str, float] = {}
    url = f"ws://127.0.0.1:{up.port}/v1/connect?user=publisher"
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
        frame = {"connect": {"clientId": f"publisher-{kind}", "acknowledges": "NONE"}}
        await socket.send_json({"id": "c"} | frame)
        await socket.receive_json()

        async def publish(number: int) -> None:
            sent[endpoint(str(number))] = time.monotonic()
            what = {"subject": f"/bench/{kind}/{number}", "text": "while you were away"}
            await socket.send_json({"publish": what})

        for number in range(people, count):
            await publish(number)
        for number in range(people, count):  # the last to connect go offline last
            await inbox.wait_for(endpoint(str(number)), _OFFLINE_S)
        await asyncio.sleep(1)
        for number in range(people):
            await publish(number)
            await asyncio.sleep(pause_s)
    latencies = []
    for number in range(people):
        name = endpoint(str(number))
        came = await inbox.wait_for(name, _LATE_S)
        latencies.append((came - sent[name]) * 1e3)
    return latencies
