"""What an answer of a push service means. Pure.

The first row of `VERDICTS` that fits decides. Where an answer blames our set-up, it matters who
says so. A push service that the operator lists is believed, and the channel waits for the operator,
but only until that very service has accepted anything: then the key and the subject were right for
it, and a subscription that was made with another key fails alone. It may be the set-up all the
same, where the service has become stricter or our clock is wrong since; so what is refused for its
signature is sent again, seldom, until it is a dead letter for somebody to see. An endpoint that a
user made up is never believed, or anybody could stop everybody's notifications; but what stands
before a service of somebody's own, while that is put up anew, may say no for a while, so it is
asked again. No endpoint is deleted for any of it. Sources: RFC 8030 and RFC 8292.
"""

from dataclasses import dataclass
from datetime import datetime

from onward.notifier.v1 import notifier_pb2

from services.notifier import results
from services.notifier.retry_after import retry_after_s

Result = notifier_pb2.Result

BACK_OFF_S = 10.0  # where a push service names no time; the least that Google's guide asks for
# … and it no longer takes our signature: somebody has to mend that, or it is never taken again.
BLAMED_BACK_OFF_S = 600.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """One row. What is None is as `outcome`."""

    statuses: range
    outcome: "Result.Outcome.ValueType"  # of a push service that is listed
    proven: "Result.Outcome.ValueType | None" = None  # once that one accepted something
    unlisted: "Result.Outcome.ValueType | None" = None  # of another


def _one(status: int) -> range:
    return range(status, status + 1)


VERDICTS = (
    Verdict(range(200, 300), Result.ACCEPTED),
    Verdict(_one(404), Result.ENDPOINT_GONE),
    Verdict(_one(410), Result.ENDPOINT_GONE),
    # 400 is what they answer to headers that they do not like, and Apple to another's key; 401 and
    # 403 to our signature.
    Verdict(_one(400), Result.MISCONFIGURED, Result.REJECTED_MESSAGE, Result.REJECTED_MESSAGE),
    Verdict(_one(401), Result.MISCONFIGURED, Result.RETRY, Result.RETRY),
    Verdict(_one(403), Result.MISCONFIGURED, Result.RETRY, Result.RETRY),
    Verdict(_one(408), Result.RETRY),
    Verdict(_one(429), Result.RETRY),
    Verdict(range(500, 600), Result.RETRY),
    Verdict(_one(413), Result.REJECTED_MESSAGE),  # too large
    Verdict(_one(422), Result.REJECTED_MESSAGE),  # this body is not understood, nor will it be
    # Whatever else; a redirect is not followed.
    Verdict(range(300, 500), Result.REJECTED_MESSAGE, unlisted=Result.RETRY),
)


def verdict(
    status: int, retry_after: str | None, now: datetime, *, listed: bool, proven: bool
) -> Result:
    """The result of one push. Nothing of the answer's words is repeated: anybody may write them.
    `proven`: the service is listed, and accepted something before."""
    detail = f"{status}, not followed" if 300 <= status < 400 else str(status)
    for row in VERDICTS:
        if status in row.statuses:
            special = row.unlisted if not listed else row.proven if proven else None
            if special is not None and not listed:
                detail += " of a push service that is not listed"
            outcome = row.outcome if special is None else special
            if outcome == Result.RETRY:
                asked_s = retry_after_s(retry_after, now)
                blamed = listed and row.outcome == Result.MISCONFIGURED
                usual_s = BLAMED_BACK_OFF_S if blamed else BACK_OFF_S
                return results.retry(detail, usual_s if asked_s is None else asked_s)
            return results.build(outcome, detail)
    return results.unknown(detail)
