"""A subject's recent messages and notes: what they hold, and that they share nothing."""

from services.edge.channel import Ring
from tests.edge.making import channel, entry


def test_empty_rings_share_nothing_that_is_added() -> None:
    one, other = Ring(4, 1 << 20), Ring(4, 1 << 20)
    one.add(entry("/a", 1))
    assert (len(one), len(other)) == (1, 0)
    one.clear()
    other.add(entry("/b", 9))
    assert (len(one), one.bytes, one.get(1)) == (0, 0, None)
    one.add(entry("/a", 7))  # after a clear it may begin anywhere
    assert [one.get(7), other.get(9)] == [entry("/a", 7), entry("/b", 9)]


def test_a_ring_keeps_the_newest_by_count() -> None:
    ring = Ring(2, 1 << 20)
    for seq in (1, 2, 3):
        ring.add(entry("/a", seq))
    assert [ring.get(seq) is not None for seq in (1, 2, 3)] == [False, True, True]


def test_the_oldest_notes_go() -> None:
    made = channel("/a", 0)
    made.notes_max = 3
    for number in range(1, 6):
        made.last = 10 * number
        made.note(number, float(number))
    assert [note.round for note in made.notes] == [3, 4, 5]
    assert [made.noted(number) for number in (2, 3, 9)] == [0, 30, 50]
    assert [made.noted_at(seq) for seq in (30, 31, 51)] == [3.0, 4.0, None]
