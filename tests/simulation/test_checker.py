"""What the judge of stories calls a breach of presence: one hand-made history for each."""

from typing import Any

import pytest

from tests.simulation.checker import Checker

S, USER, WHO, URI = "/s/0", "ann", "ann-a", "fcm:t"
Records = list[dict[str, Any]]


def said(kind: str, **fields: Any) -> dict[str, Any]:
    return {"event": kind, "at": 0.0, **fields}


def base() -> Records:
    """A client that follows from the start, with an external token, and one accepted message."""
    return [
        said("claim", partition=0, epoch=1, owner="c1"),
        said("term", term=7, name="pr1"),
        said("taken", partition=0, epoch=1, term=7),
        said("subscribed", who=WHO, user=USER, session=1, subject=S, seq=0, recovered=False,
             asked=None, reason=""),
        said("token", user=USER, uri=URI),
        said("publish", who="bob", user="bob", number=1, subject=S),
        said("append", partition=0, epoch=1, rows=[(1, S, 1, b"bob#1")]),
        said("accepted", who="bob", number=1, subject=S, seq=1),
        said("reported", partition=0, pos=1, entry=b"bob#1"),
        said("commit", who="pr1", term=7),
        said("cursor", partition=0, pos=1),
    ]  # fmt: skip


def claimed(attempt: int = 1, own_id: str = "d1") -> dict[str, Any]:
    return said("claimed", delivery=own_id, attempt=attempt, user=USER, subject=S)


def handed(attempt: int = 1, own_id: str = "d1", repeats: bool = True) -> dict[str, Any]:
    return said(
        "handed", delivery=own_id, attempt=attempt, uri=URI, user=USER, subject=S, first=1, last=1,
        count=1, seqs=[1], repeats=repeats,
    )  # fmt: skip


def answered(attempt: int = 1, outcome: str = "ACCEPTED", own_id: str = "d1") -> dict[str, Any]:
    return said("answered", delivery=own_id, attempt=attempt, outcome=outcome)


def decided(notification: str = "n1", reason: str = "") -> dict[str, Any]:
    return said(
        "decided", user=USER, subject=S, first=1, last=1, notification=notification, reason=reason
    )


def delivery(state: str = "accepted", own_id: str = "d1", uri: str = URI) -> dict[str, Any]:
    return said(
        "delivery", delivery=own_id, notification="n1", user=USER, subject=S, uri=uri, state=state,
        reason="",
    )  # fmt: skip


def attempt(outcome: str = "ACCEPTED", number: int = 1) -> dict[str, Any]:
    return said("attempt", delivery="d1", attempt=number, outcome=outcome)


ACKS = said("acks", who=WHO, user=USER, positions={S: 1})
KNOWN = said("known", user=USER, subject=S, base=0, acked=1)
THERE = said("there", who=WHO)
FAULT = said("fault", what="crash")
SENT = [claimed(), handed(), answered()]
END = [decided(), delivery(), attempt()]
AGAIN = [claimed(2), handed(2), answered(2)]


def check(*records: dict[str, Any]) -> list[str]:
    return Checker(lambda entry: entry.decode()).check([*base(), *records])


@pytest.mark.parametrize(
    "records",
    [
        [*SENT, *END],
        [ACKS],
        [THERE],
        [ACKS, decided("", "ACKNOWLEDGED")],
        [claimed(), handed(), answered(outcome="RETRY"), *AGAIN, decided(), delivery(),
         attempt("RETRY"), attempt(number=2)],
        [FAULT, *SENT, *AGAIN, decided(), delivery(), attempt("UNKNOWN"), attempt(number=2)],
        [claimed(), handed(), answered(outcome="UNKNOWN"), decided(), delivery("unknown"),
         attempt("UNKNOWN")],
        [*SENT, ACKS, KNOWN, *END],
        [FAULT, claimed(), claimed(2), handed(2), answered(2), handed(), answered(), decided(),
         delivery(), attempt("UNKNOWN"), attempt(number=2)],
    ],
    ids=["told", "acknowledged", "there", "known", "retried", "in doubt", "unknown", "late ack",
         "stopped"],
)  # fmt: skip
def test_what_presence_may_do_is_no_breach(records: Records) -> None:
    assert check(*records) == []


@pytest.mark.parametrize(
    ("rule", "records"),
    [
        ("N1: 1 of /s/0 for ann was neither", []),
        ("N1: 1 of /s/0 for ann was decided 2 times", [*SENT, *END, decided("", "PUBLISHER")]),
        ("N1: 1 of /s/0 for ann was suppressed as", [decided("", "PUBLISHER")]),
        ("N1: 1 of /s/0 for ann is called acknowledged", [decided("", "ACKNOWLEDGED")]),
        ("N1: 1 of /s/0 for ann was suppressed (NO_E", [decided("", "NO_ENDPOINT")]),
        ("N1: 1 of /s/0 for ann is pending at the end", [decided(), delivery("pending")]),
        ("N1: 1 of /s/0 for ann is sending", [claimed(), decided(), delivery("sending")]),
        ("N1: 1 of /s/0 for ann was cancelled", [decided(), delivery("cancelled")]),
        ("N1: 1 of /s/0 for ann was never told", [decided(), delivery(), attempt()]),
        ("N1: 1 of /s/0 for ann goes to nobody", [decided()]),
        ("N2: 1 of /s/0 to fcm:t was sent as d1 and d2",
         [*SENT, claimed(own_id="d2"), handed(own_id="d2"), *END]),
        ("N2: d1 to fcm:t was sent again after 1", [FAULT, *SENT, *AGAIN, *END]),
        ("N2: d1 to fcm:t was sent again after 1",
         [*SENT, *AGAIN, decided(), delivery(), attempt("UNKNOWN")]),
        ("N2: d1 to fcm:t was sent twice as 1", [FAULT, *SENT, handed(), *END]),
        ("N2: d1 to fcm:t was sent again after 1, which may have come",
         [FAULT, claimed(), handed(), claimed(2), handed(2, repeats=False), answered(2),
          decided(), delivery(), attempt("CALL_TIMED_OUT"), attempt(number=2)]),
        ("N3: 1 of /s/0 to fcm:t was known", [KNOWN, ACKS, *SENT, *END]),
        ("P2: /s/0 to fcm:t was sent as d1, 1, and never", [handed(), answered(), *END]),
        ("P2: presence took 0 of 0 after 1", [THERE, said("cursor", partition=0, pos=0)]),
        ("P2: presence took 2 of 0, which ends at 1",
         [THERE, said("reported", partition=0, pos=2, entry=None),
          said("cursor", partition=0, pos=2)]),
        ("P2: presence passed over entries of 0 before 3",
         [THERE, said("append", partition=0, epoch=1, rows=[(2, None, None, b""),
                                                            (3, None, None, b"")]),
          said("reported", partition=0, pos=3, entry=b""), said("cursor", partition=0, pos=3)]),
        ("L2: presence was told another entry",
         [THERE, said("reported", partition=0, pos=1, entry=b"bob#2")]),
        ("P2: 0 of presence was taken in 1 after 1",
         [THERE, said("taken", partition=0, epoch=1, term=8)]),
        ("P2: pr1 committed in term 7, which is closed",
         [THERE, said("term", term=8, name="pr2"), said("taken", partition=0, epoch=2, term=8),
          said("commit", who="pr1", term=7)]),
        ("P2: pr1 committed in term 7, which is closed",
         [THERE, said("term_closed", term=7), said("commit", who="pr1", term=7)]),
        ("P2: pr1 committed in term 7, which is closed",
         [THERE, said("term", term=8, name="pr1"), said("commit", who="pr1", term=7)]),
    ],
)  # fmt: skip
def test_a_breach_is_named(rule: str, records: Records) -> None:
    broken = check(*records)
    assert len(broken) == 1, broken
    assert broken[0].startswith(rule)


def test_a_partition_that_was_let_go_is_taken_without_closing_a_term() -> None:
    assert not check(
        THERE,
        said("taken", partition=0, epoch=1, term=0),
        said("term", term=8, name="pr2"),
        said("taken", partition=0, epoch=2, term=8),
        said("commit", who="pr1", term=7),
    )
