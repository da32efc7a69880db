"""Runs the notifier: `python -m services.notifier`. Settings: `settings.py`."""

import asyncio
import os
from collections.abc import Mapping

from services.chassis import logs, metrics, process
from services.chassis.errors import SettingError
from services.chassis.settings import load
from services.chassis.tls import trust_of
from services.notifier import email, harness
from services.notifier.console import Console
from services.notifier.email import Email
from services.notifier.settings import Settings, sender
from services.notifier.smtp_url import parse


def build(settings: Settings) -> list[harness.Plugin]:
    """The plugins that are set up: e-mail if there is a mail server, console for the rest."""
    who = sender(settings)
    limits = email.Limits(connections=settings.smtp_connections, reply_s=settings.smtp_reply_s)
    plugins: list[harness.Plugin] = []
    if settings.smtp_url:
        plugins.append(Email(parse(settings.smtp_url), who, limits))
    if settings.console:
        plugins.append(Console())
    if not plugins:
        raise SettingError(
            "ONWARD_SMTP_URL is not set and ONWARD_NOTIFIER_CONSOLE is false, so nothing could be "
            "sent; set ONWARD_SMTP_URL to a mail server, such as smtp://127.0.0.1:25"
        )
    return plugins


async def main(stop: asyncio.Event, environ: Mapping[str, str] = os.environ) -> None:
    """Serve until `stop`."""
    settings = load(Settings, "notifier", environ)
    logs.configure("notifier", settings.log_level)
    plugins = build(settings)
    metrics.serve(settings.metrics_port, settings.metrics_host)
    await harness.serve(
        plugins,
        settings.listen,
        trust_of(settings, "notifier"),
        stop,
        name="-".join(plugin.name for plugin in plugins),
        limits=harness.Limits(
            batch_max=settings.batch_max, calls_max=settings.calls_max, send_s=settings.send_s
        ),
        drain_s=settings.drain_s,
    )


if __name__ == "__main__":
    process.run(main)
