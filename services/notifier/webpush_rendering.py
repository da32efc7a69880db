"""Makes the payload and the headers of a Web Push. Pure.

The payload is JSON for the page's service worker: `title`, `body`, `lang`, `url` and `tag`, which
it shows, and what the notification stands for. Too large a payload loses most of its text, then its
links, never its ids. Encryption and the signature are not here.
"""

from base64 import urlsafe_b64encode
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

from onward.notifier.v1 import notifier_pb2

from services.notifier.wording import TEXT_BYTES_MIN, as_json, cut_json, links, words

Delivery = notifier_pb2.Delivery

# RFC 8030 has push services take 4,096 bytes, encrypted; some take less where they pass it on.
PAYLOAD_BYTES_MAX = 2_700
TTL_S_MAX = 28 * 86_400  # what the large push services keep things for; longer is cut
TTL_DEFAULT_S = 86_400  # of a delivery that names no end

LANG_CHARACTERS_MAX = 35  # as RFC 5646 has it; what is longer is left out

_URGENCY = {Delivery.LOW: "low", Delivery.HIGH: "high", Delivery.URGENT: "high"}


def payload(delivery: Delivery) -> bytes:
    """The JSON that the service worker gets."""
    said = words(delivery)
    wanted = min(len(as_json(said.body)), TEXT_BYTES_MIN)
    for opened in links(delivery):
        room = PAYLOAD_BYTES_MAX - len(as_json(_members(delivery, said.title, "", opened)))
        if room >= wanted:
            break
    return as_json(_members(delivery, said.title, cut_json(said.body, room), opened))


def headers(delivery: Delivery, now: datetime) -> dict[str, str]:
    """TTL, Urgency and Topic (RFC 8030, sections 5.2 to 5.4)."""
    made = {
        "ttl": str(_ttl_s(delivery, now)),
        "urgency": _URGENCY.get(delivery.priority, "normal"),
    }
    if delivery.collapse_key:
        made["topic"] = topic(delivery.collapse_key)
    return made


def topic(collapse_key: str) -> str:
    """The key's hash: 32 characters of base64url, which is what a topic may have at most."""
    digest = blake2b(collapse_key.encode(), digest_size=24).digest()
    return urlsafe_b64encode(digest).decode()


def _members(delivery: Delivery, title: str, body: str, opened: dict[str, str]) -> dict[str, Any]:
    made: dict[str, Any] = {
        "title": title,
        "body": body,
        "subject": delivery.subject,
        "first_seq": delivery.first_seq,
        "last_seq": delivery.last_seq,
        "count": delivery.count,
        "notification_id": delivery.notification_id,
        "delivery_id": delivery.delivery_id,
        **opened,
    }
    if delivery.collapse_key:
        made["tag"] = topic(delivery.collapse_key)
    if delivery.locale and len(delivery.locale) <= LANG_CHARACTERS_MAX:
        made["lang"] = delivery.locale
    if delivery.category:
        made["category"] = delivery.category
    if delivery.test:
        made["test"] = True
    return made


def _ttl_s(delivery: Delivery, now: datetime) -> int:
    """At least a second: with 0 a push service drops what it cannot deliver at this moment."""
    if not delivery.HasField("expires_at"):
        return TTL_DEFAULT_S
    left_s = (delivery.expires_at.ToDatetime(tzinfo=UTC) - now).total_seconds()
    return min(max(int(left_s), 1), TTL_S_MAX)
