"""The checker names what is wrong with a history, and finds nothing wrong with a good one."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.path.story_checker import Event, check

ANN, MAIL = "ann", "ann@example.org"


def event(name: str, at: float, **fields: Any) -> Event:
    return {"event": name, "at": at, "subject": "/a", "user": ANN, "client": "ann-1", **fields}


def published(seq: int, at: float, **fields: Any) -> list[Event]:
    """A message `m<seq>` that is accepted."""
    text = f"m{seq}"
    publish = event("publish", at, publication=text, publisher="bob", number=seq, text=text)
    return [publish | fields, event("accepted", at, publication=text, seq=seq)]


def outcome(seq: int, state: str, reason: str = "", *deliveries: Event) -> Event:
    return {
        "from": seq, "to": seq, "state": state, "reason": reason, "deliveries": list(deliveries),
    }  # fmt: skip


def delivery(at: float = 20.0, *outcomes: str) -> Event:
    attempts = [{"at": at, "outcome": one} for one in outcomes or ["ACCEPTED"]]
    return {"id": "d1", "state": "accepted", "attempts": attempts}


def mail(at: float = 20.1, **fields: Any) -> Event:
    return event(
        "mail", at, **({"address": MAIL, "id": "d1", "count": 1, "texts": ["m3"]} | fields)
    )


def good() -> list[Event]:
    """Ann reads one message and acknowledges it, recovers the second, and is mailed the third."""
    return [
        event("subscribing", 1, after=None),
        event("subscribed", 1, seq=0, recovered=False),
        event("endpoint", 1, address=MAIL),
        *published(1, 2),
        event("seen", 2, seq=1, text="m1"),
        event("ack", 3, seq=1),
        event("acknowledged", 3, seq=1),
        *published(2, 4),
        event("subscribing", 5, after=1),
        event("subscribed", 5, seq=2, recovered=True),
        event("seen", 5, seq=2, text="m2"),
        event("synced", 5, seq=2),
        event("ack", 6, seq=2),
        event("acknowledged", 6, seq=2),
        event("told", 7, seqs=[1, 2]),
        *published(3, 8),
        mail(),
        event("log", 30, floor=0, texts={"1": "m1", "2": "m2", "3": "m3"}),
        event("explained", 30, outcomes=[
            outcome(1, "ACKNOWLEDGED"), outcome(2, "ACKNOWLEDGED"),
            outcome(3, "NOTIFIED", "", delivery()),
        ]),
    ]  # fmt: skip


def find(history: list[Event], name: str, **fields: Any) -> Event:
    return next(e for e in history if e["event"] == name and fields.items() <= e.items())


def told_of(history: list[Event], seq: int, *told: Any) -> None:
    find(history, "explained")["outcomes"][seq - 1] = outcome(seq, *told)


def insert_before(history: list[Event], name: str, *events: Event) -> None:
    at = history.index(find(history, name))
    history[at:at] = events


def test_a_good_history_breaks_nothing() -> None:
    assert check(good()) == []


def lost(h: list[Event]) -> None:
    find(h, "log")["texts"].pop("3")


def elsewhere(h: list[Event]) -> None:
    find(h, "log")["texts"] |= {"2": "m3", "3": "m2"}


def with_a_hole(h: list[Event]) -> None:
    find(h, "log")["texts"]["5"] = find(h, "log")["texts"].pop("3")


def seen_as_another(h: list[Event]) -> None:
    find(h, "seen", seq=2)["text"] = "other"


def one_seq_for_two(h: list[Event]) -> None:
    insert_before(h, "mail", *published(4, 9))
    find(h, "accepted", publication="m4")["seq"] = 3


def two_seqs_for_one(h: list[Event]) -> None:
    insert_before(h, "mail", event("accepted", 9, publication="m3", seq=4))
    find(h, "log")["texts"]["4"] = "m4"


def twice_in_the_log(h: list[Event]) -> None:
    find(h, "log")["texts"]["4"] = "m3"


def overtaken(h: list[Event]) -> None:
    find(h, "publish", publication="m1")["number"] = 9


def seen_twice(h: list[Event]) -> None:
    insert_before(h, "synced", event("seen", 5, seq=2, text="m2"))


def seen_out_of_order(h: list[Event]) -> None:
    insert_before(h, "synced", event("seen", 5, seq=1, text="m1"))


def silent_hole(h: list[Event]) -> None:
    insert_before(h, "mail", *published(4, 9), event("seen", 9, seq=4, text="m4"))
    find(h, "log")["texts"]["4"] = "m4"


def not_all_recovered(h: list[Event]) -> None:
    h.remove(find(h, "seen", seq=2))


def at_rest_too_early(h: list[Event]) -> None:
    insert_before(h, "log", event("settled", 25, seq=2))


def never_decided(h: list[Event]) -> None:
    told_of(h, 3, "PENDING")


def not_told_at_all(h: list[Event]) -> None:
    find(h, "explained")["outcomes"].pop()


def not_followed(h: list[Event]) -> None:
    told_of(h, 3, "NOT_FOLLOWED")


def acknowledged_by_nobody(h: list[Event]) -> None:
    told_of(h, 3, "ACKNOWLEDGED")


def suppressed_though_followed(h: list[Event]) -> None:
    told_of(h, 3, "SUPPRESSED", "UNSUBSCRIBED")


def suppressed_for_want_of_an_endpoint(h: list[Event]) -> None:
    told_of(h, 3, "SUPPRESSED", "NO_ENDPOINT")


def suppressed_as_own(h: list[Event]) -> None:
    told_of(h, 3, "SUPPRESSED", "PUBLISHER")


def never_mailed(h: list[Event]) -> None:
    h.remove(find(h, "mail"))


def not_to_every_endpoint(h: list[Event]) -> None:
    insert_before(h, "publish", event("endpoint", 1, address="phone@example.org"))


def mail_says_less(h: list[Event]) -> None:
    find(h, "mail")["texts"] = []


def mailed_by_two_mails(h: list[Event]) -> None:
    insert_before(h, "log", mail(22, id="d2"))


def mailed_again_without_a_doubt(h: list[Event]) -> None:
    insert_before(h, "log", mail(22))


def mailed_though_explained(h: list[Event]) -> None:
    insert_before(h, "mail", event("told", 9, seqs=[3]))


def mailed_long_after_the_acknowledgement(h: list[Event]) -> None:
    insert_before(
        h, "mail", event("seen", 9, seq=3, text="m3"), event("ack", 9, seq=3),
        event("acknowledged", 9, seq=3),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "spoil"),
    [
        ("L1", lost), ("L1", elsewhere), ("L2", with_a_hole), ("L2", seen_as_another),
        ("L2", one_seq_for_two), ("L3", two_seqs_for_one), ("L3", twice_in_the_log),
        ("L5", overtaken),
        ("D1", seen_twice), ("D1", seen_out_of_order), ("D1", silent_hole),
        ("D2", not_all_recovered), ("D2", at_rest_too_early),
        ("N1", never_decided), ("N1", not_told_at_all), ("N1", not_followed),
        ("N1", acknowledged_by_nobody), ("N1", suppressed_though_followed),
        ("N1", suppressed_for_want_of_an_endpoint), ("N1", suppressed_as_own),
        ("N1", never_mailed),
        ("N1", not_to_every_endpoint), ("N1", mail_says_less),
        ("N2", mailed_by_two_mails), ("N2", mailed_again_without_a_doubt),
        ("N3", mailed_though_explained), ("N3", mailed_long_after_the_acknowledgement),
    ],
)  # fmt: skip
def test_a_broken_promise_is_named(rule: str, spoil: Callable[[list[Event]], None]) -> None:
    history = good()
    spoil(history)
    assert any(line.startswith(f"{rule}: ") for line in check(history))


def test_a_mail_repeated_after_a_doubt_is_no_double() -> None:
    history = good()
    insert_before(history, "log", mail(22))
    told_of(history, 3, "NOTIFIED", "", delivery(20.0, "UNKNOWN", "ACCEPTED"))
    assert check(history) == []


def test_a_mail_repeated_after_a_restart_is_no_double() -> None:
    history = good()
    insert_before(history, "log", event("killed", 21, service="presence"), mail(22))
    assert check(history) == []


def test_what_was_accepted_after_an_unsubscribe_may_be_suppressed() -> None:
    history = good()
    at = history.index(find(history, "publish", publication="m3"))
    history.insert(at, event("unsubscribing", 7.5))
    history.remove(find(history, "mail"))
    told_of(history, 3, "NOT_FOLLOWED")
    assert check(history) == []


def test_an_announced_hole_is_none() -> None:
    history = good()
    insert_before(
        history, "mail", *published(4, 9), event("gap", 9, to=3), event("seen", 9, seq=4, text="m4")
    )  # fmt: skip
    find(history, "log")["texts"]["4"] = "m4"
    find(history, "explained")["outcomes"].append(outcome(4, "ACKNOWLEDGED"))
    insert_before(history, "mail", event("ack", 9, seq=4))
    told_of(history, 3, "NOTIFIED", "", delivery())
    assert check(history) == []
