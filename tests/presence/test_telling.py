"""What an extension is called with next: order, runs, filters, gaps, bounds."""

from onward.extension.v1 import extension_pb2
from onward.types.v1 import entry_pb2

from services.presence.happenings import Happening, Page
from services.presence.telling import Gap, Messages, Pass, Presences, Read, next_step

ANN = extension_pb2.UserPresence(user="ann").SerializeToString()


def message(number: int, subject: str = "/a", seq: int = 0) -> Happening:
    return Happening(3, number, subject, seq or number, b"", 9.0)


def presence(number: int) -> Happening:
    return Happening(3, number, "", 0, ANN, 9.5)


def page(*rows: Happening, after: int = 0, tail: int = 0) -> Page:
    return Page(3, after, tail or (rows[-1].number if rows else after), rows)


def contents(*rows: Happening, text: str = "x") -> dict:
    return {
        (row.subject, row.seq): entry_pb2.Message(
            subject=row.subject, seq=row.seq, content=entry_pb2.Content(text=text)
        )
        for row in rows
    }


def steps(of: Page, patterns=(), known=None, bytes_max: int = 1_000) -> list:
    """All steps of a page whose messages are known."""
    found: list = []
    after = of.after
    while (step := next_step(of, after, patterns, known or {}, bytes_max)) is not None:
        found.append(step)
        assert not isinstance(step, Read), step
        assert step.last > after
        after = step.last
    return found


def numbers(step: Presences | Messages) -> list[int]:
    told = step.events if isinstance(step, Presences) else step.messages
    assert {one.position.partition for one in told} == {3}
    return [one.position.number for one in told]


def test_what_stands_together_of_one_kind_is_one_call():
    rows = [presence(1), presence(2), message(3), message(4), presence(5)]
    found = steps(page(*rows), known=contents(*rows[2:4]))
    assert [(type(one), numbers(one), one.last) for one in found] == [
        (Presences, [1, 2], 2),
        (Messages, [3, 4], 4),
        (Presences, [5], 5),
    ]
    assert found[0].events[0].user == "ann"
    assert found[0].events[0].at.ToNanoseconds() == 9_500_000_000
    assert found[1].messages[1].message.seq == 4


def test_messages_are_read_before_they_are_told_and_only_those_that_are_wanted():
    rows = [message(1), message(2, "/b"), message(3)]
    assert next_step(page(*rows), 0, ["/a"], {}, 99) == Read([("/a", 1), ("/a", 3)])
    # Of what has not come yet nothing is told, and nothing passed over.
    step = next_step(page(*rows), 0, ["/a"], contents(rows[0]), 99)
    assert isinstance(step, Messages) and (numbers(step), step.last) == ([1], 2)
    assert next_step(page(*rows), 2, ["/a"], contents(rows[0]), 99) == Read([("/a", 3)])


def test_messages_of_other_subjects_are_passed_over_and_presence_never_is():
    rows = [message(1, "/b/1"), message(2, "/b/2"), message(3, "/a/1"), message(4, "/b/1")]
    found = steps(page(*rows, presence(5)), ["/a/*"], contents(rows[2]))
    assert found[0] == Pass(2)
    assert (numbers(found[1]), found[1].last) == ([3], 4)
    assert numbers(found[2]) == [5]


def test_what_was_deleted_is_a_gap_wherever_it_stood():
    found = steps(page(presence(4), presence(7), after=1, tail=7))
    assert found[0] == Gap(3, 2, 3)
    assert numbers(found[1]) == [4]
    assert found[2] == Gap(3, 5, 6)
    assert numbers(found[3]) == [7]


def test_where_everything_was_deleted_the_gap_goes_up_to_the_tail():
    assert steps(page(after=3, tail=9)) == [Gap(3, 4, 9)]
    assert steps(page(after=9, tail=9)) == []


def test_a_page_that_was_cut_says_nothing_of_what_is_above():
    assert [numbers(one) for one in steps(page(presence(1), tail=500))] == [[1]]


def test_messages_that_the_log_has_trimmed_are_a_gap():
    rows = [message(1), message(2), message(3)]
    known = contents(rows[2]) | {("/a", 1): None, ("/a", 2): None}
    found = steps(page(*rows), known=known)
    assert found[0] == Gap(3, 1, 2)
    assert numbers(found[1]) == [3]


def test_a_call_holds_what_fits_and_one_at_least():
    rows = [message(n) for n in range(1, 4)]
    found = steps(page(*rows), known=contents(*rows, text="x" * 600))
    assert [numbers(one) for one in found] == [[1], [2], [3]]
    events = steps(page(presence(1), presence(2), presence(3)), bytes_max=2 * len(ANN))
    assert [numbers(one) for one in events] == [[1, 2], [3]]
