"""Whether a publish may be taken: its fields, its size, and how fast it comes. Pure.

The same checks serve publish frames and the HTTP API.
"""

from collections.abc import Mapping

from onward.client.v1 import client_pb2
from onward.types.v1 import entry_pb2

from services.chassis.refusals import Code, Refusal, refuse
from services.chassis.subjects import name_fault, subject_fault
from services.edge.limits import Limits


def publish_refusal(publish: client_pb2.Publish, limits: Limits) -> Refusal | None:
    """Why the publish cannot be taken, whoever sends it; None if it can."""
    if fault := subject_fault(publish.subject):
        return refuse(Code.SUBJECT_INVALID, fault)
    if publish.retain and publish.transient:
        return refuse(Code.ARGUMENT_INVALID, "A message is retained or transient, not both.")
    size = len(publish.data) if publish.HasField("data") else len(publish.text.encode())
    if size > limits.content_bytes_max:
        return refuse(
            Code.CONTENT_TOO_LARGE, f"A message has at most {limits.content_bytes_max} bytes."
        )
    if "" in publish.headers:
        return refuse(Code.HEADERS_TOO_LARGE, "A header has a name.")
    headers = _bytes(publish.headers) + len(publish.content_type.encode())
    if headers > limits.headers_bytes_max:
        return refuse(
            Code.HEADERS_TOO_LARGE,
            f"Headers and content type have at most {limits.headers_bytes_max} bytes.",
        )
    if publish.publication_id and (fault := name_fault(publish.publication_id)):
        return refuse(Code.PUBLICATION_ID_INVALID, f"The publicationId cannot be taken. {fault}")
    return None


def info_refusal(info: Mapping[str, str], limits: Limits) -> Refusal | None:
    """Why facts about a client program cannot be taken; None if they can."""
    if _bytes(info) <= limits.headers_bytes_max:
        return None
    return refuse(Code.ARGUMENT_INVALID, f"`info` has at most {limits.headers_bytes_max} bytes.")


def content_of(publish: client_pb2.Publish) -> entry_pb2.Content:
    """What is stored of a publish; one without content is an empty text."""
    content = entry_pb2.Content(content_type=publish.content_type, headers=publish.headers)
    if publish.HasField("data"):
        content.data = publish.data
    else:
        content.text = publish.text
    return content


class Rate:
    """A token bucket: `per_s` on average, `burst` at once."""

    __slots__ = ("_at", "_burst", "_left", "_per_s")

    def __init__(self, per_s: float, burst: int) -> None:
        self._per_s = per_s
        self._burst = burst
        self._left = float(burst)
        self._at = 0.0

    def take(self, now: float) -> int:
        """Takes one; 0 if it may go, else the milliseconds to wait."""
        self._left = min(self._burst, self._left + max(now - self._at, 0) * self._per_s)
        self._at = now
        if self._left >= 1:
            self._left -= 1
            return 0
        return max(1, round((1 - self._left) / self._per_s * 1000))


def _bytes(facts: Mapping[str, str]) -> int:
    return sum(len(name.encode()) + len(value.encode()) for name, value in facts.items())
