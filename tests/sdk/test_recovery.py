"""Whatever a network does, an application sees every message once and in order.

A small edge holds a log and answers frames as the protocol says; the network loses, repeats and
reorders nothing within a connection, but breaks it at any point, and sometimes the edge drops or
repeats a message. The program may be killed and started again with what it kept last.
"""

from collections import deque
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from onward_sdk.effects import Close, Effect, Emit, Keep, Reconnect, Send
from onward_sdk.events import Event, Message
from onward_sdk.protocol import Subscription
from onward_sdk.state import Identity, Options, State


class World:
    """A client, its application, a network and an edge."""

    def __init__(self) -> None:
        self.log = 0  # the head
        self.acked = 0
        self.shown: list[int] = []
        self.kept = Identity("c", 0, "L", {"/a": 0})
        self.start()

    def start(self) -> None:
        """The program starts with what it kept last."""
        self.state = State(self.kept, Options(ack_delay_s=0.0))
        self.up: deque[dict[str, Any]] = deque()
        self.down: deque[dict[str, Any]] = deque()
        self.inbox: deque[Event] = deque()
        self.linked = self.live = False
        self.act(self.state.subscribe([Subscription("/a")], 0)[1])

    def act(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(frame):
                    assert self.linked
                    self.up.append(frame)
                case Emit(event):
                    self.inbox.append(event)
                case Keep(identity):
                    self.kept = identity
                case Close():
                    self.cut()
                case Reconnect():
                    pass

    def link(self) -> None:
        if not self.linked:
            self.linked = True
            self.act(self.state.opened("", 0))

    def cut(self) -> None:
        if self.linked:
            self.linked = self.live = False
            self.up.clear()
            self.down.clear()
            self.act(self.state.closed(1006, "cut", 0, 0.5, "new"))

    def publish(self) -> None:
        self.log += 1
        if self.live:
            self.down.append(self.message(self.log, "LIVE"))

    def message(self, seq: int, kind: str) -> dict[str, Any]:
        return {"message": {"subject": "/a", "seq": str(seq), "kind": kind}}

    def edge_turn(self) -> None:
        """The edge takes one frame."""
        if not self.up:
            return
        frame = self.up.popleft()
        for position in frame.get("ack", {}).get("positions", ()):
            self.acked = max(self.acked, int(position["seq"]))
        if "connect" in frame:
            self.answer(frame["id"], "connected", frame["connect"]["subscriptions"]["list"])
        elif "subscribe" in frame:
            self.answer(frame["id"], "subscribed", frame["subscribe"]["subscriptions"])

    def answer(self, request_id: str, kind: str, asked: list[dict[str, Any]]) -> None:
        after = int(asked[0]["afterSeq"])
        self.acked = max(self.acked, after)  # whoever starts there does not need what is below
        states = [{"subject": "/a", "seq": str(self.log), "recovered": True}]
        self.live = True
        self.down.append({"id": request_id, kind: {"logId": "L", "subscriptions": states}})
        self.down.extend(self.message(seq, "RECOVERED") for seq in range(after + 1, self.log + 1))
        self.down.append({"synced": {"subject": "/a", "seq": str(self.log)}})

    def client_turn(self) -> None:
        """The client takes one frame."""
        if self.down:
            self.act(self.state.received(self.down.popleft(), 0))

    def application_turn(self) -> None:
        """The application handles one event."""
        if self.inbox:
            event = self.inbox.popleft()
            if isinstance(event, Message):
                self.shown.append(event.seq)
            self.act(self.state.handled([event], 0))

    def drop(self) -> None:
        """The edge loses a message on its way down."""
        if self.down and "message" in self.down[0]:
            self.down.popleft()

    def repeat(self) -> None:
        """The edge sends a message twice."""
        if self.down and "message" in self.down[0]:
            self.down.append(self.down[0])

    def check(self) -> None:
        assert self.acked <= len(self.shown), "acknowledged before it was shown"
        assert self.kept.positions["/a"] <= len(self.shown), "kept before it was shown"

    def settle(self) -> None:
        """Nothing fails any more."""
        self.publish()
        for _ in range(10_000):
            self.link()
            if not (self.up or self.down or self.inbox):
                return
            self.edge_turn()
            self.client_turn()
            self.application_turn()
            self.check()
        raise AssertionError("it never comes to rest")


# Faults are rarer than work, else nothing ever gets far enough to be broken.
STEPS = [
    *[World.publish, World.edge_turn, World.application_turn] * 4,
    *[World.client_turn] * 10,
    *[World.link, World.drop, World.repeat] * 2,
    *[World.cut, World.start],
]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(STEPS), min_size=80, max_size=200))
def test_every_message_is_shown_once_in_order_and_acknowledged_only_then(steps: list[Any]) -> None:
    world = World()
    for step in steps:
        step(world)
        world.check()
    world.settle()
    assert world.shown == list(range(1, world.log + 1))
    assert world.acked == world.log
