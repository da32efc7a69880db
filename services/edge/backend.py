"""What the HTTP API asks of the rest of the edge: publish, read, explain, status.

Knows the contract's messages; must not know HTTP or JSON, nor how owners are found. The HTTP API
has checked who asks and what they may do before it calls; a `Refusal` coming back is data, to be
shown to the caller as it is.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from google.protobuf.message import Message
from onward.client.v1 import client_pb2
from onward.presence.v1 import presence_pb2
from onward.types.v1 import entry_pb2, refusal_pb2

from services.edge.cluster_status import Picture


@dataclass(frozen=True, slots=True)
class Accepted:
    """A publish that is durable."""

    seq: int
    epoch: int
    duplicate: bool  # accepted before, under the same publication id


@dataclass(frozen=True, slots=True)
class History:
    """Part of a subject's log."""

    messages: Sequence[entry_pb2.Message]  # contiguous, oldest first
    head: int  # the subject's last seq; 0: no message yet
    floor: int  # messages at or below it are no longer kept
    log_id: str


@dataclass(frozen=True, slots=True)
class Draining:
    """A member that has begun to end in peace."""

    service: str  # coordinator, presence, edge
    name: str
    address: str  # of its gRPC server
    at_most_ms: int  # how long it may take


class Backend(Protocol):
    """Implemented over the edge's uplinks."""

    async def publish(
        self, publisher: str, publish: client_pb2.Publish
    ) -> Accepted | refusal_pb2.Refusal:
        """Publishes in the name of `publisher`, and returns once it is durable or refused.

        The fields' limits are checked here, as for a publish frame, and how fast `publisher` goes
        (RATE_LIMITED, with the milliseconds to wait). A missing `publication_id` is drawn. A
        `transient` one is answered as accepted with seq 0. UNAVAILABLE: outcome unknown.
        """

    async def read_messages(
        self, subject: str, after_seq: int, limit: int
    ) -> History | refusal_pb2.Refusal:
        """Reads messages with seq > `after_seq`, at most `limit` (1 to 1,000), from the store."""

    async def explain(
        self, request: presence_pb2.ExplainRequest
    ) -> presence_pb2.ExplainResponse | refusal_pb2.Refusal:
        """Asks presence for the story of a message and a user."""

    def watch_story(
        self, request: presence_pb2.ExplainRequest
    ) -> AsyncIterator[presence_pb2.ExplainResponse | refusal_pb2.Refusal]:
        """The story now and after each change, until closed; a refusal is the last of them."""

    async def ask_registry(self, method: str, request: Any) -> Any:
        """Calls a method of presence's `RegistryService`; its answer, or a refusal."""

    async def ask_deliveries(self, method: str, request: Any) -> Any:
        """Calls a method of presence's `DeliveryService`; its answer, a refusal, or None: there is
        no such thing as is asked for."""

    async def presence(
        self, request: presence_pb2.GetPresenceRequest
    ) -> presence_pb2.GetPresenceResponse | refusal_pb2.Refusal:
        """Asks presence who is there."""

    def watch_presence(
        self, request: presence_pb2.GetPresenceRequest
    ) -> AsyncIterator[presence_pb2.GetPresenceResponse | refusal_pb2.Refusal]:
        """Who is there now and after each change, likewise."""

    async def users(self, method: str, user: str, request: Message) -> Any:
        """The answer of a method of presence's `UserService`, or a refusal; `user` is whom it is
        about most. Every one may be repeated."""

    async def picture(self) -> Picture:
        """What every member of the cluster says of itself now; nobody's silence makes it fail."""

    async def drain(self, member: str) -> Draining | refusal_pb2.Refusal:
        """Has a member, named as in `naming`, end in peace; a second time changes nothing."""
