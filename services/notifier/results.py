"""Builds results, one constructor per outcome.

A plugin returns one of these from `send`; the harness writes the delivery's id into it. What
each outcome makes the presence service do stands in `notifier.proto`. A `detail` is for
operators: a status code or a sentence, without content, addresses or tokens.
"""

from datetime import datetime, timedelta

from onward.notifier.v1 import notifier_pb2

Result = notifier_pb2.Result
Outcome = notifier_pb2.Result.Outcome

DETAIL_BYTES_MAX = 256  # the rest is cut off
PROVIDER_ID_BYTES_MAX = 256  # a longer one is cut: it is for reading, nothing looks it up


def accepted(provider_id: str = "", detail: str = "") -> Result:
    """The provider has taken it. `provider_id` is the provider's name for it."""
    result = build(Result.ACCEPTED, detail)
    result.provider_id = cut(provider_id, PROVIDER_ID_BYTES_MAX)
    return result


def delivered(provider_id: str = "", detail: str = "") -> Result:
    """The provider says that it has arrived."""
    result = accepted(provider_id, detail)
    result.outcome = Result.DELIVERED
    return result


def retry(detail: str = "", after_s: float | None = None) -> Result:
    """A passing failure, and nothing was sent. `after_s` is the provider's wish."""
    result = build(Result.RETRY, detail)
    if after_s is not None:
        result.retry_after.FromTimedelta(timedelta(seconds=after_s))
    return result


def not_begun(detail: str = "", after_s: float | None = None) -> Result:
    """Its turn did not come, so nothing was sent: the try does not count, and it comes again, not
    before `after_s`. With it, the plugin has time for others."""
    result = retry(detail, after_s)
    result.not_begun = True
    return result


def rejected_message(detail: str = "") -> Result:
    """The message is at fault: it is never tried again, and the endpoint stays."""
    return build(Result.REJECTED_MESSAGE, detail)


def endpoint_gone(detail: str = "", since: datetime | None = None) -> Result:
    """The endpoint does not exist. `since` (aware) spares one that was registered later."""
    result = build(Result.ENDPOINT_GONE, detail)
    if since is not None:
        result.gone_since.FromDatetime(since)
    return result


def opted_out(detail: str = "") -> Result:
    """The person does not want to be reached at this endpoint."""
    return build(Result.OPTED_OUT, detail)


def misconfigured(detail: str = "") -> Result:
    """The plugin is set up wrongly: everything waits for the operator, nothing is deleted."""
    return build(Result.MISCONFIGURED, detail)


def provider_unavailable(detail: str = "") -> Result:
    """The provider as a whole cannot be reached, and nothing was sent: the channel waits."""
    return build(Result.PROVIDER_UNAVAILABLE, detail)


def expired(detail: str = "") -> Result:
    """`expires_at` had passed, so it was not sent."""
    return build(Result.EXPIRED, detail)


def unknown(detail: str = "") -> Result:
    """It may or may not have been sent."""
    return build(Result.UNKNOWN, detail)


def build(outcome: "Outcome.ValueType", detail: str) -> Result:
    """A result by its outcome, for plugins that look outcomes up in a table."""
    return Result(outcome=outcome, detail=cut(detail, DETAIL_BYTES_MAX))


def cut(text: str, bytes_max: int) -> str:
    """`text` in at most `bytes_max` bytes of UTF-8, cut between characters."""
    return text.encode("utf-8", "replace")[:bytes_max].decode("utf-8", "ignore")
