"""Who is known to fail alone, and who is not."""

from services.presence import misfits
from services.presence.misfits import Misfits
from services.presence.notifications import Answer, Delivery, DeliveryState, Outcome

WRONG = Answer(Outcome.MISCONFIGURED)
DOWN = Answer(Outcome.PROVIDER_UNAVAILABLE)


def tried(own_id: str = "a") -> Delivery:
    return Delivery(own_id, "n", "ann", "/a", "fcm:x", DeliveryState.SENDING, None, 9.0)


def learnt(*told: Answer, others_served: bool = True) -> bool:
    found, one = Misfits(), tried()
    for answer in told:
        found.learn([one], {one.id: answer}, others_served)
    return one.id in found


def test_who_is_refused_again_while_others_are_served_is_one() -> None:
    assert learnt(WRONG, WRONG)
    assert learnt(DOWN, WRONG)
    assert learnt(WRONG, Answer(Outcome.NOT_BEGUN), DOWN), "of which nothing was learnt between"


def test_who_is_refused_for_the_first_time_is_none() -> None:
    assert not learnt(WRONG)
    for outcome in set(Outcome) - {WRONG.outcome, DOWN.outcome}:
        assert not learnt(Answer(outcome), WRONG), "whatever became of its earlier tries"
    assert not learnt(WRONG, Answer(Outcome.RETRY), WRONG), "its provider has answered between"


def test_who_is_refused_while_nobody_is_served_is_none() -> None:
    assert not learnt(WRONG, WRONG, others_served=False)
    assert not learnt(DOWN, DOWN, others_served=False)


def test_its_first_refusal_may_have_been_one_of_all() -> None:
    found = Misfits()
    found.learn([tried()], {"a": DOWN}, others_served=False)
    found.learn([tried()], {"a": DOWN}, others_served=True)
    assert "a" in found


def test_other_outcomes_make_none() -> None:
    for outcome in set(Outcome) - {WRONG.outcome, DOWN.outcome}:
        assert not learnt(Answer(outcome), Answer(outcome))


def test_who_is_one_remains_one_until_anything_else_becomes_of_it() -> None:
    found = Misfits()
    for _ in range(2):
        found.learn([tried()], {"a": WRONG}, others_served=True)
    found.learn([tried()], {"a": WRONG}, others_served=False)
    found.learn([tried()], {"a": DOWN}, others_served=False)
    found.learn([tried()], {"a": Answer(Outcome.NOT_BEGUN)}, others_served=True)
    assert "a" in found
    found.learn([tried()], {"a": Answer(Outcome.ACCEPTED)}, others_served=True)
    assert "a" not in found


def test_the_oldest_are_forgotten(monkeypatch) -> None:
    monkeypatch.setattr(misfits, "KEPT_MAX", 2)
    found = Misfits()
    for own_id in "abc":
        for _ in range(2):
            found.learn([tried(own_id)], {own_id: WRONG}, others_served=True)
    assert [own_id in found for own_id in "abc"] == [False, True, True]
