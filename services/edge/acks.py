"""What a client has received, as it says: by `ack` frames or by pongs. Pure.

Knows the two proofs and their times; must not know frames' other kinds or sockets. An
acknowledgement counts for what was sent before it, and never falls.

The pong of round r acknowledges what was noted when r began, for subscriptions whose event was
formed before r. That holds because a ping is queued behind what it vouches for: a session that
lags, recovers or has an unfinished fan-out gets none.
"""

from collections.abc import Iterable, Mapping

from onward.client.v1 import client_pb2

from services.edge.channel import Subscription


def acknowledge(
    subscriptions: Mapping[str, Subscription], positions: Iterable[client_pb2.Position]
) -> None:
    """Takes an `ack` frame; subjects not subscribed to are passed over."""
    for position in positions:
        subscription = subscriptions.get(position.subject)
        if subscription is None or not subscription.begun:
            continue
        subscription.acked = max(subscription.acked, min(position.seq, subscription.sent))


def acknowledge_by_pong(subscriptions: Iterable[Subscription], round_number: int) -> None:
    """Takes the pong of a round, of a session that acknowledges by pongs."""
    for subscription in subscriptions:
        if subscription.round is None or subscription.round >= round_number:
            continue
        vouched = max(subscription.replayed_to, subscription.channel.noted(round_number))
        subscription.acked = max(subscription.acked, vouched)


class Pings:
    """The pings of one session that wait for their pongs."""

    __slots__ = ("_sent",)

    def __init__(self) -> None:
        # A list: an empty deque takes ten times the memory, in every session.
        self._sent: list[tuple[int, float]] = []

    def sent(self, round_number: int, now: float) -> None:
        """A ping of this round was queued."""
        self._sent.append((round_number, now))

    def restart(self, now: float) -> None:
        """The socket was full: they are on their way only now."""
        self._sent = [(round_number, now) for round_number, _ in self._sent]

    def answered(self, payload: bytes) -> int | None:
        """The round whose pong this is; None if it was not asked for."""
        if not payload.isdigit() or len(payload) > 19:
            return None
        number = int(payload)
        if not any(number == sent for sent, _ in self._sent):
            return None
        self._sent = [one for one in self._sent if one[0] > number]
        return number

    def late(self, now: float, pong_s: float) -> bool:
        """Whether a pong is missing for longer than it may."""
        return bool(self._sent) and now - self._sent[0][1] > pong_s


def may_vouch(subscriptions: Iterable[Subscription]) -> bool:
    """Whether a ping queued now stands behind everything its pong would acknowledge."""
    return all(one.live and not one.channel.jobs for one in subscriptions)


def oldest_unacknowledged(subscriptions: Iterable[Subscription], now: float) -> float | None:
    """Since when the session owes an acknowledgement; None: it owes none."""
    times = [since for one in subscriptions if (since := one.unacknowledged_since(now)) is not None]
    return min(times, default=None)
