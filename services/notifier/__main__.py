"""Runs the notifier: `python -m services.notifier`. Settings: `settings.py`."""

import asyncio
import os
from collections.abc import Iterator, Mapping

from services.chassis import logs, metrics, process
from services.chassis.errors import SettingError
from services.chassis.settings import load
from services.chassis.tls import trust_of
from services.notifier import apns, channel_settings, email, fcm, harness, sms, webhook, webpush
from services.notifier.apns import Apns
from services.notifier.console import Console
from services.notifier.email import Email
from services.notifier.fcm import Fcm
from services.notifier.google_credentials import read_service_account
from services.notifier.settings import Settings, fcm_url, sender
from services.notifier.sms import Sms
from services.notifier.smtp_url import parse
from services.notifier.vapid import read_vapid
from services.notifier.webhook import Webhook
from services.notifier.webpush import WebPush

log = logs.get(__name__)


def build(settings: Settings) -> list[harness.Plugin]:
    """The plugins that are set up, and the console for every other channel."""
    plugins: list[harness.Plugin] = [
        *_email(settings),
        *_apns(settings),
        *_sms(settings),
        *_webhook(settings),
        *_fcm(settings),
        *_webpush(settings),
    ]
    if settings.console:
        plugins.append(Console())
    if not plugins:
        raise SettingError(
            "No channel is set up and ONWARD_NOTIFIER_CONSOLE is false, so nothing could be sent; "
            "set up one, such as ONWARD_SMTP_URL to a mail server: smtp://127.0.0.1:25"
        )
    return plugins


def _email(settings: Settings) -> Iterator[harness.Plugin]:
    who = sender(settings)
    if settings.smtp_url:
        limits = email.Limits(
            connections=settings.smtp_connections,
            reply_s=settings.smtp_reply_s,
            data_reply_s=settings.smtp_data_reply_s,
            back_off_s=settings.smtp_back_off_s,
        )
        yield Email(parse(settings.smtp_url), who, limits)


def _apns(settings: Settings) -> Iterator[harness.Plugin]:
    access = channel_settings.apns_access(settings)
    if access:
        yield Apns(
            access,
            apns.Limits(concurrency=settings.apns_concurrency, back_off_s=settings.apns_back_off_s),
        )


def _sms(settings: Settings) -> Iterator[harness.Plugin]:
    account = channel_settings.sms_account(settings)
    if account:
        yield Sms(
            account,
            sms.Limits(
                concurrency=settings.sms_concurrency, characters_max=settings.sms_characters
            ),
        )


def _webhook(settings: Settings) -> Iterator[harness.Plugin]:
    secrets = channel_settings.webhook_secrets(settings)
    if secrets:
        yield Webhook(
            secrets,
            settings.allow_private_addresses,
            webhook.Limits(
                concurrency=settings.webhook_concurrency, per_host=settings.webhook_per_host
            ),
            believed=settings.webhook_hosts,
        )


def _fcm(settings: Settings) -> Iterator[harness.Plugin]:
    if settings.fcm_credentials:
        account = read_service_account(settings.fcm_credentials, "ONWARD_FCM_CREDENTIALS")
        yield Fcm(account, fcm_url(settings), fcm.Limits(connections=settings.fcm_connections))


def _webpush(settings: Settings) -> Iterator[harness.Plugin]:
    if settings.webpush_vapid_key:
        vapid = read_vapid(
            settings.webpush_vapid_key,
            settings.webpush_subject,
            "ONWARD_WEBPUSH_VAPID_KEY",
            "ONWARD_WEBPUSH_SUBJECT",
        )
        # What a page needs to subscribe; it is public.
        log.info("webpush", application_server_key=vapid.public_key)
        connections = settings.webpush_connections
        yield WebPush(
            vapid,
            settings.webpush_services,
            settings.allow_private_addresses,
            webpush.Limits(connections=connections, unlisted=-(-connections // 4)),
        )


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
        name=channel_settings.process_name(settings),
        limits=harness.Limits(
            batch_max=settings.batch_max,
            calls_max=settings.calls_max,
            linger_s=settings.linger_s,
            send_s=settings.send_s,
        ),
        drain_s=settings.drain_s,
    )


if __name__ == "__main__":
    process.run(main)
