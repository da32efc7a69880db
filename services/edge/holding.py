"""One partition as far as this edge watches it: its subjects, and what their subscribers owe. Pure.

Looks only where something can be owed: at subjects that moved or were joined since they last
owed nothing.
"""

from dataclasses import dataclass, field
from typing import Final

from services.edge.channel import Channel

NOTHING_OWED: Final = 1 << 63  # above every pos


@dataclass(slots=True)
class Holding:
    """The subjects of one partition."""

    channels: dict[str, Channel] = field(default_factory=dict)
    high: int = 0  # the highest pos that came
    _unsettled: set[Channel] = field(default_factory=set)  # those that are not established
    _owing: set[Channel] = field(default_factory=set)  # no other has anything unacknowledged

    def add(self, channel: Channel) -> None:
        """A subject is watched from now on."""
        self.channels[channel.subject] = channel
        self._unsettled.add(channel)

    def remove(self, channel: Channel) -> None:
        """It is watched no longer."""
        del self.channels[channel.subject]
        self._unsettled.discard(channel)
        self._owing.discard(channel)

    def may_owe(self, channel: Channel) -> None:
        """A message of it came, or somebody subscribed to it."""
        self._owing.add(channel)

    def settle(self, channel: Channel, established: bool) -> None:
        """Nothing of it is missing any more; or something is."""
        channel.established = established
        if established:
            self._unsettled.discard(channel)
        else:
            self._unsettled.add(channel)

    def interrupt(self) -> None:
        """Messages of all its subjects may be missed."""
        for channel in self.channels.values():
            channel.answered = channel.established = False
        self._unsettled.update(self.channels.values())

    def owed_from(self) -> int | None:
        """The pos up to which every subscription has acknowledged; None: not known now.

        `NOTHING_OWED` if all that came is acknowledged.
        """
        if self._unsettled:
            return None
        least = NOTHING_OWED
        quiet = []
        for channel in self._owing:
            owes = False
            for subscription in channel.subscriptions:
                if subscription.owes:
                    owes = True
                    if subscription.round is not None:
                        pos = subscription.floor_pos()
                        if pos is None:
                            return None
                        least = min(least, pos)
            if not owes:
                quiet.append(channel)
        self._owing.difference_update(quiet)
        return least
