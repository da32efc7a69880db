"""The race table: late, repeated and reordered events, every order of them, give the right answer.

cN and dN are the connect and the disconnect of session N of one client, in their order of arrival.
"""

from itertools import combinations, permutations

import pytest
from offline import Client, Event, User, joined

OFFLINE_AT_THE_END = {
    "c1 d1": True,
    "c1 d1 c2": False,
    "c1 c2 d1": False,
    "c1 c2 d1 d2": True,
    "c1 c2 d2 d1": True,
    "c2 c1 d1": False,
    "c2 c1 d2": True,
    "c1 d2 c2 d1": True,
    "d1 c1": True,
    "d2 c1 d1 c2": True,
}
EVENTS = ["c1", "d1", "c2", "d2"]
ORDERS = [
    order
    for size in range(1, 5)
    for names in combinations(EVENTS, size)
    for order in permutations(names)
]


def event(name: str, client: str = "a", nobody: bool | None = None) -> Event:
    offline = name[0] == "d"
    there = offline if nobody is None else nobody
    return Event(client, Client(int(name[1:]), offline, ("/chat/1",)), ("fcm:1",), there)


def after(*names: str) -> User:
    user = User()
    for name in names:
        user = joined(user, event(name))
    return user


@pytest.mark.parametrize(("row", "offline"), OFFLINE_AT_THE_END.items())
def test_a_row_of_the_race_table(row, offline):
    assert after(*row.split()).offline is offline


@pytest.mark.parametrize("order", ORDERS, ids=" ".join)
def test_every_order_has_the_answer_of_its_newest_session(order):
    newest = max(name[1] for name in order)
    assert after(*order).offline is (f"d{newest}" in order)


@pytest.mark.parametrize("order", ORDERS, ids=" ".join)
def test_a_repeat_at_any_later_place_changes_nothing(order):
    expected = after(*order)
    for seen in range(len(order)):
        for at in range(seen + 1, len(order) + 1):
            repeated = [*order[:at], order[seen], *order[at:]]
            assert after(*repeated) == expected, repeated


def test_the_naive_answer_is_wrong_where_the_table_says_so():
    """The last event decides: what the table is there to find."""
    wrong = [
        row for row, offline in OFFLINE_AT_THE_END.items() if (row.split()[-1][0] == "d") != offline
    ]
    assert wrong == ["c1 c2 d1", "c2 c1 d1", "d1 c1", "d2 c1 d1 c2"]


def test_of_two_clients_the_one_that_is_left_counts():
    user = joined(joined(User(), event("c1", "a")), event("c1", "b"))
    user = joined(user, event("d1", "a", nobody=False))
    assert not user.offline
    assert joined(user, event("d1", "b", nobody=True)).offline


def test_a_client_that_nobody_told_of_counts_too():
    user = joined(User(), event("c1", "a"))
    user = joined(user, event("d1", "a", nobody=False))
    assert not user.offline, "presence says that somebody is there"


def test_a_new_session_brings_its_subjects_and_tokens():
    user = after("c1", "d1")
    client = Client(2, False, ("/chat/2",))
    user = joined(user, Event("a", client, ("fcm:2",), False))
    assert (user.subjects, user.tokens) == ({"/chat/2"}, ("fcm:2",))
