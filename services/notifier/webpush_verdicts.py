"""What an answer of a push service means. Pure.

The first row of `VERDICTS` that fits decides. Where an answer blames our set-up, it matters who
says so: a push service that the operator lists is believed, and the channel waits for the operator;
an endpoint that a user made up is not, or anybody could stop everybody's notifications. There the
one delivery fails, and the endpoint stays. Source: RFC 8030 and RFC 8292.
"""

from dataclasses import dataclass
from datetime import datetime

from onward.notifier.v1 import notifier_pb2

from services.notifier import results
from services.notifier.retry_after import retry_after_s

Result = notifier_pb2.Result


@dataclass(frozen=True, slots=True)
class Verdict:
    """One row."""

    statuses: range
    outcome: "Result.Outcome.ValueType"  # of a push service that is listed
    unlisted: "Result.Outcome.ValueType | None" = None  # of another, if it differs


def _one(status: int) -> range:
    return range(status, status + 1)


VERDICTS = (
    Verdict(range(200, 300), Result.ACCEPTED),
    Verdict(_one(404), Result.ENDPOINT_GONE),
    Verdict(_one(410), Result.ENDPOINT_GONE),
    # 400 is what they answer to headers that they do not like, 401 and 403 to our signature.
    Verdict(_one(400), Result.MISCONFIGURED, Result.REJECTED_MESSAGE),
    Verdict(_one(401), Result.MISCONFIGURED, Result.REJECTED_MESSAGE),
    Verdict(_one(403), Result.MISCONFIGURED, Result.REJECTED_MESSAGE),
    Verdict(_one(408), Result.RETRY),
    Verdict(_one(429), Result.RETRY),
    Verdict(range(500, 600), Result.RETRY),
    # Too large (413), and whatever else; a redirect is not followed.
    Verdict(range(300, 500), Result.REJECTED_MESSAGE),
)


def verdict(status: int, retry_after: str | None, listed: bool, now: datetime) -> Result:
    """The result of one push. Nothing of the answer's words is repeated: anybody may write them."""
    detail = f"{status}, not followed" if 300 <= status < 400 else str(status)
    for row in VERDICTS:
        if status in row.statuses:
            if row.outcome == Result.RETRY:
                return results.retry(detail, retry_after_s(retry_after, now))
            if not listed and row.unlisted is not None:
                return results.build(row.unlisted, f"{detail} of a push service that is not listed")
            return results.build(row.outcome, detail)
    return results.unknown(detail)
