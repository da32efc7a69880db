"""Requests without an answer, in the order they were made. Pure.

Knows frames only as something to send again; must not know positions or connections. Every
request but a transient publish is harmless to repeat: a publish carries its publication id, the
others say how things shall be. So after a reconnect all of them are sent again, in order, before
anything newer; and `lost` takes those out that must not be.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from onward_sdk.protocol import Frame


@dataclass(slots=True)
class Request:
    """A request that waits for its answer."""

    request_id: str
    frame: Frame
    made_at: float
    sent: bool = False  # on some connection, at some time
    covered: bool = False  # the connect frame under way says the same

    @property
    def is_publish(self) -> bool:
        """A publish ages: the server forgets its id."""
        return "publish" in self.frame

    @property
    def is_transient(self) -> bool:
        """A publish that a repeat would make twice, and that is of no use later."""
        return bool(self.frame.get("publish", {}).get("transient"))

    @property
    def kind(self) -> str:
        """What the request asks for, as the frame names it."""
        return next(iter(self.frame))


class PendingRequests:
    """A bounded list of requests. `count_max`: a request beyond it is not taken."""

    def __init__(self, count_max: int) -> None:
        self._count_max = count_max
        self._requests: dict[str, Request] = {}

    def __len__(self) -> int:
        return len(self._requests)

    @property
    def full(self) -> bool:
        """True if nothing more is taken."""
        return len(self._requests) >= self._count_max

    def add(self, request: Request) -> None:
        """Takes a request; not when full."""
        assert not self.full
        self._requests[request.request_id] = request

    def answered(self, request_id: str) -> Request | None:
        """Removes and returns the request that an answer is for; None: it is not waited for."""
        return self._requests.pop(request_id, None)

    def has(self, kind: str) -> bool:
        """Whether a request of that kind waits."""
        return any(request.kind == kind for request in self._requests.values())

    def cover(self, has_list: bool, external_tokens: Collection[str], token: str) -> None:
        """A connect frame goes out. Requests that it says again need not be sent.

        `has_list`: it has the whole list of subscriptions. `external_tokens`: those it registers.
        `token`: the one it carries.
        """
        for request in self._requests.values():
            frame = request.frame
            external = frame.get("setExternalToken", {})
            request.covered = (
                (external.get("uri") in external_tokens and "replaces" not in external)
                or (has_list and request.kind in ("subscribe", "unsubscribe"))
                or (request.kind == "refresh" and frame["refresh"]["token"] == token)
            )

    def covered(self) -> list[Request]:
        """Removes and returns the requests that `connected` has answered."""
        return self._take(request for request in self._requests.values() if request.covered)

    def lost(self) -> list[Request]:
        """Removes and returns the requests that end with the connection."""
        return self._take(r for r in self._requests.values() if r.is_transient)

    def aged(self, made_before: float) -> list[Request]:
        """Removes and returns publishes made at or before a time."""
        return self._take(
            request
            for request in self._requests.values()
            if request.is_publish and request.made_at <= made_before
        )

    def oldest_publish_at(self) -> float | None:
        """When the oldest publish was made; None: there is none."""
        for request in self._requests.values():
            if request.is_publish:
                return request.made_at
        return None

    def in_order(self) -> list[Request]:
        """All of them, oldest first."""
        return list(self._requests.values())

    def take_all(self) -> list[Request]:
        """Removes and returns all of them."""
        return self._take(self._requests.values())

    def _take(self, requests: Iterable[Request]) -> list[Request]:
        taken = list(requests)
        for request in taken:
            del self._requests[request.request_id]
        return taken
