"""Who is there, follows what, and is known to have received what: part of `judge`, told anew. Pure.

`People` is told the entries that have taken effect in presence, in the order of its commits, and
says how each client stands then. A client's end comes to it in an event or with its edge; from
when exactly it does not answer any more depends on timers, so there is a time in which it `may`.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Entry = Mapping[str, Any]
YES, MAYBE, NO = "yes", "maybe", "no"
# Tokens that go with the last user who registered them.
_MOVING = ("fcm", "apns", "webpush")


@dataclass
class Follow:
    """One client's, of one subject."""

    subject: str
    client: str
    base: int
    # Everything up to it is known to be acknowledged; or up to a position, by marks: surely, or
    # perhaps.
    acked: int
    first: int  # generations of its first and last session
    last: int
    round: int
    # Where its last subscription began: the client says that it needs nothing before.
    start: int
    sure_pos: int = 0
    maybe_pos: int = 0
    # When it ended, as a place in the history; None: it is open.
    ended: int | None = None

    def covers(self, seq: int, pos: int, sure: bool) -> bool:
        marked = self.sure_pos if sure else self.maybe_pos
        return self.base < seq and (seq <= self.acked or pos <= marked)


@dataclass
class Client:
    """How the newest session of a client stands."""

    generation: int = 0
    number: int = 0
    edge: int = 0
    connected: bool = False
    state: str = "gone"  # there, leaving, gone
    since: float = 0.0  # it is there since then
    ended: bool = False  # its own end has taken effect
    idle_since: float | None = None
    answers_until: float = 0.0  # while it is leaving: surely until then


@dataclass
class Endpoint:
    clients: set[str]
    registered: float
    opted_out: bool = False


@dataclass
class User:
    clients: dict[str, Client] = field(default_factory=dict)
    follows: list[Follow] = field(default_factory=list)
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    wish: Mapping[str, Any] = field(default_factory=dict)


class People:
    """Everybody, as of the last commit. `place` numbers the history."""

    def __init__(self) -> None:
        self.settings: Mapping[str, Any] = {}
        self.users: dict[str, User] = defaultdict(User)
        self.place = 0
        self.now = 0.0
        self.partitions: dict[str, int] = {}  # of subjects
        # Endpoints that left a user in this commit.
        self.left: set[tuple[str, str]] = set()
        self._died: dict[int, float] = {}
        self._marks: dict[tuple[int, int], tuple[int, int]] = {}

    # -- what takes effect --------------------------------------------------------------------

    def edge_died(self, edge: int, at: float) -> None:
        self._died[edge] = at

    def take(self, entry: Entry) -> None:
        """An entry of the log takes effect."""
        if entry["event"] == "mark":
            key = entry["edge"], entry["partition"]
            before = self._marks.get(key, (0, 0))
            self._marks[key] = max(before[0], entry["round"]), max(before[1], entry["up_to"])
            for user in self.users.values():
                self._listen_to_marks(user)
        elif entry["event"] == "event":
            self._event(self.users[entry["user"]], entry)

    def _event(self, user: User, e: Entry) -> None:
        name, kind = e["client"], e["kind"]
        client = user.clients.setdefault(name, Client())
        if e["generation"] < client.generation:
            self._acknowledge(user, e)
            return
        if e["generation"] == client.generation:
            if e["number"] <= client.number and (kind != "connected" or client.connected):
                return
            client.number = max(client.number, e["number"])
        else:
            # From what marks say of the former session on.
            self._listen_to_marks(user)
            client = user.clients[name] = Client(
                e["generation"], e["number"], e["edge"], state="there", since=self.now
            )
        self._take(user, client, e)
        self._listen_to_marks(user)

    def _take(self, user: User, client: Client, e: Entry) -> None:
        name, kind = e["client"], e["kind"]
        if kind == "connected":
            client.connected = True
            if e["replaces"]:
                for follow in self._open(user, name):
                    if follow.subject not in e["starts"]:
                        follow.ended = self.place
            self._subscribe(user, e)
            for uri in e["uris"]:
                self._register(e["user"], uri, name)
        elif kind == "followed":
            self._subscribe(user, e)
        elif kind == "unfollowed":
            self._acknowledge(user, e)
            for follow in self._open(user, name):
                if follow.subject in e["acked"]:
                    follow.ended = self.place
        elif kind == "disconnected":
            self._acknowledge(user, e)
            self._leave(client, e["clean"])
        elif kind == "logged_out":
            self._acknowledge(user, e)
            for follow in self._open(user, name):
                follow.ended = self.place
            for uri in list(user.endpoints):
                self._unregister(e["user"], uri, name)
            client.state, client.ended = "gone", True
        elif kind == "endpoint_added":
            if e["replaces"] and e["replaces"] != e["uri"]:
                self._unregister(e["user"], e["replaces"], name)
            self._register(e["user"], e["uri"], name)
        elif kind == "endpoint_removed":
            self._unregister(e["user"], e["uri"], name)
        elif kind == "activity_changed" and client.state == "there":
            if e["active"]:
                client.idle_since = None
            elif client.idle_since is None:
                client.idle_since = self.now

    def _subscribe(self, user: User, e: Entry) -> None:
        for subject, start in e["starts"].items():
            found = [one for one in self._open(user, e["client"]) if one.subject == subject]
            if found:
                follow = found[0]
                follow.acked = max(follow.acked, start)
                follow.start = max(follow.start, start)
                follow.last, follow.round = e["generation"], e["round"]
            else:
                generation = e["generation"]
                first_last = generation, generation
                user.follows.append(
                    Follow(subject, e["client"], start, start, *first_last, e["round"], start)
                )

    def _leave(self, client: Client, clean: bool) -> None:
        client.ended = True
        if client.state != "there":
            return
        grace_s = self.settings["grace_clean_s" if clean else "grace_s"]
        died = self._died.get(client.edge)
        until = self.now + grace_s
        if died is not None:
            # If that was found before, it is in the grace that it got then.
            until = min(until, max(died, client.since) + self.settings["grace_dead_edge_s"])
        client.answers_until = self.now if self._may_be_away(client) else until
        client.state = "leaving"

    def _acknowledge(self, user: User, e: Entry) -> None:
        for subject, seq in e.get("acked", {}).items():
            had = [
                one
                for one in user.follows
                if (one.subject, one.client) == (subject, e["client"])
                and one.first <= e["generation"] <= one.last
            ]
            if had:
                had[-1].acked = max(had[-1].acked, seq)

    def revoke(self, user: str, subjects: Collection[str] | None) -> None:
        self._listen_to_marks(self.users[user])
        for follow in self.users[user].follows:
            if follow.ended is None and (subjects is None or follow.subject in subjects):
                follow.ended = self.place

    def _register(self, user: str, uri: str, client: str) -> None:
        if uri.split(":")[0] in _MOVING:
            for other, of in self.users.items():
                if other != user and uri in of.endpoints:
                    self._drop(other, uri)
        endpoint = self.users[user].endpoints.setdefault(uri, Endpoint(set(), self.now))
        endpoint.clients.add(client)
        endpoint.registered = self.now

    def _unregister(self, user: str, uri: str, client: str) -> None:
        endpoint = self.users[user].endpoints.get(uri)
        if endpoint is not None:
            endpoint.clients.discard(client)
            if not endpoint.clients:
                self._drop(user, uri)

    def _drop(self, user: str, uri: str) -> None:
        del self.users[user].endpoints[uri]
        self.left.add((user, uri))

    def gone(self, user: str, uri: str, since: float | None) -> None:
        """The provider says so."""
        endpoint = self.users[user].endpoints.get(uri)
        if endpoint is not None and endpoint.registered < (self.now if since is None else since):
            self._drop(user, uri)

    def opt_out(self, user: str, uri: str) -> None:
        endpoint = self.users[user].endpoints.get(uri)
        if endpoint is not None:
            endpoint.opted_out = True
            self.left.add((user, uri))

    # -- marks --------------------------------------------------------------------------------

    def _listen_to_marks(self, user: User) -> None:
        """Keep what the marks say of each subscription that they speak for now."""
        for follow in user.follows:
            client = user.clients.get(follow.client)
            if follow.ended is not None or client is None or client.ended:
                continue
            mark = self._marks.get((client.edge, self.partitions.get(follow.subject, -1)))
            if mark is None or follow.last != client.generation or mark[0] <= follow.round:
                continue
            follow.maybe_pos = max(follow.maybe_pos, mark[1])
            # While it is away no mark speaks for it.
            if not self._may_be_away(client):
                follow.sure_pos = max(follow.sure_pos, mark[1])

    # -- questions ----------------------------------------------------------------------------

    def _open(self, user: User, client: str) -> list[Follow]:
        return [one for one in user.follows if one.client == client and one.ended is None]

    def _may_be_away(self, client: Client) -> bool:
        idle = client.idle_since
        return idle is not None and self.now >= idle + self.settings["away_after_s"]

    def follows(self, user: str, subject: str, seq: int) -> Iterator[Follow]:
        """All, ended or not, that the message is in."""
        for follow in self.users[user].follows:
            if follow.subject == subject and follow.base < seq:
                yield follow

    def is_followed(self, user: str, subject: str, seq: int) -> bool:
        return any(follow.ended is None for follow in self.follows(user, subject, seq))

    def acknowledged(
        self,
        user: str,
        subject: str,
        seq: int,
        pos: int,
        sure: bool,
        clients: Collection[str] | None = None,
    ) -> bool:
        """Whether presence knows that a client (one of these) has received it."""
        return any(
            follow.covers(seq, pos, sure)
            for follow in self.follows(user, subject, seq)
            if clients is None or follow.client in clients
        )

    def answers(
        self,
        user: str,
        subject: str,
        seq: int,
        clients: Collection[str] | None = None,
        at_last: bool = False,
    ) -> str:
        """Whether a client (one of these) answers for a message: yes, no, or maybe. `at_last`: all
        timers have run out."""
        found = NO
        for follow in self.follows(user, subject, seq):
            if follow.ended is None and (clients is None or follow.client in clients):
                client = self.users[user].clients.get(follow.client)
                stands = NO if client is None else self._stands(client, at_last)
                if stands == YES:
                    return YES
                found = MAYBE if MAYBE in (found, stands) else NO
        return found

    def _stands(self, client: Client, at_last: bool) -> str:
        if client.state == "gone":
            return NO
        if client.state == "leaving":
            if at_last:
                return NO
            return YES if self.now < client.answers_until else MAYBE
        died = self._died.get(client.edge)
        dead = died is not None and (
            at_last or self.now >= max(died, client.since) + self.settings["grace_dead_edge_s"]
        )
        if at_last:
            return NO if dead or client.idle_since is not None else YES
        return MAYBE if dead or self._may_be_away(client) else YES
