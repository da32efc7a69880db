"""What a request may be, whatever an edge let through. Pure.

Knows sizes and names; must not know what is in the log. An edge checks the same, more strictly and
by its own settings; here is the last place where something too large could get into a log that
others have to read.
"""

from onward.coordinator.v1 import coordinator_pb2
from onward.types.v1 import entry_pb2

from services.chassis.refusals import Code, Refusal, refuse
from services.chassis.subjects import (
    NAME_BYTES_MAX,
    SUBJECT_BYTES_MAX,
    name_fault,
    partition_of,
    subject_fault,
)

# The most that an edge can be set to.
CONTENT_BYTES_MAX = 262_144
HEADERS_BYTES_MAX = 65_536
# A session's end lists every subject it was subscribed to.
EVENT_BYTES_MAX = 8 * 1024 * 1024
ENDPOINT_BYTES_MAX = 4_096
NUMBER_MAX = 2**63 - 1  # the stores' integers are signed
# Below this no part of a content can be too large: most are not looked at further.
_CONTENT_SURELY_GOOD = 32_768


def subject_refusal(subject: str, partition: int, partitions: int) -> Refusal | None:
    """Whether it is a subject of the partition."""
    fault = subject_fault(subject)
    if fault is not None:
        return refuse(Code.SUBJECT_INVALID, fault)
    if partition_of(subject, partitions) != partition:
        return invalid("The subject belongs to another partition.")
    return None


def publish_refusal(publish: coordinator_pb2.Publish) -> Refusal | None:
    """Whether all but the subject is as it must be."""
    fault = name_fault(publish.publication_id)
    if fault is not None:
        return refuse(Code.PUBLICATION_ID_INVALID, fault)
    if len(publish.publisher.encode("utf-8", "replace")) > NAME_BYTES_MAX:
        return invalid("The publisher's name is too long.")
    if publish.transient and publish.retain:
        return invalid("A transient message cannot be retained.")
    if publish.content.ByteSize() > _CONTENT_SURELY_GOOD:
        return _content_refusal(publish.content)
    return None


def _content_refusal(content: entry_pb2.Content) -> Refusal | None:
    if max(len(content.text.encode()), len(content.data)) > CONTENT_BYTES_MAX:
        return refuse(Code.CONTENT_TOO_LARGE, f"Content has at most {CONTENT_BYTES_MAX} bytes.")
    headers = len(content.content_type.encode()) + sum(
        len(name.encode()) + len(value.encode()) for name, value in content.headers.items()
    )
    if headers > HEADERS_BYTES_MAX:
        return refuse(Code.HEADERS_TOO_LARGE, f"Headers have at most {HEADERS_BYTES_MAX} bytes.")
    return None


def event_refusal(
    event: entry_pb2.PresenceEvent, partition: int, partitions: int
) -> Refusal | None:
    """Whether it is a presence event of the partition."""
    kind = event.WhichOneof("event")
    if kind is None or not event.number:
        return invalid("A presence event has a kind and a number.")
    if not event.user or not event.client_id or not event.session_id:
        return invalid("A presence event has a user, a client and a session.")
    names = (event.user, event.client_id, event.session_id)
    if any(len(name.encode("utf-8", "replace")) > NAME_BYTES_MAX for name in names):
        return invalid(f"A name has at most {NAME_BYTES_MAX} bytes.")
    if any("\0" in name for name in names):
        return invalid("A name has no NUL.")
    if max(event.number, event.generation, event.edge_id) > NUMBER_MAX:
        return invalid("A number has at most 63 bits.")
    if event.ByteSize() > EVENT_BYTES_MAX:
        return invalid(f"A presence event has at most {EVENT_BYTES_MAX} bytes.")
    named = event.connected.follows or event.followed.follows
    if any(len(follow.subject) > SUBJECT_BYTES_MAX for follow in named):
        return refuse(Code.SUBJECT_INVALID, f"A subject has at most {SUBJECT_BYTES_MAX} bytes.")
    uris = [event.endpoint_added.uri, *event.connected.endpoints]
    if any(len(uri) > ENDPOINT_BYTES_MAX for uri in uris):
        most = f"An external token has at most {ENDPOINT_BYTES_MAX} bytes."
        return refuse(Code.EXTERNAL_TOKEN_INVALID, most)
    if partition_of(event.user, partitions) != partition:
        return invalid("The user belongs to another partition.")
    return None


def invalid(message: str) -> Refusal:
    """ARGUMENT_INVALID, with its reason."""
    return refuse(Code.ARGUMENT_INVALID, message)
