"""What an answer of FCM means. Pure.

The first row of `VERDICTS` that fits decides. Rows are read from the HTTP status and, where there
is one, the `errorCode` that FCM puts into the details of an error; proxies on the way answer with
HTML, which has none. Sources: Google's page "Error codes" of FCM's HTTP v1, and `google.rpc`.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from onward.notifier.v1 import notifier_pb2

from services.notifier import results
from services.notifier.retry_after import retry_after_s

Result = notifier_pb2.Result

# Google's wish where it names no time, by the same page; and the least that its guide to sending at
# scale asks for.
QUOTA_WAIT_S = 60.0
BACK_OFF_S = 10.0
_TOKEN_FIELD = "message.token"
_NAME_CHARACTERS_MAX = 40


@dataclass(frozen=True, slots=True)
class Verdict:
    """One row. A part that is None fits everything."""

    statuses: range
    code: str | None  # FCM's errorCode
    token_named: bool | None  # a violation names the token
    outcome: "Result.Outcome.ValueType"
    wait_s: float = BACK_OFF_S  # of a RETRY without Retry-After
    # The outcome once FCM has accepted something; None: the same.
    proven: "Result.Outcome.ValueType | None" = None


def _one(status: int) -> range:
    return range(status, status + 1)


VERDICTS = (
    Verdict(_one(404), "UNREGISTERED", None, Result.ENDPOINT_GONE),
    # Without that detail the project or the URL is wrong, and every token would seem gone.
    Verdict(_one(404), None, None, Result.MISCONFIGURED),
    Verdict(_one(400), None, True, Result.ENDPOINT_GONE),
    Verdict(_one(400), None, None, Result.REJECTED_MESSAGE),
    Verdict(_one(401), None, None, Result.MISCONFIGURED),
    # The token is another project's. Either the credentials are, or, where they have been good for
    # others, somebody registered it; that must not hold up those others.
    Verdict(
        _one(403),
        "SENDER_ID_MISMATCH",
        None,
        Result.MISCONFIGURED,
        proven=Result.REJECTED_MESSAGE,
    ),
    Verdict(_one(403), None, None, Result.MISCONFIGURED),
    Verdict(_one(407), None, None, Result.MISCONFIGURED),  # the proxy wants to know who asks
    Verdict(_one(408), None, None, Result.RETRY),
    Verdict(_one(429), None, None, Result.RETRY, QUOTA_WAIT_S),
    Verdict(range(500, 600), None, None, Result.RETRY),
    Verdict(range(300, 400), None, None, Result.MISCONFIGURED),  # nothing is behind this URL
    Verdict(_one(405), None, None, Result.MISCONFIGURED),
    Verdict(range(400, 500), None, None, Result.REJECTED_MESSAGE),
)


def verdict(
    status: int, retry_after: str | None, body: bytes, now: datetime, *, proven: bool
) -> Result:
    """The result of one send. `retry_after` is the header's value, if there is one. `proven`: FCM
    accepted something before, so that the project and its credentials are right."""
    said = _object(body)
    if 200 <= status < 300:
        name = said.get("name")
        if isinstance(name, str) and name:
            return results.accepted(provider_id=name, detail=str(status))
        return results.unknown(f"{status} without a name: something else than FCM answered")
    error = _dict(said.get("error"))
    code, token_named = _code(error), _names_token(error)
    detail = " ".join(filter(None, (str(status), _word(error.get("status")), code)))
    for row in VERDICTS:
        if (
            status in row.statuses
            and row.code in (None, code)
            and row.token_named in (None, token_named)
        ):
            if row.outcome == Result.RETRY:
                asked_s = retry_after_s(retry_after, now)
                return results.retry(detail, row.wait_s if asked_s is None else asked_s)
            outcome = row.proven if proven and row.proven is not None else row.outcome
            return results.build(outcome, detail)
    return results.unknown(detail)


def is_about_our_token(status: int, body: bytes) -> bool:
    """Whether a new access token could help: 401, but not for want of Apple's credentials."""
    return status == 401 and _code(_dict(_object(body).get("error"))) != "THIRD_PARTY_AUTH_ERROR"


def _code(error: dict[str, Any]) -> str:
    """FCM's errorCode; empty if there is none."""
    return next((word for d in _details(error) if (word := _word(d.get("errorCode")))), "")


def _names_token(error: dict[str, Any]) -> bool:
    """Whether a violation is about the registration token."""
    for detail in _details(error):
        violations = detail.get("fieldViolations")
        for violation in violations if isinstance(violations, list) else []:
            if _dict(violation).get("field") == _TOKEN_FIELD:
                return True
    return False


def _details(error: dict[str, Any]) -> list[dict[str, Any]]:
    details = error.get("details")
    return [_dict(d) for d in details] if isinstance(details, list) else []


def _object(body: bytes) -> dict[str, Any]:
    try:
        return _dict(json.loads(body))
    except (ValueError, RecursionError):
        return {}


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _word(value: object) -> str:
    """A name of Google's as it may stand in a log: nothing else is repeated from an answer."""
    if not isinstance(value, str) or len(value) > _NAME_CHARACTERS_MAX:
        return ""
    return value if value.isascii() and value.replace("_", "").isalnum() else ""
