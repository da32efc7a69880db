"""What plugins say of themselves, within our bounds, and who gets a channel. Pure.

Knows the answer to Describe. Must not know connections, breakers or deliveries. To drive it:
`description_of(answer, …)` at every connection, `route(scheme, …)` for each channel.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from onward.notifier.v1 import notifier_pb2

from services.chassis.channel_names import MEANT, channel_fault

ANY = "*"
NAME = re.compile("[a-z0-9-]{1,40}")
_BATCH_DEFAULT, _BATCH_MAX = 100, 1_000
_CONCURRENCY_DEFAULT, _CONCURRENCY_MAX = 4, 64
# Of one plugin; what it names beyond them is passed over.
CHANNELS_MAX = 32


@dataclass(frozen=True, slots=True)
class Description:
    """What a plugin said of itself, within our bounds."""

    name: str
    # Channel to whether it repeats deliveries of unknown outcome; those that it is used for.
    channels: Mapping[str, bool]
    batch_max: int
    concurrency_max: int
    # Whether it takes HTTP requests of its provider.
    callbacks: bool = False
    # All channels that it named.
    served: Sequence[str] = ()
    # Names that it gave and that mean other channels, which no token or route can have.
    misnamed: Sequence[str] = ()

    def repeats_unknown(self, scheme: str) -> bool:
        """Whether a delivery of unknown outcome on this channel may be sent again."""
        return self.channels.get(scheme, self.channels.get(ANY, False))


def description_of(
    response: notifier_pb2.DescribeResponse, address: str, only: Collection[str] = ()
) -> Description:
    """Reads a plugin's answer; what is missing or out of its range becomes the default or bound.

    `only`: the channels that it is to be used for, if it serves them, by name or as any; empty: all
    that it serves.
    """
    named = [(channel.scheme.lower(), channel.repeats_unknown) for channel in response.channels]
    taken = [one for one in named if one[0] == ANY or channel_fault(one[0]) is None]
    served = dict(reversed(taken[:CHANNELS_MAX]))
    return Description(
        name=response.name if NAME.fullmatch(response.name) else address,
        channels={
            scheme: served.get(scheme, served.get(ANY, False))
            for scheme in only or served
            if scheme in served or (ANY in served and scheme not in MEANT)
        },
        batch_max=min(response.batch_max or _BATCH_DEFAULT, _BATCH_MAX),
        concurrency_max=min(response.concurrency_max or _CONCURRENCY_DEFAULT, _CONCURRENCY_MAX),
        callbacks=response.callbacks,
        served=tuple(sorted(served)),
        misnamed=tuple(sorted(MEANT.keys() & {scheme for scheme, _ in named})),
    )


def route(
    scheme: str, descriptions: Sequence[Description | None], ready: Sequence[bool]
) -> tuple[int, str] | None:
    """Which plugin, by its place in the list, serves a scheme, and as which of its channels.

    A plugin that names the scheme wins over one for any; of equals, the first that is ready to be
    called, and the first if none is. None: none does.
    """
    for wanted in (scheme, ANY):
        place = _owner(wanted, descriptions, ready)
        if place is not None:
            return place, wanted
    return None


def shadowed(
    descriptions: Sequence[Description | None], ready: Sequence[bool]
) -> list[dict[str, int]]:
    """Of each plugin, the channels that `route` gives to another, which is told by its place.

    One for any channel is not shadowed by those that name some: it is there for the rest.
    """
    found: list[dict[str, int]] = []
    for place, description in enumerate(descriptions):
        channels = description.channels if description is not None else ()
        owners = {one: _owner(one, descriptions, ready) for one in channels}
        found.append({one: by for one, by in owners.items() if by not in (None, place)})
    return found


def _owner(
    channel: str, descriptions: Sequence[Description | None], ready: Sequence[bool]
) -> int | None:
    """Of those that name a channel, the first that is ready, and the first if none is."""
    places = [
        place
        for place, description in enumerate(descriptions)
        if description is not None and channel in description.channels
    ]
    return next((place for place in places if ready[place]), places[0] if places else None)


def lane_calls_max(calls_max: int, lanes: int) -> int:
    """How many calls one lane of a plugin may have: all but one for each of the others, yet two,
    as long as that leaves one: a single call that takes its time must not hold up its channel."""
    return max(1, calls_max - (lanes - 1), min(2, calls_max - 1))
