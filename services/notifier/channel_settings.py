"""Makes of settings what channels take, and says in one sentence what is wrong with them.

A channel is set up when its first variable is; then all that it needs must be there and right.
Each function returns None if the channel is not set up, and raises SettingError naming a variable.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import jwt

from services.chassis.errors import SettingError
from services.notifier.apns import Access
from services.notifier.settings import Settings
from services.notifier.sms import Account
from services.notifier.webhook import secret_of

_APPLE_ID = re.compile(r"[A-Z0-9]{10}")
_TOPIC = re.compile(r"[A-Za-z0-9.-]{1,255}")
_ACCOUNT = re.compile(r"AC[0-9a-fA-F]{32}")
_SENDER = re.compile(r"\+[1-9][0-9]{6,14}|MG[0-9a-fA-F]{32}|(?=.*[A-Za-z])[A-Za-z0-9 ]{1,11}")
_NAME = re.compile(r"[a-z0-9-]{1,40}")


def apns_access(settings: Settings) -> Access | None:
    """Who we are to Apple."""
    if not settings.apns_key_file:
        return None
    _check(
        {
            "ONWARD_APNS_KEY_ID": (settings.apns_key_id, _APPLE_ID, "the key's 10 characters"),
            "ONWARD_APNS_TEAM_ID": (settings.apns_team_id, _APPLE_ID, "the team's 10 characters"),
            "ONWARD_APNS_TOPIC": (settings.apns_topic, _TOPIC, "the app's bundle id"),
        }
    )
    try:
        key = Path(settings.apns_key_file).read_text(encoding="ascii")
        # Whether it is a key that signs, tried before anybody waits for a notification.
        jwt.encode({}, key, algorithm="ES256")
    except (OSError, ValueError, TypeError, jwt.PyJWTError) as error:
        raise SettingError(
            f"ONWARD_APNS_KEY_FILE cannot be used ({type(error).__name__}); set it to the .p8 file "
            "that Apple gave, an EC key in PEM"
        ) from None
    return Access(
        key,
        settings.apns_key_id,
        settings.apns_team_id,
        settings.apns_topic,
        _url("ONWARD_APNS_URL", settings.apns_url, ("https",)),
    )


def sms_account(settings: Settings) -> Account | None:
    """Who we are to Twilio."""
    if not settings.twilio_account_sid:
        return None
    _check(
        {
            "ONWARD_TWILIO_ACCOUNT_SID": (
                settings.twilio_account_sid, _ACCOUNT, "AC and 32 hex digits",
            ),
            "ONWARD_TWILIO_FROM": (
                settings.twilio_from, _SENDER, "a number as +15551234567, or MG and 32 hex digits",
            ),
        }
    )  # fmt: skip
    if not settings.twilio_auth_token:
        raise SettingError(
            "ONWARD_TWILIO_AUTH_TOKEN is not set; set it to the auth token of the account"
        )
    return Account(
        settings.twilio_account_sid,
        settings.twilio_auth_token,
        settings.twilio_from,
        _url("ONWARD_TWILIO_URL", settings.twilio_url),
        callback_url(settings),
    )


def webhook_secrets(settings: Settings) -> list[bytes] | None:
    """The keys that webhooks are signed with, the newest first."""
    if not settings.webhook_secrets:
        return None
    try:
        return [secret_of(text) for text in settings.webhook_secrets]
    except ValueError:
        raise SettingError(
            "ONWARD_WEBHOOK_SECRETS holds something else than whsec_ and 24 to 64 bytes in Base64; "
            "set it to such secrets, parted by commas"
        ) from None


def callback_url(settings: Settings) -> str:
    """Where providers report, without a query; empty: nowhere."""
    if not settings.public_url:
        return ""
    url = _url("ONWARD_PUBLIC_URL", settings.public_url)
    return f"{url}/v1/callbacks/{process_name(settings)}"


def process_name(settings: Settings) -> str:
    """What the process is called."""
    _check({"ONWARD_NOTIFIER_NAME": (settings.name, _NAME, "up to 40 of [a-z0-9-]")})
    return settings.name


def _check(wanted: Mapping[str, tuple[str, re.Pattern[str], str]]) -> None:
    for name, (text, pattern, form) in wanted.items():
        if not pattern.fullmatch(text):
            # Not quoted: a secret may have been put into the wrong variable.
            fault = "is not right" if text else "is not set"
            raise SettingError(f"{name} {fault}; set it to {form}")


def _url(name: str, text: str, schemes: tuple[str, ...] = ("https", "http")) -> str:
    """A URL without what would not belong to all that is built from it."""
    try:
        parts = urlsplit(text)
        good = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or parts.query or parts.fragment or parts.username is not None:
        raise SettingError(
            f"{name} is not right; set it to a URL such as {schemes[0]}://chat.example.org, "
            "without query, user or password"
        )
    return text.rstrip("/")
