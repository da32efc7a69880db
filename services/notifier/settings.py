"""What an operator sets for the notifier, and the checks that a type cannot make."""

import re
from dataclasses import dataclass
from email.utils import getaddresses
from urllib.parse import urlsplit

from services.chassis.errors import SettingError
from services.chassis.settings import setting
from services.chassis.shared_settings import SharedSettings
from services.notifier.apns import APPLE
from services.notifier.email_address import is_address
from services.notifier.email_rendering import Sender
from services.notifier.fcm import GOOGLE
from services.notifier.sms import CHARACTERS_MAX, TWILIO
from services.notifier.webpush import SERVICES

_URL = re.compile(r"(?:https://|mailto:)[!-;=?-~]{1,500}")  # no space, no angle brackets


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(SharedSettings):
    """Read from the environment by `services.chassis.settings.load`."""

    listen: str = setting(
        "127.0.0.1:0", doc="host:port to listen on for gRPC; port 0 draws a free one"
    )
    smtp_url: str = setting(
        "",
        shared=True,
        secret=True,
        doc="the mail server, as smtp://[user:password@]host[:port][?starttls=required|auto|no] "
        "or smtps://…; empty: no e-mail",
    )
    smtp_from: str = setting(
        "Onward <onward@localhost>",
        shared=True,
        doc="the sender of e-mail, as an address or as: Name <address>",
    )
    reply_to: str = setting(
        "", doc="the address that answers to e-mail go to; empty: to the sender"
    )
    unsubscribe: str = setting(
        "",
        doc="an https: or mailto: URL where people stop these e-mails, told to their mail programs "
        "(List-Unsubscribe); an https: one is not told where a mail has a URL of its own that "
        "mutes its subject; empty: none is told",
    )
    console: bool = setting(
        True,
        doc="true prints the notifications of every channel that nothing else serves, with their "
        "text, on standard output; false leaves those channels to other plugins",
    )
    smtp_connections: int = setting(
        4,
        least=1,
        most=64,
        doc="connections to the mail server at a time; more send faster and may meet its limit",
    )
    smtp_reply_s: float = setting(
        10.0,
        least=0.1,
        most=300,
        doc="seconds to wait for one reply of the mail server, but for the one to a message",
    )
    smtp_data_reply_s: float = setting(
        600.0,
        least=0.1,
        most=3_600,
        doc="seconds to wait for the reply to a message, on top of ONWARD_NOTIFIER_SEND_S and not "
        "beyond its expiry; then its outcome is unknown. Shorter frees the connection sooner, and "
        "makes what a slow server took all the same come twice",
    )
    smtp_back_off_s: float = setting(
        300.0,
        least=0.1,
        most=86_400,
        doc="seconds until an e-mail is sent again that the mail server refused for now; shorter "
        "is in vain where a server greylists",
    )
    apns_key_file: str = setting(
        "",
        shared=True,
        doc="the .p8 file of Apple's key for push notifications; empty: no APNs",
    )
    apns_key_id: str = setting("", shared=True, doc="the id of that key, 10 characters")
    apns_team_id: str = setting("", shared=True, doc="the id of the team at Apple, 10 characters")
    apns_topic: str = setting(
        "", shared=True, doc="the app's bundle id, such as org.example.chat; required for APNs"
    )
    apns_url: str = setting(
        APPLE,
        shared=True,
        doc="which of Apple's servers is asked; apps that are built for development need "
        "https://api.sandbox.push.apple.com, and device tokens of one are not known to the other",
    )
    apns_back_off_s: float = setting(
        60.0,
        least=10,
        most=3_600,
        doc="seconds until a notification is sent again that Apple could not take, where Apple "
        "names no time",
    )
    apns_concurrency: int = setting(
        100, least=1, most=1_000, doc="notifications to Apple under way at a time"
    )
    twilio_account_sid: str = setting(
        "", shared=True, doc="the account at Twilio that sends SMS, AC…; empty: no SMS"
    )
    twilio_auth_token: str = setting(
        "",
        shared=True,
        secret=True,
        doc="that account's auth token; Twilio's reports are signed with it too",
    )
    twilio_from: str = setting(
        "",
        shared=True,
        doc="the sender of SMS: a number of the account as +15551234567, an alphanumeric sender, "
        "or the sid of a messaging service, MG…",
    )
    twilio_url: str = setting(
        TWILIO, shared=True, doc="where Twilio's API is; another one for another region"
    )
    sms_characters: int = setting(
        480,
        least=70,
        most=CHARACTERS_MAX,
        doc="characters of one SMS; the rest is cut; 153 are paid for as one, or 67 if any of them "
        "is not of the GSM alphabet",
    )
    sms_concurrency: int = setting(
        8, least=1, most=100, doc="SMS on their way to Twilio at a time, a connection each"
    )
    webhook_secrets: tuple[str, ...] = setting(
        (),
        shared=True,
        secret=True,
        doc="what webhooks are signed with: whsec_ and 24 to 64 bytes in Base64; several, parted "
        "by commas, while one is being replaced; empty: no webhooks",
    )
    webhook_hosts: tuple[str, ...] = setting(
        (),
        doc="hosts of receivers that may hold up all webhooks by refusing one, parted by commas; "
        "*.example.org are those below it, * is all. Where another refuses, that one notification "
        "is tried again, or fails; so name only receivers of your own",
    )
    webhook_concurrency: int = setting(32, least=1, most=500, doc="webhooks under way at a time")
    webhook_per_host: int = setting(
        8,
        least=1,
        most=500,
        doc="webhooks to one host under way at a time; others to it wait. More serve a busy "
        "receiver faster, and leave less to the others while it is slow",
    )
    fcm_credentials: str = setting(
        "",
        shared=True,
        doc="JSON file of a Google service account's key, for notifications to apps by FCM; empty: "
        "no FCM",
    )
    fcm_url: str = setting(
        GOOGLE, shared=True, doc="where FCM is; another one than Google's is for trying things out"
    )
    fcm_connections: int = setting(
        16,
        least=1,
        most=200,
        doc="connections to FCM at a time, each with one notification under way",
    )
    webpush_vapid_key: str = setting(
        "",
        shared=True,
        secret=True,
        doc="private key of the curve P-256 that Web Push is signed with: PEM, or the path of a "
        "PEM file; browsers' subscriptions are for this key, so a new one ends them; empty: no "
        "Web Push",
    )
    webpush_subject: str = setting(
        "",
        shared=True,
        doc="a mailto: or https: URL where push services find whoever runs this; required for Web "
        "Push",
    )
    webpush_services: tuple[str, ...] = setting(
        SERVICES,
        doc="hosts of push services that are believed when they blame this set-up, parted by "
        "commas; *.example.org are those below it, * is all; at port 443, unless :port follows. "
        "Others are sent to as well, a few at a time, but fail for their own endpoint only",
    )
    webpush_connections: int = setting(
        32,
        least=1,
        most=500,
        doc="notifications to push services under way at a time; a quarter of them may be to "
        "services that are not listed",
    )
    allow_private_addresses: bool = setting(
        False,
        doc="true lets endpoints that are URLs lead into private networks and to this machine, and "
        "be http:; whoever may register an endpoint can then make this process send requests there",
    )
    name: str = setting(
        "notifier",
        doc="what this process is called in logs, in the status and in the URLs at which providers "
        "report; [a-z0-9-], up to 40; a new name loses reports that are on their way",
    )
    send_s: float = setting(
        30.0,
        least=0.1,
        most=600,
        doc="seconds that one send may take, then its outcome is unknown",
    )
    linger_s: float = setting(
        2.0,
        least=0.1,
        most=600,
        doc="seconds that a call waits for one send; what takes longer is unknown for now and "
        "asked about again, so that one that never ends does not hold up those it came with; "
        "shorter costs slow providers more calls; SMS are always waited for",
    )
    batch_max: int = setting(
        100, least=1, most=1000, doc="deliveries that one call may carry; told to the caller"
    )
    calls_max: int = setting(
        16,
        least=1,
        most=64,
        doc="calls that the caller should have under way; told to it; fewer than channels let slow "
        "ones hold up the others",
    )
    drain_s: float = setting(
        3.0, least=0, most=60, doc="seconds that calls under way get when the process is stopped"
    )
    metrics_port: int = setting(0, least=0, most=65535, doc="port of /metrics; 0: none")


def sender(settings: Settings) -> Sender:
    """Who e-mail is from. Raises SettingError naming the variable."""
    parsed = getaddresses([settings.smtp_from])
    name, address = parsed[0] if len(parsed) == 1 else ("", "")
    if not is_address(address) or not name.isprintable():
        raise SettingError(
            f"ONWARD_SMTP_FROM is {settings.smtp_from!r}; set it to one address, "
            "such as onward@example.org or Onward <onward@example.org>"
        )
    if settings.reply_to and not is_address(settings.reply_to):
        raise SettingError(
            f"ONWARD_NOTIFIER_REPLY_TO is {settings.reply_to!r}; set it to one address, "
            "such as support@example.org, or leave it empty"
        )
    if settings.unsubscribe and not _URL.fullmatch(settings.unsubscribe):
        raise SettingError(
            f"ONWARD_NOTIFIER_UNSUBSCRIBE is {settings.unsubscribe!r}; set it to one https: or "
            "mailto: URL, or leave it empty"
        )
    return Sender(address, name, settings.reply_to, settings.unsubscribe)


def fcm_url(settings: Settings) -> str:
    """Where FCM is. Raises SettingError naming the variable."""
    parts = urlsplit(settings.fcm_url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise SettingError(
            f"ONWARD_FCM_URL is {settings.fcm_url!r}; set it to a URL such as {GOOGLE}, or leave "
            "it empty"
        )
    return settings.fcm_url
