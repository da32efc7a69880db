"""Plays cells through a whole suite: a user of their own for each, who leaves and comes back.

    played = play(up, doubles.lines, CELLS)     # all channels side by side
    played[str(cell)].ended                     # what `explain` told when it had ended, …

For each cell a client registers the endpoint and leaves; a message is published, which ends or,
where the set-up is wrong, waits until the double is mended; the client comes back twice, and is
told what is gone; another message is published. What is seen is kept, and not judged here.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from tests.log_scan import CANARY
from tests.path.cells import Cell, Phase
from tests.path.doubles import Line
from tests.path.socket_client import Socket, connecting
from tests.path.stack import Suite

_LOOK_EVERY_S = 0.15
_OPEN = ("PENDING", "NOT_YET", "HELD", "ANSWERED_FOR", "DEFERRED")

Story = Mapping[str, Any]


@dataclass
class Patience:
    """How long a step may last. After one that lasted too long, the others get hardly any."""

    step_s: float = 60.0

    def lose(self) -> None:
        self.step_s = 2.0


@dataclass
class Played:
    """A cell's user, and what was seen. A story is an outcome as `/v1/explain` has it."""

    cell: Cell
    line: Line
    number: int
    patience: Patience = field(default_factory=Patience)  # shared within a channel
    waiting: Story = field(default_factory=dict)  # before it was mended
    listed_waiting: Sequence[str] = ()  # endpoints then
    ended: Story = field(default_factory=dict)
    requests: int = 0  # until then
    listed: Sequence[str] = ()
    told_first: Sequence[str] = ()  # of endpoints that are gone, at the next connect
    told_later: Sequence[str] = ()
    next: Story = field(default_factory=dict)

    @property
    def user(self) -> str:
        return f"user-{self.number}"

    @property
    def subject(self) -> str:
        return f"/cells/{self.number}"

    @property
    def endpoint(self) -> str:
        return self.line.endpoint(self.number)

    @property
    def key(self) -> str:
        return self.line.key(self.number)


def tries_of(story: Story) -> list[str]:
    """The outcomes of a story's tries that have ended. Not those at which a busy machine did not
    get to the words: the provider was not asked, and no try is counted."""
    outcomes = [one.get("outcome") for one in _attempts(story)]
    return [one for one in outcomes if one and one != "NOT_RENDERED"]


def times_of(story: Story) -> list[str]:
    """When its tries began."""
    return [one["at"] for one in _attempts(story)]


def _attempts(story: Story) -> list[dict[str, Any]]:
    return [one for delivery in story.get("deliveries", []) for one in delivery["attempts"]]


def play(up: Suite, lines: Mapping[str, Line], cells: Sequence[Cell]) -> dict[str, Played]:
    """Plays all; what was seen, by `str(cell)`."""
    players = [
        Played(cell, lines[cell.channel], number) for number, cell in enumerate(cells, start=1)
    ]
    by_scheme: dict[str, list[Played]] = {}
    for one in players:
        by_scheme.setdefault(one.line.scheme, []).append(one)
    with ThreadPoolExecutor(len(by_scheme)) as pool:
        for done in [pool.submit(_play_channel, up, some) for some in by_scheme.values()]:
            done.result()
    return {str(one.cell): one for one in players}


def _play_channel(up: Suite, players: Sequence[Played]) -> None:
    patience = Patience()
    for one in players:
        one.patience = patience
    for phase in Phase:
        chosen = [one for one in players if one.cell.phase is phase]
        for some in [[one] for one in chosen] if phase is Phase.ALONE else [chosen]:
            _play_together(up, some)


def _play_together(up: Suite, players: Sequence[Played]) -> None:
    for one in players:
        one.line.scripts.say(one.key, *one.cell.said, stands=one.cell.stands)
        leave(up, one)
    for one in players:
        publish(up, one, 1)
    standing = [one for one in players if one.cell.stands]
    for one, story in zip(standing, watch(up, standing, 1, was_tried_twice), strict=True):
        one.waiting, one.listed_waiting = story, listed(up, one)
    for one in standing:
        one.line.scripts.mend(one.key)
    for one, story in zip(players, watch(up, players, 1, has_ended), strict=True):
        one.ended = story
        one.requests = one.line.scripts.asked[one.key]
        one.listed = listed(up, one)
        one.told_first = come_back(up, one)
    for one in players:
        publish(up, one, 2)
    for one, story in zip(players, watch(up, players, 2, has_ended), strict=True):
        one.next = story
        one.told_later = come_back(up, one)


def leave(up: Suite, one: Played) -> None:
    """Register the endpoint, follow the subject, and go."""
    with Socket(up, one.user) as client:
        client.ask(connect=connect(one, externalTokens=[{"uri": one.endpoint}]))


def connect(one: Played, **more: Any) -> dict[str, Any]:
    """The connect frame of the user's client."""
    return connecting(one.user, {"subject": one.subject}, **more)


def come_back(up: Suite, one: Played) -> list[str]:
    """Come back, and leave again: what is told of endpoints that are gone."""
    with Socket(up, one.user) as client:
        return list(client.ask(connect=connect(one))["connected"].get("endpointsGone", []))


def listed(up: Suite, one: Played) -> list[str]:
    """The user's endpoints."""
    return [found["uri"] for found in up.get(f"/v1/users/{one.user}/endpoints")["endpoints"]]


def publish(up: Suite, one: Played, number: int) -> None:
    """Publish the message that is the subject's `number`th."""
    fields = {"text": f"{CANARY} {number}", **(one.cell.fields if number == 1 else {})}
    up.publish(one.subject, user=f"author-{one.number}", **fields)


def was_tried_twice(story: Story, _: Cell) -> bool:
    """It failed twice, and waits."""
    waits = not any(one["state"] == "sending" for one in story.get("deliveries", []))
    return story["state"] == "PENDING" and waits and len(tries_of(story)) >= 2


def has_ended(story: Story, cell: Cell) -> bool:
    """Nothing more comes of it, or not before a time that its cell names."""
    if cell.due_in_s and int(story["fromSeq"]) == 1:
        return bool(tries_of(story))
    sending = any(one["state"] == "sending" for one in story.get("deliveries", []))
    return story["state"] not in _OPEN and not sending


def watch(
    up: Suite, players: Sequence[Played], seq: int, condition: Callable[[Story, Cell], bool]
) -> list[Story]:
    """The first story of each of which it is true; of one of which it never is, the last."""
    stories: list[Story] = [{} for _ in players]
    left = list(enumerate(players))
    end = time.monotonic() + min((one.patience.step_s for one in players), default=0.0)
    while left:
        for number, one in left:
            stories[number] = up.explain(one.user, one.subject, seq)
        left = [pair for pair in left if not condition(stories[pair[0]], pair[1].cell)]
        if left and time.monotonic() >= end:
            for one in players:
                one.patience.lose()
            break
        if left:
            time.sleep(_LOOK_EVERY_S)
    return stories
