from services.edge.rings import Rings
from tests.edge.making import channel, entry

SIZE = entry("/a", 1).size


def test_the_subject_that_moved_longest_ago_gives_its_ring_up_first() -> None:
    rings = Rings(3 * SIZE)
    a, b = channel("/a", 0), channel("/b", 0)
    for seq in (1, 2):
        rings.add(a, entry("/a", seq))
    rings.add(b, entry("/b", 1))
    assert rings.bytes == 3 * SIZE and rings.given_up == 0
    rings.add(b, entry("/b", 2))
    assert [len(a.ring), len(b.ring)] == [0, 2]
    assert rings.bytes == 2 * SIZE and rings.given_up == 1


def test_a_subject_that_moves_again_is_not_the_first_to_go() -> None:
    rings = Rings(3 * SIZE)
    a, b, c = channel("/a", 0), channel("/b", 0), channel("/c", 0)
    rings.add(a, entry("/a", 1))
    rings.add(b, entry("/b", 1))
    rings.add(a, entry("/a", 2))
    rings.add(c, entry("/c", 1))
    assert [len(one.ring) for one in (a, b, c)] == [2, 0, 1]


def test_the_newest_message_stays_however_large() -> None:
    rings = Rings(SIZE)
    a = channel("/a", 0)
    for seq in (1, 2):
        rings.add(a, entry("/a", seq))
    assert len(a.ring) == 1 and rings.bytes == SIZE
    large = entry("/a", 3, text="x" * 1000)
    rings.add(a, large)
    assert a.ring.get(3) is large and rings.bytes == large.size


def test_what_is_cleared_is_given_back() -> None:
    rings = Rings(10 * SIZE)
    a = channel("/a", 0)
    rings.add(a, entry("/a", 1))
    rings.clear(a)
    rings.clear(a)
    assert rings.bytes == 0 and len(a.ring) == 0
    rings.add(a, entry("/a", 5))  # what comes next need not follow
    assert rings.bytes == SIZE
