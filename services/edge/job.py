"""What a session is making durable at the moment: one frame, its subscriptions, its event. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from onward.client.v1 import client_pb2
from onward.types.v1 import entry_pb2

from services.edge.recovery import Forming


@dataclass(slots=True)
class Job:
    """One frame on its way to being durable."""

    frame_id: str
    connect: client_pb2.Connect | None = None  # set if the frame is one
    leaving: tuple[str, ...] = ()  # subjects of an unsubscribe
    forming: dict[str, Forming] | None = None  # None: not known yet, or no subscriptions
    gone: Sequence[str] | None = None  # of a connect: endpoints to tell of; None: not known yet
    replaces_follows: bool = False
    restores: bool = False  # of a connect: it gave no list
    activity: bool = False  # it tells of the client's activity
    backlog_bytes: int = 0  # what its subscriptions are to be sent first
    held_bytes: int = 0  # that, and what was read of those that are not settled
    number: int = 0  # of its event; 0: not formed yet
    _unsettled: list[Forming] | None = None  # the last of them is; None: not looked yet

    @property
    def formed(self) -> Iterable[Forming]:
        return (self.forming or {}).values()

    @property
    def subjects(self) -> Iterable[str]:
        """What it subscribes to."""
        return self.forming or ()

    @property
    def settled(self) -> bool:
        """Whether its event can be formed: once."""
        return (
            not self.number
            and self.forming is not None
            and (self.connect is None or self.gone is not None)
            and self._all_settled()
        )

    def _all_settled(self) -> bool:
        """Looks at each subscription about once, though it is asked after each of them."""
        if self._unsettled is None:
            self._unsettled = list(self.formed)
        while self._unsettled and self._unsettled[-1].settled:
            self._unsettled.pop()
        return not self._unsettled

    def fill(self, event: entry_pb2.PresenceEvent) -> None:
        """Says in `event` what happened."""
        follows = [
            entry_pb2.FollowStart(subject=one.subject, start=one.start) for one in self.formed
        ]
        connect = self.connect
        if connect is None:
            event.followed.follows.extend(follows)
            return
        event.connected.CopyFrom(
            entry_pb2.PresenceEvent.Connected(
                last_generation=connect.last_generation,
                replaces_follows=self.replaces_follows,
                follows=follows,
                endpoints=[token.uri for token in connect.external_tokens],
                acknowledges=True,
                info=connect.info,
                endpoints_gone_told=self.gone,
                restores=self.restores,
            )
        )
