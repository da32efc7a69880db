"""Clients of a run: each publishes, and reads what others publish, as the protocol says one may.

A client keeps its unanswered publishes in order and sends all of them again in every new session;
it comes back with the positions it has, acknowledges what it reads, and goes to another edge when
its own is silent. It speaks real frames to a real connection of an exchange. Its own program is no
part of what is tried, and runs outside of all processes.
"""

from random import Random
from typing import Any, Protocol

from tests.simulation.lines import Line, frames_in
from tests.simulation.members import Edge
from tests.simulation.network import Network

PATIENCE_S = 4.0
_LOOK_S = 0.5


class Scene(Protocol):
    """What clients live in."""

    network: Network
    edges: dict[str, Edge | None]

    def record(self, event: str, **fields: Any) -> None:
        """Tell the judge."""


class Client:
    """One client. `user`: whose it is; `token`: the external token that it registers, if any."""

    def __init__(
        self,
        scene: Scene,
        name: str,
        reads: list[str],
        writes: list[str],
        random: Random,
        user: str = "",
        token: str = "",
    ) -> None:
        self.name = name
        self.user = user or name
        self.away = False  # it has left, and may come back
        self._silent = False  # its connection is open still, and it does nothing
        self._token = token
        self.reads = reads
        self.positions: dict[str, int] = {}
        self.unanswered: dict[int, str] = {}  # number: subject, in order
        self.open = False
        self.done = False  # publishes nothing more
        self._writes = writes
        self._scene = scene
        self._random = random
        self._number = 0
        self._line: Line | None = None
        self._heard_at = 0.0
        self._waits_since = 0.0
        self._session = 0
        self._generation = 0
        scene.network.later(random.random() * 0.3, self._look)

    @property
    def _now(self) -> float:
        return self._scene.network.loop.now

    # What its user does.

    def publish(self) -> None:
        """Publish something, now or when that is possible."""
        self._number += 1
        subject = self._random.choice(self._writes)
        self._scene.record("publish", who=self.name, user=self.user, number=self._number,
                           subject=subject)  # fmt: skip
        if not self.unanswered:
            self._waits_since = self._now
        self.unanswered[self._number] = subject
        if self.open and not self._silent:
            self._send_publish(self._number, subject)

    def hang_up(self) -> None:
        """Lose the connection."""
        if self._line is not None:
            self._line.leave()
            self._line = None
            self.open = False

    def leave(self, how: str) -> None:
        """Go away: "close" says good-bye, "drop" does not, "freeze" leaves the connection open."""
        self._scene.record("leaves", who=self.name, how=how)
        self.away, self._silent = True, how == "freeze"
        if not self._silent and self._line is not None:
            self._line.leave(clean=how == "close")
            self._line = None
            self.open = False

    def come_back(self) -> None:
        """Be there again; what a frozen client did not read came to nobody."""
        self._scene.record("returns", who=self.name)
        if self._silent:
            self.hang_up()
        self.away = self._silent = False

    # What comes.

    def on_item(self, line: Line, item: Any) -> None:
        if line is not self._line or self._silent:
            return
        self._heard_at = self._now
        if isinstance(item, int):
            self._scene.record("closed", who=self.name, code=item)
            self.hang_up()
        elif isinstance(item, tuple):
            line.pong(item[0])
        else:
            for frame in frames_in(item):
                if line is self._line:
                    self._on_frame(line, frame)

    def on_lost(self, line: Line) -> None:
        if line is self._line:
            self.hang_up()

    def _on_frame(self, line: Line, frame: dict[str, Any]) -> None:
        if "message" in frame:
            self._on_message(line, frame["message"])
        elif "published" in frame:
            self._on_published(int(frame["id"]), frame["published"])
        elif "connected" in frame:
            self._on_connected(frame["connected"])
        elif "error" in frame:
            self._on_error(frame)
        elif "gap" in frame:
            gap = frame["gap"]
            self.positions[gap["subject"]] = int(gap["toSeq"])
            self._scene.record(
                "gap", who=self.name, session=self._session, subject=gap["subject"],
                to=int(gap["toSeq"]),
            )  # fmt: skip

    def _on_message(self, line: Line, message: dict[str, Any]) -> None:
        subject, seq = message["subject"], int(message["seq"])
        self._scene.record(
            "seen", who=self.name, session=self._session, subject=subject, seq=seq,
            text=message["text"], epoch=int(message["epoch"]),
        )  # fmt: skip
        self.positions[subject] = seq
        if self._random.random() < 0.3:
            acked = [{"subject": s, "seq": str(n)} for s, n in self.positions.items()]
            self._record_acks()
            line.write({"ack": {"positions": acked}})

    def _record_acks(self) -> None:
        self._scene.record("acks", who=self.name, user=self.user, positions=dict(self.positions))

    def _on_published(self, number: int, published: dict[str, Any]) -> None:
        subject = self.unanswered.pop(number, None)
        self._waits_since = self._now
        if subject is not None:
            self._scene.record(
                "accepted", who=self.name, number=number, subject=subject,
                seq=int(published["seq"]),
            )  # fmt: skip

    def _on_connected(self, connected: dict[str, Any]) -> None:
        self.open = True
        self._session += 1
        if self._token:
            self._scene.record("token", user=self.user, uri=self._token)
        self._generation = int(connected["generation"])
        for state in connected.get("subscriptions", ()):
            subject, seq = state["subject"], int(state.get("seq", 0))
            recovered = bool(state.get("recovered"))
            asked = self.positions.get(subject)
            self._scene.record(
                "subscribed", who=self.name, user=self.user, session=self._session,
                subject=subject, seq=seq, recovered=recovered, asked=asked,
                reason=state.get("reason", ""),
            )  # fmt: skip
            if not recovered:
                self.positions[subject] = seq
        for number, subject in self.unanswered.items():
            self._send_publish(number, subject)

    def _on_error(self, frame: dict[str, Any]) -> None:
        code, frame_id = frame["error"].get("code", ""), frame.get("id", "")
        self._scene.record("error", who=self.name, code=code, frame=frame_id)
        if code == "STALE_SESSION":
            self._generation = int(frame["error"].get("generation", 0))
        if frame_id.isdigit():
            # What stood behind it may have been accepted: its order is open from now on.
            self._scene.record("refused", who=self.name, numbers=list(self.unanswered))
        self.hang_up()

    # What it sends.

    def _look(self) -> None:
        """Is there something to do about the connection?"""
        self._scene.network.later(_LOOK_S * self._random.uniform(0.5, 1.5), self._look)
        if self.away:
            return
        if self._line is not None:
            silent = self._now - self._heard_at > PATIENCE_S and not self.open
            waits = bool(self.unanswered) and self._now - self._waits_since > PATIENCE_S
            if silent or waits or self._now - self._heard_at > 3 * PATIENCE_S:
                self._waits_since = self._now
                self.hang_up()
        if self._line is None:
            self._connect()

    def _connect(self) -> None:
        edges = [edge for edge in self._scene.edges.values() if edge is not None and edge.open]
        if not edges:
            return
        edge = self._random.choice(edges)
        self._line = Line(self, edge, self._scene.network)
        self._heard_at = self._now
        wanted: list[dict[str, Any]] = []
        for subject in self.reads:
            one: dict[str, Any] = {"subject": subject}
            if subject in self.positions:
                one["afterSeq"] = str(self.positions[subject])
            wanted.append(one)
        connect: dict[str, Any] = {
            "clientId": f"{self.name}-1",
            "acknowledges": "EXPLICIT",
            "subscriptions": {"list": wanted},
        }
        if self._token:
            connect["externalTokens"] = [{"uri": self._token}]
        self._record_acks()  # where it left off it has read
        if self._generation:
            connect["lastGeneration"] = str(self._generation)
        self._line.write({"id": "c", "connect": connect})

    def _send_publish(self, number: int, subject: str) -> None:
        assert self._line is not None
        text = f"{self.name}#{number}"
        publish = {"subject": subject, "publicationId": text, "text": text}
        self._line.write({"id": str(number), "publish": publish})
