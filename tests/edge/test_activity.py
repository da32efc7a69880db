"""What a client says of its activity becomes few events, and every frame is answered."""

from typing import Any

from services.chassis.refusals import Code, refuse
from services.edge.limits import Limits
from tests.edge.fake_coordinator import FakeCoordinator
from tests.edge.making import NOW, Script, down, frame
from tests.edge.test_exchange import Run, rig
from tests.edge.test_session import codes, event


def say(script: Script, frame_id: str, active: bool, now: float = NOW) -> list[Any]:
    return script.session.on_frame(frame(frame_id, setActivity={"active": active}), now)


def sweep(script: Script, now: float) -> list[Any]:
    return script.session.on_sweep(now, 0.0, 4, False)


def appended(effects: list[Any]) -> list[Any]:
    return [effect.event for effect in effects]


def test_a_session_begins_active() -> None:
    script = Script()
    script.open()
    assert say(script, "2", True) == [down("2", done={})]


def test_a_change_is_answered_once_it_is_durable() -> None:
    script = Script()
    script.open()
    effects = say(script, "2", False)
    assert appended(effects) == [event(2, 5, activityChanged={"active": False})]
    assert say(script, "", False) == []
    assert script.session.on_recorded(2, 5) == [down("2", done={})]
    assert say(script, "3", False) == [down("3", done={})]


def test_changes_within_a_second_are_told_as_one_and_all_answered() -> None:
    script = Script()
    script.open()
    say(script, "2", False)
    script.session.on_recorded(2, 5)
    assert say(script, "3", True, NOW + 0.1) == []
    assert say(script, "4", False, NOW + 0.2) == [down("3", done={}), down("4", done={})]
    assert say(script, "5", True, NOW + 0.3) == []
    assert sweep(script, NOW + 0.9) == []
    effects = sweep(script, NOW + 1.0)
    assert appended(effects) == [event(3, 5, activityChanged={"active": True})]
    assert say(script, "6", False, NOW + 1.1) == []
    assert script.session.on_recorded(3, 5) == [down("5", done={})]
    assert appended(sweep(script, NOW + 2)) == [event(4, 5, activityChanged={"active": False})]
    assert script.session.on_recorded(4, 5) == [down("6", done={})]


def test_a_change_back_while_its_event_is_on_its_way_is_told_after_it() -> None:
    script = Script()
    script.open()
    say(script, "2", False)
    assert say(script, "3", True) == []
    assert say(script, "4", False) == []
    assert script.session.on_recorded(2, 5) == [down(one, done={}) for one in ("2", "3", "4")]
    assert sweep(script, NOW + 5) == []


def test_activity_takes_its_turn_among_what_must_be_durable() -> None:
    script = Script()
    script.open()
    script.say("2", setExternalToken={"uri": "fcm:1"})
    assert say(script, "3", False) == []
    assert script.session.on_recorded(2, 5) == [down("2", done={})]
    assert codes(sweep(script, NOW + 1)) == ["AppendPresence"]
    assert script.say("4", setExternalToken={"uri": "fcm:2"}) == []
    effects = script.session.on_recorded(3, 5)
    assert effects[0] == down("3", done={}) and codes(effects[1:]) == ["AppendPresence"]


def test_a_change_that_was_turned_down_is_refused_and_may_be_asked_again() -> None:
    script = Script()
    script.open()
    (append,) = say(script, "2", False)
    refusal = refuse(Code.STORE_FULL, "No.")
    assert codes(script.session.on_refused(2, refusal, append.event)) == ["STORE_FULL"]
    assert sweep(script, NOW + 5) == []
    assert codes(say(script, "3", False, NOW + 5)) == ["AppendPresence"]


def test_frames_that_wait_for_their_event_are_bounded() -> None:
    script = Script(Limits(frames_waiting_max=2))
    script.open()
    say(script, "2", False)
    assert say(script, "3", True) == [] and say(script, "4", False) == []
    assert codes(say(script, "5", True)) == ["OVERLOADED"]


def test_observers_have_no_activity_to_tell() -> None:
    script = Script()
    script.say("c", connect={"clientId": "c1", "acknowledges": "NONE"})
    assert say(script, "2", False) == [down("2", done={})]


def test_a_session_that_ends_tells_no_more_of_its_activity() -> None:
    script = Script()
    script.open()
    say(script, "2", False)
    say(script, "3", True)
    (append,) = script.session.on_closed(True)
    assert append.event.HasField("disconnected") and append.event.number == 3
    assert script.session.on_recorded(2, 5) == []
    assert sweep(script, NOW + 5) == []
    assert codes(script.session.on_recorded(3, 5)) == ["Finished"]


def test_activity_reaches_the_log_as_an_event_of_the_client(run: Run) -> None:
    async def main() -> None:
        async with rig(coordinator := FakeCoordinator()) as edge:
            ann = edge.client()
            await ann.connect("/a")
            ann.say(id="2", setActivity={"active": False})
            assert (await ann.get("done"))["id"] == "2"
            told = coordinator.log.events[-1]
            assert (told.user, told.client_id, told.generation) == ("ann", "c1", 1)
            assert told.HasField("activity_changed") and not told.activity_changed.active

    run(main())
