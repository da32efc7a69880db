"""What Twilio's codes mean for a delivery. Pure: tables.

Source: Twilio's error dictionary. Codes come with the answer to a request, or later with a status
callback. Twilio adds more special codes for old ones over time, so a code that is not here is
looked up by the HTTP status it came with.
"""

from collections.abc import Mapping
from datetime import datetime

from onward.notifier.v1 import notifier_pb2

from services.notifier import results
from services.notifier.http_answers import json_object
from services.notifier.results import Outcome, Result
from services.notifier.retry_after import retry_after_s

Event = notifier_pb2.DeliveryEvent

BACK_OFF_S = 10.0  # where Twilio names no time

_BY_CODE: Mapping[int, "Outcome.ValueType"] = {
    20003: Result.MISCONFIGURED,  # account or token wrong
    20005: Result.MISCONFIGURED,  # account not active
    20404: Result.MISCONFIGURED,  # no such account or service
    20429: Result.RETRY,  # too many requests
    20500: Result.UNKNOWN,  # it broke on Twilio's side, perhaps after the message was taken
    20503: Result.RETRY,  # not taken, for now
    21211: Result.ENDPOINT_GONE,  # no valid number
    21212: Result.MISCONFIGURED,  # our sender is no valid number
    21265: Result.REJECTED_MESSAGE,  # a short code takes no message
    21266: Result.REJECTED_MESSAGE,  # sender and recipient are one number
    21267: Result.MISCONFIGURED,  # alphanumeric sender on a trial account
    21268: Result.REJECTED_MESSAGE,  # a premium number
    21408: Result.MISCONFIGURED,  # the account may not send to that region
    21602: Result.REJECTED_MESSAGE,  # no text
    21603: Result.MISCONFIGURED,  # no sender
    21606: Result.MISCONFIGURED,  # the sender is not ours, or cannot send
    21608: Result.MISCONFIGURED,  # a trial account sends to verified numbers only
    21610: Result.OPTED_OUT,  # the person answered STOP
    21611: Result.RETRY,  # the sender's queue is full
    21612: Result.REJECTED_MESSAGE,  # no route from this sender to this number
    21614: Result.ENDPOINT_GONE,  # not a mobile number
    21617: Result.REJECTED_MESSAGE,  # too long
    21635: Result.ENDPOINT_GONE,  # a landline
    21659: Result.MISCONFIGURED,  # the sender is no number of Twilio's
    21660: Result.MISCONFIGURED,  # the sender belongs to another account
    21661: Result.MISCONFIGURED,  # the sender cannot send SMS
    21703: Result.MISCONFIGURED,  # the messaging service has no sender
    30006: Result.ENDPOINT_GONE,  # a landline, or a carrier that is not reached
}
_BY_STATUS: Mapping[int, "Outcome.ValueType"] = {
    200: Result.ACCEPTED,
    201: Result.ACCEPTED,
    400: Result.REJECTED_MESSAGE,
    401: Result.MISCONFIGURED,
    403: Result.MISCONFIGURED,
    404: Result.MISCONFIGURED,
    405: Result.MISCONFIGURED,
    429: Result.RETRY,
}
# What became of a message: `MessageStatus` of a callback. Others are steps on the way.
_EVENTS: Mapping[str, "Event.Kind.ValueType"] = {
    "delivered": Event.DELIVERED,
    "read": Event.OPENED,
    "undelivered": Event.FAILED,
    "failed": Event.FAILED,
    "canceled": Event.FAILED,
}
# More special than `_EVENTS`, for what did not arrive. 30003 to 30005 (handset off, blocked,
# unknown) may pass: a number is not taken from its user for them.
_EVENTS_BY_CODE: Mapping[str, "Event.Kind.ValueType"] = {
    "21211": Event.ENDPOINT_GONE,
    "21610": Event.OPTED_OUT,
    "21614": Event.ENDPOINT_GONE,
    "21635": Event.ENDPOINT_GONE,
    "30006": Event.ENDPOINT_GONE,
}


def verdict(status: int, headers: Mapping[str, str], body: bytes, now: datetime) -> Result:
    """What the answer to a request means. Names of `headers` in lower case."""
    told = json_object(body)
    code = told.get("code")
    code = code if type(code) is int else 0
    outcome = _BY_CODE.get(code, _of_status(status, from_twilio=bool(code)))
    result = results.build(outcome, f"{status} {code or ''}".rstrip())
    if outcome == Result.ACCEPTED:
        result.provider_id = _sid(told.get("sid"))
    elif outcome == Result.RETRY:
        after_s = retry_after_s(headers.get("retry-after"), now)
        result.retry_after.FromMilliseconds(
            int(1_000 * (BACK_OFF_S if after_s is None else after_s))
        )
    return result


def event_kind(status: str, code: str) -> "Event.Kind.ValueType | None":
    """What a callback with `MessageStatus` and `ErrorCode` reports; None: nothing final."""
    kind = _EVENTS.get(status)
    return _EVENTS_BY_CODE.get(code, kind) if kind == Event.FAILED else kind


def _of_status(status: int, from_twilio: bool) -> "Outcome.ValueType":
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if 300 <= status < 500:
        return Result.MISCONFIGURED if status < 400 else Result.REJECTED_MESSAGE
    # Only Twilio's own word that it is too busy says that it did not take the message. A page of a
    # gateway does not, which may have given up waiting for a Twilio that did; nor does what broke
    # within Twilio. An SMS must not come twice.
    return Result.RETRY if from_twilio and status == 503 else Result.UNKNOWN


def _sid(name: object) -> str:
    return results.cut(name, results.PROVIDER_ID_BYTES_MAX) if isinstance(name, str) else ""
