"""The checker names what is wrong with a history, and finds nothing wrong with a good one."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.faults.checker import Event, check

ANN, MAIL = "ann", "ann@example.org"


def event(name: str, at: float, **fields: Any) -> Event:
    return {"event": name, "at": at, "subject": "/a", "user": ANN, "client": "ann-1", **fields}


def published(seq: int, at: float, **fields: Any) -> list[Event]:
    """A message `bob#<seq>` that is accepted."""
    own = {"publisher": "bob", "number": seq} | fields
    return [event("publish", at, **own), event("accepted", at, seq=seq, **own)]


def outcome(seq: int, state: str, reason: str = "", *deliveries: Event) -> Event:
    return {
        "from": seq, "to": seq, "state": state, "reason": reason, "deliveries": list(deliveries),
    }  # fmt: skip


def delivery(at: float = 20.0, *outcomes: str) -> Event:
    attempts = [{"at": at, "outcome": one} for one in outcomes or ["ACCEPTED"]]
    return {"id": "d1", "state": "accepted", "attempts": attempts}


def mail(at: float = 20.1, **fields: Any) -> Event:
    return event(
        "mail", at, **({"address": MAIL, "id": "d1", "count": 1, "texts": ["bob#3"]} | fields)
    )


def good() -> list[Event]:
    """Ann reads one message and acknowledges it, recovers the second, and is mailed the third."""
    return [
        event("subscribing", 1, after=None),
        event("subscribed", 1, seq=0, recovered=False, reason="", asked=False),
        event("endpoint", 1, address=MAIL),
        *published(1, 2),
        event("seen", 2, seq=1, text="bob#1"),
        event("ack", 3, seq=1),
        event("acknowledged", 3, seq=1),
        *published(2, 4),
        event("subscribing", 5, after=1),
        event("subscribed", 5, seq=2, recovered=True, reason="", asked=True),
        event("seen", 5, seq=2, text="bob#2"),
        event("synced", 5, seq=2),
        event("ack", 6, seq=2),
        event("acknowledged", 6, seq=2),
        event("told", 7, ranges=[[1, 2]]),
        *published(3, 8),
        mail(),
        event("log", 30, floor=0, after=0, texts=["bob#1", "bob#2", "bob#3"]),
        event("explained", 30, first=1, outcomes=[
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
    find(h, "log")["texts"].pop()


def replaced_in_the_log(h: list[Event]) -> None:
    insert_before(h, "mail", event("publish", 9, publisher="bob", number=4))
    find(h, "log")["texts"][2] = "bob#4"


def published_by_nobody(h: list[Event]) -> None:
    find(h, "log")["texts"].append("bob#4")


def changed_places(h: list[Event]) -> None:
    find(h, "log")["texts"][1:] = ["bob#3", "bob#2"]


def with_a_hole(h: list[Event]) -> None:
    insert_before(h, "mail", event("publish", 9, publisher="bob", number=4))
    find(h, "log")["texts"] += [None, "bob#4"]


def seen_as_another(h: list[Event]) -> None:
    insert_before(h, "subscribing", event("publish", 0, publisher="eve", number=1))
    find(h, "seen", seq=2)["text"] = "eve#1"


def another_for_another_reader(h: list[Event]) -> None:
    insert_before(h, "subscribing", event("publish", 0, publisher="eve", number=1))
    insert_before(h, "mail", event("seen", 9, client="cid", seq=1, text="eve#1"))


def one_seq_for_two(h: list[Event]) -> None:
    insert_before(h, "mail", *published(4, 9))
    find(h, "accepted", number=4)["seq"] = 3


def two_seqs_for_one(h: list[Event]) -> None:
    insert_before(h, "mail", event("accepted", 9, publisher="bob", number=3, seq=4))


def twice_in_the_log(h: list[Event]) -> None:
    find(h, "log")["texts"].append("bob#3")


def overtaken(h: list[Event]) -> None:
    late = event("publish", 8.5, publisher="bob", number=4)
    insert_before(h, "mail", late, *published(5, 9))
    find(h, "accepted", number=5)["seq"] = 4
    insert_before(h, "mail", event("accepted", 9.5, publisher="bob", number=4, seq=5))
    find(h, "log")["texts"] += ["bob#5", "bob#4"]


def in_an_earlier_term(h: list[Event]) -> None:
    insert_before(h, "log", event("partition", 30, partition=7, runs=[[1, 5, 3], [6, 6, 2]]))


def with_a_hole_between_terms(h: list[Event]) -> None:
    insert_before(h, "log", event("partition", 30, partition=7, runs=[[1, 5, 3], [7, 9, 4]]))


def seen_twice(h: list[Event]) -> None:
    insert_before(h, "synced", event("seen", 5, seq=2, text="bob#2"))


def seen_out_of_order(h: list[Event]) -> None:
    insert_before(h, "synced", event("seen", 5, seq=1, text="bob#1"))


def silent_hole(h: list[Event]) -> None:
    insert_before(h, "mail", *published(4, 9), event("seen", 9, seq=4, text="bob#4"))
    find(h, "log")["texts"].append("bob#4")


def not_all_recovered(h: list[Event]) -> None:
    h.remove(find(h, "seen", seq=2))


def moved_on_without_a_reason(h: list[Event]) -> None:
    find(h, "subscribed", seq=2).update(recovered=False)
    h.remove(find(h, "seen", seq=2))


def at_rest_too_early(h: list[Event]) -> None:
    insert_before(h, "log", event("settled", 25, seq=2))


def counted_twice(h: list[Event]) -> None:
    find(h, "mail")["count"] = 2


def decided_twice(h: list[Event]) -> None:
    outcomes = find(h, "explained")["outcomes"]
    outcomes.append(outcomes[2])


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
    insert_before(h, "mail", event("told", 9, ranges=[[3, 3]]))


def mailed_long_after_the_acknowledgement(h: list[Event]) -> None:
    insert_before(
        h, "mail", event("seen", 9, seq=3, text="bob#3"), event("ack", 9, seq=3),
        event("acknowledged", 9, seq=3),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "spoil"),
    [
        ("L1", lost), ("L1", replaced_in_the_log), ("L1", published_by_nobody),
        ("L2", changed_places), ("L2", with_a_hole), ("L2", seen_as_another),
        ("L2", another_for_another_reader), ("L2", one_seq_for_two),
        ("L3", two_seqs_for_one), ("L3", twice_in_the_log), ("L5", overtaken),
        ("L4", in_an_earlier_term), ("L4", with_a_hole_between_terms),
        ("D1", seen_twice), ("D1", seen_out_of_order), ("D1", silent_hole),
        ("D2", not_all_recovered), ("D2", moved_on_without_a_reason), ("D2", at_rest_too_early),
        ("P2", counted_twice), ("P2", decided_twice),
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


def test_a_restart_alone_is_no_reason_to_repeat_a_mail() -> None:
    history = good()
    fault = event("fault", 21, service="presence", fault="SIGKILL")
    insert_before(history, "log", fault, mail(22))
    assert [line[:2] for line in check(history)] == ["N2"]


def test_what_was_accepted_after_an_unsubscribe_may_be_suppressed() -> None:
    history = good()
    at = history.index(find(history, "publish", number=3))
    history.insert(at, event("unsubscribing", 7.5))
    history.remove(find(history, "mail"))
    told_of(history, 3, "NOT_FOLLOWED")
    assert check(history) == []


def test_an_announced_hole_is_none() -> None:
    history = good()
    insert_before(
        history, "mail", *published(4, 9), event("gap", 9, to=3),
        event("seen", 9, seq=4, text="bob#4"),
    )  # fmt: skip
    find(history, "log")["texts"].append("bob#4")
    find(history, "explained")["outcomes"].append(outcome(4, "ACKNOWLEDGED"))
    insert_before(history, "mail", event("ack", 9, seq=4))
    told_of(history, 3, "NOTIFIED", "", delivery())
    assert check(history) == []


def test_what_came_after_an_answer_that_nobody_read_may_stand_anywhere() -> None:
    history = good()
    overtaken(history)
    at = history.index(find(history, "publish", number=5))
    history.insert(at, event("refused", 8.6, publisher="bob", number=4, code="UNAVAILABLE"))
    told = outcome(4, "NOTIFIED", "", delivery() | {"id": "d2"})
    find(history, "explained")["outcomes"] += [told, told | {"from": 5, "to": 5}]
    insert_before(history, "log", mail(id="d2", count=2, texts=["bob#5", "bob#4"]))
    assert check(history) == []


def test_a_mail_mentions_again_what_was_acknowledged_after_its_first_try() -> None:
    history = good()
    insert_before(
        history, "log", event("seen", 21, seq=3, text="bob#3"), event("ack", 21, seq=3),
        event("told", 21, ranges=[[3, 3]]), mail(22, texts=[]),
    )  # fmt: skip
    again = delivery(20.0, "UNKNOWN", "ACCEPTED")
    again["attempts"][1]["at"] = 22.0
    told_of(history, 3, "NOTIFIED", "", again)
    assert check(history) == []
    find(history, "mail", texts=[])["texts"] = ["bob#3"]
    assert [line[:2] for line in check(history)] == ["N3"]


def test_an_acknowledgement_may_get_lost_while_a_fault_lasts() -> None:
    history = good()
    mailed_long_after_the_acknowledgement(history)
    insert_before(history, "mail", event("disturbed", 12))
    assert check(history) == []


def test_terms_in_order_from_any_floor_break_nothing() -> None:
    history = good()
    runs = [[4, 5, 3], [6, 6, 3], [7, 9, 1 << 50]]
    insert_before(history, "log", event("partition", 30, partition=7, runs=runs))
    assert check(history) == []


def test_an_event_that_is_not_known_is_no_history() -> None:
    with pytest.raises(KeyError):
        check([event("dropped", 1)])
