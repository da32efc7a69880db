"""What an answer of Apple's means for a delivery. Pure: a table.

Source: Apple's page "Handling notification responses from APNs". An answer is looked up by its
reason first, then by its status. Bodies that are not Apple's JSON come from what stands between,
and say nothing of a device token.
"""

from collections.abc import Mapping
from datetime import datetime

from services.notifier import results
from services.notifier.http_answers import json_object
from services.notifier.results import Outcome, Result
from services.notifier.retry_after import retry_after_s

_HIGHEST_MS = 253_402_300_799_000  # the end of the year 9999

_BY_REASON: Mapping[str, "Outcome.ValueType"] = {
    "Unregistered": Result.ENDPOINT_GONE,
    "ExpiredToken": Result.ENDPOINT_GONE,
    "BadDeviceToken": Result.MISCONFIGURED,  # often a token of the other environment
    "DeviceTokenNotForTopic": Result.MISCONFIGURED,
    "BadTopic": Result.MISCONFIGURED,
    "MissingTopic": Result.MISCONFIGURED,
    "TopicDisallowed": Result.MISCONFIGURED,
    "IdleTimeout": Result.RETRY,
}
# The device token may be at fault instead of the set-up: anybody may have registered anything.
_OR_THE_TOKEN = frozenset({"BadDeviceToken", "DeviceTokenNotForTopic"})
_BY_STATUS: Mapping[int, "Outcome.ValueType"] = {
    200: Result.ACCEPTED,
    400: Result.REJECTED_MESSAGE,
    403: Result.MISCONFIGURED,
    404: Result.MISCONFIGURED,
    405: Result.MISCONFIGURED,
    410: Result.RETRY,  # without a reason of Apple's it is somebody else's answer
    413: Result.REJECTED_MESSAGE,
    429: Result.RETRY,
    500: Result.RETRY,
    502: Result.RETRY,
    503: Result.RETRY,
    504: Result.RETRY,
}


def verdict(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    now: datetime,
    *,
    proven: bool,
    back_off_s: float,
) -> Result:
    """What an answer means. `proven`: something was accepted before, so that the environment and
    the topic are right; then a token that does not fit is one that nobody will ever reach, and
    must not hold up all others. It is not deleted either way."""
    reason = reason_of(body)
    outcome = _BY_REASON.get(reason, _BY_STATUS.get(status, Result.UNKNOWN))
    if reason in _OR_THE_TOKEN and proven:
        outcome = Result.REJECTED_MESSAGE
    result = results.build(outcome, f"{status} {reason}".rstrip())
    if outcome == Result.ACCEPTED:
        result.provider_id = results.cut(headers.get("apns-id", ""), results.PROVIDER_ID_BYTES_MAX)
    elif outcome == Result.ENDPOINT_GONE:
        since_ms = json_object(body).get("timestamp")
        if type(since_ms) is int and 0 < since_ms < _HIGHEST_MS:
            result.gone_since.FromMilliseconds(since_ms)
    elif outcome == Result.RETRY:
        after_s = retry_after_s(headers.get("retry-after"), now)
        result.retry_after.FromMilliseconds(
            int(1_000 * (back_off_s if after_s is None else after_s))
        )
    return result


def reason_of(body: bytes) -> str:
    """Apple's word for why not; empty if the body has none."""
    reason = json_object(body).get("reason")
    return reason if isinstance(reason, str) and reason.isalnum() else ""
