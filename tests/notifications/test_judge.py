"""The judge names what is wrong: histories made by hand, each with one fault, and the good one."""

from typing import Any

import pytest

from tests.notifications.judge import Judge

MAIL, PHONE = "mailto:ann", "fcm:phone"
SETTINGS: dict[str, Any] = {
    "grace_s": 1.0, "grace_clean_s": 1.0, "grace_dead_edge_s": 1.0, "away_after_s": 5.0,
    "hold_max_s": 4.0, "collapse_s": 1.0, "expiry_s": 1_000.0, "retry_tries_max": 3,
    "dead_letter_after_s": 60.0,
    "handover_messages_max": 100, "channels": {"mailto": True, "fcm": True, "tel": False},
}  # fmt: skip
AT_ONCE = {"subject": "/s"}


class History:
    """Ann's client `a` follows /s at one edge, and has registered `uris`. Users are in partition 1,
    subjects in 2. Each call adds what happens next, `wait` lets time pass."""

    def __init__(self, route: dict[str, Any] = AT_ONCE, uris: tuple[str, ...] = (MAIL,), **rates):
        self.now = 1_000_000.0
        self.records: list[dict[str, Any]] = []
        self.tails = {1: 0, 2: 0}
        self.tell("settings", **SETTINGS)
        self.tell("routing", routing={"routes": [route], "rates": rates})
        self.tell("routed")
        self.numbers: dict[str, int] = {}
        self.connect("a", uris)

    def tell(self, event: str, **fields: Any) -> None:
        self.records.append({"event": event, "at": self.now, **fields})

    def wait(self, seconds: float) -> "History":
        self.now += seconds
        return self

    def commit(self, *notes: tuple[Any, ...]) -> "History":
        self.tell("commit", who="pr1", notes=list(notes))
        return self

    # The log, and how far presence is.

    def event(self, client: str, kind: str, generation: int = 1, **fields: Any) -> "History":
        self.tails[1] += 1
        self.numbers[client] = self.numbers.get(client, 0) + 1
        self.tell(
            "event", partition=1, pos=self.tails[1], kind=kind, user="ann", client=client,
            number=self.numbers[client], generation=generation, edge=7, **fields,
        )  # fmt: skip
        return self.commit(("cursor", 1, self.tails[1]))

    def connect(self, client: str, uris: tuple[str, ...] = (), start: int = 0) -> "History":
        return self.event(
            client, "connected", replaces=True, starts={"/s": start}, uris=list(uris), round=1
        )

    def leave(self, client: str = "a", acked: int = 0) -> "History":
        """And its grace ends."""
        self.event(client, "disconnected", clean=False, acked={"/s": acked} if acked else {})
        return self.wait(2.0)

    def message(self, seq: int = 1, publisher: str = "bob", **headers: str) -> "History":
        self.tails[2] += 1
        self.tell(
            "message", partition=2, pos=self.tails[2], subject="/s", seq=seq, publisher=publisher,
            headers=headers,
        )  # fmt: skip
        return self

    # What presence decides.

    def begin(
        self, *seqs: int, own_id: str = "n", uris: tuple[str, ...] = (MAIL,), **due: Any
    ) -> "History":
        """A notification of these, with a delivery for each endpoint; each is a step in `steps`.
        `at`: when it falls due."""
        steps = due.get("steps", dict.fromkeys(uris, 0))
        at = due.get("at", self.now)
        notes: list[tuple[Any, ...]] = [("notification", own_id, "ann", "/s", seqs[0])]
        notes += [_delivery(own_id, uri, "pending", at, step=steps[uri]) for uri in uris]
        return self.commit(*notes).decide(*seqs, own_id=own_id)

    def decide(self, *seqs: int, own_id: str = "", reason: str = "") -> "History":
        # A begin and its first decision are one transaction.
        notes = self.records.pop()["notes"] if own_id and self._begun(own_id) else []
        notes += [("decided", "ann", "/s", seq, seq, own_id, reason) for seq in seqs]
        return self.commit(*notes)

    def _begun(self, own_id: str) -> bool:
        last = self.records[-1]
        return any(note[:2] == ("notification", own_id) for note in last.get("notes", ()))

    def wish(self, **wish: Any) -> "History":
        return self.commit(("wish", "ann", wish))

    def claim(self, uri: str = MAIL, own_id: str = "n", attempt: int = 1, step: int = 0):
        return self.commit(
            _delivery(own_id, uri, "sending", None, attempts=attempt, step=step),
            ("claimed", f"{own_id}/{uri}", attempt),
        )

    def hand(self, *seqs: int, uri: str = MAIL, own_id: str = "n", attempt: int = 1) -> "History":
        self.tell(
            "handed", delivery=f"{own_id}/{uri}", attempt=attempt, user="ann", uri=uri,
            subject="/s", first=seqs[0], last=seqs[-1], count=len(seqs), seqs=list(seqs),
        )  # fmt: skip
        return self

    def settle(
        self,
        said: str = "ACCEPTED",
        state: str = "accepted",
        uri: str = MAIL,
        own_id: str = "n",
        attempt: int = 1,
        outcome: str = "",
        step: int = 0,
    ) -> "History":
        """The plugin answers, and that is recorded; `outcome`: as something else."""
        if said:
            self.tell(
                "answered", delivery=f"{own_id}/{uri}", attempt=attempt, outcome=said, since=None
            )
        due_at = self.now if state in ("retry", "unknown") else None
        return self.commit(
            _delivery(own_id, uri, state, due_at, attempts=attempt, step=step),
            ("outcome", f"{own_id}/{uri}", attempt, outcome or said),
        )

    def send(self, *seqs: int, uri: str = MAIL, own_id: str = "n", **how: Any) -> "History":
        self.claim(uri, own_id, step=how.get("step", 0)).hand(*seqs, uri=uri, own_id=own_id)
        return self.settle(uri=uri, own_id=own_id, **how)

    def cancel(self, reason: str, uri: str = MAIL, own_id: str = "n", step: int = 0) -> "History":
        return self.commit(_delivery(own_id, uri, "cancelled", None, reason, step=step))

    def put_off(self, reason: str, until: float) -> "History":
        return self.commit(_delivery("n", MAIL, "pending", until, reason))

    def found(self) -> list[str]:
        return Judge().judge(self.records)


def _delivery(
    own_id: str,
    uri: str,
    state: str,
    due_at: float | None,
    reason: str = "",
    attempts: int = 0,
    held: int = 0,
    step: int = 0,
) -> tuple[Any, ...]:
    delivery = f"{own_id}/{uri}"
    return (
        "delivery", delivery, own_id, "ann", "/s", uri, state, due_at, reason, attempts, held, step
    )  # fmt: skip


def notified() -> History:
    """One message, notified as it should be."""
    return History().leave().message().begin(1).send(1)


def test_nothing_is_wrong_with_a_good_history():
    assert notified().found() == []


def away(history: History | None = None) -> History:
    """Somebody offline, and one message."""
    return (history or History()).leave().message()


def quiet(minutes: int = 60) -> dict[str, Any]:
    """Quiet hours around 1,000,000 s, which is 13:46:40 on a Monday in UTC."""
    return {"quiet": {"from": 13 * 60, "to": 13 * 60 + minutes, "days": [1, 2, 3, 4, 5, 6, 7]}}


def of_two() -> History:
    """`endpoint`: a registered the mail address, b the phone; b is online, a has left."""
    history = History({"subject": "/s", "policy": "endpoint"}).connect("b", (PHONE,))
    return away(history).begin(1, uris=(PHONE, MAIL))


def backlog(acked: int, first: int) -> History:
    """The rest of a backlog, 1 to 3, is decided in one piece; ann's client comes back, has up to
    `acked`, and leaves again. Then what is before `first` is taken out of the notification."""
    history = History().leave().message().message(2).message(3)
    history.commit(
        ("notification", "n", "ann", "/s", 1),
        _delivery("n", MAIL, "pending", history.now),
        ("decided", "ann", "/s", 1, 3, "n", ""),
    )
    history.event("a", "connected", 2, replaces=True, starts={"/s": 0}, uris=[], round=1)
    history.tell("acks", user="ann", client="a", positions={"/s": acked})
    history.event("a", "disconnected", 2, clean=False, acked={"/s": acked}).wait(2.0)
    return history.commit(
        ("shortened", "ann", "/s", first, 3),
        ("decided", "ann", "/s", 1, first - 1, "", "ACKNOWLEDGED"),
    )


def of_two_categories() -> History:
    """Two messages that wait together, and the user wants no more of the one's category."""
    history = History().leave().message(category="a").message(2, category="security")
    history.begin(1).decide(2, own_id="n")
    return history.wish(preferences=[{"category": "a", "channel": "", "allowed": False}])


def escalating() -> History:
    """The phone first, mail after 10 s."""
    route = {"subject": "/s", "channels": [["fcm"], ["mailto"]], "escalate_s": 10}
    history = away(History(route, (PHONE, MAIL)))
    return history.begin(1, uris=(PHONE, MAIL), steps={PHONE: 0, MAIL: 1})


FAULTS: dict[str, tuple[History, str]] = {
    # N1
    "a message of somebody offline is not decided": (away(), "was not decided"),
    "a message is decided twice": (notified().decide(1, reason="NO_ENDPOINT"), "decided twice"),
    "a message is notified that nobody follows": (
        History().event("a", "unfollowed", acked={"/s": 0}).message().begin(1).send(1),
        "and not followed",
    ),
    "a message is notified while a client answers": (
        History().message().begin(1).wait(9.0).send(1), "while a client answers",
    ),
    "the publisher is notified": (
        History().leave().message(publisher="ann").begin(1).send(1), "the user's own",
    ),
    "others are called the publisher": (away().decide(1, reason="PUBLISHER"), "as PUBLISHER"),
    "somebody with an address is said to have none": (
        away().decide(1, reason="NO_ENDPOINT"), "as NO_ENDPOINT",
    ),
    "somebody is said to have muted, and has not": (away().decide(1, reason="MUTED"), "as MUTED"),
    "a follower is said to have unsubscribed": (
        away().decide(1, reason="UNSUBSCRIBED"), "as UNSUBSCRIBED",
    ),
    "a reason is made up": (away().decide(1, reason="TOO_DULL"), "as TOO_DULL"),
    "a muted message is notified": (
        away(History().wish(mutes=[{"subject": "/s", "until": None}])).begin(1), "MUTED",
    ),
    "an endpoint is left out": (
        away(History(uris=(MAIL, PHONE))).begin(1).send(1), "goes to ['mailto:ann'], not to",
    ),
    "a message joins what was handed over": (
        notified().message(2).decide(2, own_id="n"), "joined what had been handed",
    ),
    "a message expires, and is notified": (
        History().leave().message(expires_at="1000000").begin(1).send(1), "EXPIRED",
    ),
    "a delivery is forgotten": (away().begin(1), "is pending at the end"),
    "a delivery is cancelled for nothing": (
        away().begin(1).cancel("ACKNOWLEDGED"), "cancelled, as",
    ),
    "a delivery is given up after one try": (
        away().begin(1).claim().hand(1).settle("RETRY", "dead"), "given up after 1 tries",
    ),
    "a delivery is given up soon after its first try": (
        away().begin(1).claim().hand(1).settle("RETRY", "retry")
        .claim(attempt=2).hand(1, attempt=2).settle("RETRY", "retry", attempt=2).wait(50.0)
        .claim(attempt=3).hand(1, attempt=3).settle("RETRY", "dead", attempt=3),
        "given up 50.0 s after its first try",
    ),
    "a try that was not begun is counted": (
        away().begin(1).claim().hand(1).settle("NOT_BEGUN", "retry")
        .claim(attempt=2).hand(1, attempt=2).settle("RETRY", "retry", attempt=2)
        .claim(attempt=3).hand(1, attempt=3).settle("RETRY", "dead", attempt=3),
        "given up after 2 tries",
    ),
    "a delivery dies of not being begun": (
        away().begin(1).claim().hand(1).settle("NOT_BEGUN", "dead"), "ended as dead after",
    ),
    "quiet hours are made up": (
        away().begin(1).put_off("QUIET_HOURS", 1_000_900.0).wait(900.0).send(1), "there are none",
    ),
    "it is not due when quiet hours end": (
        away(History().wish(**quiet())).begin(1).wait(800.0).send(1), "is due at 1000002.0, not at",
    ),
    "quiet hours end too late": (
        away(History().wish(**quiet())).begin(1).put_off("QUIET_HOURS", 1_009_999.0)
        .wait(9_997.0).send(1),
        "they end at",
    ),
    "a rate is made up": (
        away(History(mailto={"at_most": 1, "per_s": 60})).begin(1)
        .put_off("RATE_CAPPED", 1_000_100.0).wait(100.0).send(1),
        "is within the rate",
    ),
    "what was sent is told as held": (notified(), "is told as HELD"),
    # What must not be sent, or not now
    "it is sent to a muted user": (
        away().begin(1).wish(mutes=[{"subject": "/*", "until": None}]).send(1), "is muted",
    ),
    "it is sent where it is not wanted": (
        away().begin(1)
        .wish(preferences=[{"category": "", "channel": "mailto", "allowed": False}]).send(1),
        "does not want it there",
    ),
    "a message is kept back by what is said of another's category": (
        of_two_categories().cancel("PREFERENCE"), "was cancelled, as PREFERENCE",
    ),
    "it is sent in quiet hours": (
        away().begin(1).wish(**quiet()).send(1), "was sent in quiet hours",
    ),
    "it is sent beyond the rate": (
        away(History(mailto={"at_most": 1, "per_s": 60})).begin(1).send(1)
        .wait(5.0).message(2).begin(2, own_id="m").send(2, own_id="m"),
        "beyond the rate",
    ),
    "it is sent after its expiry": (away().begin(1).wait(1_001.0).send(1), "after it had expired"),
    "it is sent to an endpoint that was removed": (
        away(History().connect("b")).begin(1).event("a", "endpoint_removed", uri=MAIL).send(1),
        "does not have",
    ),
    "it is sent before the time of a digest": (
        away(History({"subject": "/s", "digest_s": 30})).begin(1).send(1), "before it was due",
    ),
    "it does not wait for others to collapse": (
        notified().wait(0.3).message(2).begin(2, own_id="m").send(2, own_id="m"),
        "before it was due",
    ),
    "the next step does not wait": (
        escalating().send(1, uri=PHONE).send(1, step=1), "before it was due",
    ),
    "the next step is sent after a receipt": (
        escalating().send(1, uri=PHONE, said="DELIVERED", state="delivered").wait(11.0)
        .send(1, step=1),
        "a receipt of a former step",
    ),
    "the next step is sent of what was read": (
        escalating().cancel("ACKNOWLEDGED", uri=PHONE).wait(11.0).send(1, step=1),
        "it was read where a former step goes",
    ),
    "the next step waits for nothing": (
        escalating().claim(PHONE).hand(1, uri=PHONE)
        .settle("REJECTED_MESSAGE", "failed", uri=PHONE)
        .commit(_delivery("n", MAIL, "pending", 1_000_500.0, step=1)),
        "is pending at the end",
    ),
    # N2
    "it is sent twice": (notified().claim(attempt=2).hand(1, attempt=2), "sent again after 1"),
    "it is handed over twice": (notified().hand(1), "handed over twice"),
    "it is handed over unclaimed": (away().begin(1).hand(1), "never claimed"),
    "it is told in two notifications": (
        notified().wait(2.0).message(2).begin(2, own_id="m").claim(own_id="m")
        .hand(1, 2, own_id="m"),
        "told before",
    ),
    "what is in doubt is repeated where it must not": (
        away(History(uris=("tel:1",))).begin(1, uris=("tel:1",)).claim("tel:1")
        .settle("", "unknown", uri="tel:1", outcome="CALL_TIMED_OUT").claim("tel:1", attempt=2),
        "sent again after 1",
    ),
    "a plugin's word is made up": (
        away().begin(1).claim().hand(1).settle("RETRY", "accepted", outcome="ACCEPTED"),
        "ACCEPTED was recorded",
    ),
    # N3
    "it is sent after an acknowledgement": (
        away(History().connect("b", start=0)).begin(1)
        .event("b", "disconnected", clean=True, acked={"/s": 1}).wait(5.0).send(1),
        "known to be acknowledged",
    ),
    "it is sent while a client that came back answers": (
        away().begin(1)
        .event("a", "connected", 2, replaces=True, starts={"/s": 0}, uris=[], round=1).send(1),
        "while a client answers",
    ),
    "it tells of a message that was acknowledged": (
        History().leave(acked=0).message(1).message(2).begin(1, 2)
        .event("a", "connected", 2, replaces=True, starts={"/s": 1}, uris=[], round=1)
        .wait(6.0).claim().hand(1, 2),
        "acknowledged before",
    ),
    "an endpoint is silenced by the wrong client": (
        of_two().wait(6.0).send(1, uri=PHONE)
        .event("b", "disconnected", clean=True, acked={"/s": 1}).cancel("ACKNOWLEDGED"),
        "cancelled, as ACKNOWLEDGED",
    ),
    "what was not acknowledged is taken out of a backlog": (
        backlog(acked=1, first=3).claim().hand(3).settle(), "was taken out, and 2 is not",
    ),
    "a message is called acknowledged that was in no notification": (
        away().decide(1, reason="ACKNOWLEDGED"), "was suppressed, as ACKNOWLEDGED",
    ),
    "always is silenced by a client": (
        History({"subject": "/s", "policy": "always"}).message()
        .event("a", "disconnected", clean=True, acked={"/s": 1}),
        "was not decided ({'always'})",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(fault):
    history, named = FAULTS[fault]
    if "HELD" in named:
        history.tell("explained", user="ann", subject="/s", outcomes=[(1, 1, "HELD", "")])
    found = history.found()
    assert any(named in line for line in found), found


def test_what_may_be_is_not_called_wrong():
    """Each of these looks like a fault, and is none."""
    repeated = away().begin(1).claim().hand(1).settle("RETRY", "retry")
    repeated.claim(attempt=2).hand(1, attempt=2).settle(attempt=2)
    rang = of_two().wait(6.0).send(1, uri=PHONE).send(1)
    over = escalating().send(1, uri=PHONE, said="DELIVERED", state="delivered").wait(11.0)
    over.cancel("RECEIPTED", step=1)
    own = History().leave().message(publisher="ann").decide(1, reason="PUBLISHER")
    received = History().message().event("a", "disconnected", clean=True, acked={"/s": 1})
    received.tell("acks", user="ann", client="a", positions={"/s": 1})
    kept = away(History().wish(**quiet())).begin(1, at=1_000_800.0).wait(800.0).send(1)
    dead = away().begin(1).claim().hand(1).settle("RETRY", "retry").wait(61.0)
    dead.claim(attempt=2).hand(1, attempt=2).settle("RETRY", "retry", attempt=2)
    dead.claim(attempt=3).hand(1, attempt=3).settle("RETRY", "dead", attempt=3)
    of_none = of_two_categories().send(1, 2)
    rest = backlog(acked=1, first=2).claim().hand(2, 3).settle()
    for history in (repeated, rang, over, own, received, kept, dead, of_none, rest):
        assert history.found() == []
