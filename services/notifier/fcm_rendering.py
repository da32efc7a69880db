"""Makes a message for FCM of a delivery. Pure.

Knows deliveries and `Message` of FCM's HTTP v1, in its published JSON names. `render` is all there
is to call. The apps get `notification`, which the system shows, and `data`, of strings only: what
the notification stands for and what it opens. Too large a message loses most of its text, then its
links, never its ids.
"""

import re
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

from onward.notifier.v1 import notifier_pb2

from services.notifier.wording import TEXT_BYTES_MIN, as_json, cut_json, links, words

Delivery = notifier_pb2.Delivery

PAYLOAD_BYTES_MAX = 4_096  # of what reaches the device, by FCM's rule
TTL_S_MAX = 28 * 86_400  # by FCM's rule; longer is cut
TTL_DEFAULT_S = 86_400  # of a delivery that names no end
COLLAPSE_BYTES_MAX = 64  # of Apple's; a longer key is replaced by its hash

# Held back while a device sleeps, for hours, is NORMAL of Android: right for what may wait only.
_ANDROID = {Delivery.LOW: "NORMAL"}
_SHOWN = {
    Delivery.LOW: "PRIORITY_LOW",
    Delivery.HIGH: "PRIORITY_HIGH",
    Delivery.URGENT: "PRIORITY_MAX",
}
_APPLE = {Delivery.LOW: "5"}
_TOKEN = re.compile(r"fcm:([A-Za-z0-9_:.%~-]{1,2048})")


def token_of(endpoint: str) -> str | None:
    """The registration token of `fcm:<token>`; None if it cannot be one."""
    found = _TOKEN.fullmatch(endpoint)
    return found[1] if found else None


def render(delivery: Delivery, token: str, now: datetime) -> dict[str, Any]:
    """The body of `messages:send`."""
    said = words(delivery)
    wanted = min(len(as_json(said.body)), TEXT_BYTES_MIN)
    for opened in links(delivery):
        data = _data(delivery, opened)
        room = PAYLOAD_BYTES_MAX - len(as_json(_payload(delivery, said.title, data)))
        if room >= wanted:
            break
    shown = {"title": said.title, "body": cut_json(said.body, room)}
    ttl_s = _ttl_s(delivery, now)
    key = collapse_name(delivery.collapse_key)
    return {
        "message": {
            "token": token,
            "notification": shown,
            "data": data,
            "android": {
                "priority": _ANDROID.get(delivery.priority, "HIGH"),
                "ttl": f"{ttl_s}s",
                **({"collapseKey": key} if key else {}),
                "notification": _on_android(delivery),
            },
            "apns": {
                "headers": {
                    "apns-priority": _APPLE.get(delivery.priority, "10"),
                    "apns-expiration": str(int(now.timestamp()) + ttl_s),
                    **({"apns-collapse-id": key} if key else {}),
                },
                "payload": _on_apple(delivery),
            },
        }
    }


def collapse_name(key: str) -> str:
    """The collapse key where it is at most 64 bytes, by Apple's rule; else its hash."""
    if len(key.encode()) <= COLLAPSE_BYTES_MAX and key.isprintable() and key.isascii():
        return key
    return blake2b(key.encode(), digest_size=16).hexdigest()


def _data(delivery: Delivery, opened: dict[str, str]) -> dict[str, str]:
    """What the app is told. Every value is a string: FCM refuses others."""
    data = {
        "subject": delivery.subject,
        "first_seq": str(delivery.first_seq),
        "last_seq": str(delivery.last_seq),
        "count": str(delivery.count),
        "notification_id": delivery.notification_id,
        "delivery_id": delivery.delivery_id,
        **opened,
    }
    if delivery.category:
        data["category"] = delivery.category
    if delivery.test:
        data["test"] = "true"
    return data


def _on_android(delivery: Delivery) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "notificationPriority": _SHOWN.get(delivery.priority, "PRIORITY_DEFAULT")
    }
    key = collapse_name(delivery.collapse_key)
    if key:
        shown["tag"] = key  # the newer replaces the older on the screen
    return shown


def _on_apple(delivery: Delivery) -> dict[str, Any]:
    # One thread for each subject on the lock screen.
    return {"aps": {"thread-id": collapse_name(delivery.subject), "sound": "default"}}


def _payload(delivery: Delivery, title: str, data: dict[str, str]) -> dict[str, Any]:
    """All that counts, without a body; what one system is spared is counted too."""
    return {
        "notification": {"title": title, "body": ""},
        "data": data,
        "android": _on_android(delivery),
        "apns": _on_apple(delivery),
    }


def _ttl_s(delivery: Delivery, now: datetime) -> int:
    """At least a second: 0 would be for devices that are reachable at this moment only."""
    if not delivery.HasField("expires_at"):
        return TTL_DEFAULT_S
    left_s = (delivery.expires_at.ToDatetime(tzinfo=UTC) - now).total_seconds()
    return min(max(int(left_s), 1), TTL_S_MAX)
