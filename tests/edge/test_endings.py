"""What the owner of a user's partition ends, while the user is online."""

from typing import Any

from onward.coordinator.v1 import coordinator_pb2 as pb

from services.chassis.refusals import Code, refuse
from services.edge.effects import Halt, Leave
from tests.edge.fake_coordinator import FakeCoordinator
from tests.edge.making import Script
from tests.edge.test_exchange import Run, rig
from tests.edge.test_session import codes
from tests.waiting import until


def unfollowed(effect: Any) -> list[str]:
    return [one.subject for one in effect.event.unfollowed.acked]


def test_what_is_ended_is_told_and_not_sent_any_more_and_left() -> None:
    script = Script()
    script.open("/a", "/b")
    effects = script.session.on_ended(["/b", "/elsewhere"])
    assert codes(effects) == ["SUBJECT_FORBIDDEN", "Halt", "AppendPresence"]
    assert effects[0].frame.error.subject == "/b" and not effects[0].frame.id
    assert effects[1] == Halt(("/b",))
    assert unfollowed(effects[2]) == ["/b"]
    assert script.session.on_ended(["/b"]) == [Halt(("/b",))], "a repeat tells nothing new"
    assert script.session.on_recorded(2, 5) == [Leave(("/b",))]
    assert script.session.on_ended(["/b"]) == []


def test_no_subjects_are_all_subjects() -> None:
    script = Script()
    script.open("/a", "/b")
    effects = script.session.on_ended([])
    assert codes(effects) == ["SUBJECT_FORBIDDEN", "SUBJECT_FORBIDDEN", "Halt", "AppendPresence"]
    assert unfollowed(effects[-1]) == ["/a", "/b"]


def test_who_subscribes_again_afterwards_is_sent_it_again() -> None:
    script = Script()
    script.open("/a")
    script.session.on_ended(["/a"])
    script.say("2", subscribe={"subscriptions": [{"subject": "/a"}]})  # waits for its turn
    assert codes(script.session.on_recorded(2, 5)) == ["Leave", "Watch"]
    script.held.clear()
    assert codes(script.watched("/a", 10)) == ["AppendPresence"]
    assert codes(script.session.on_recorded(3, 5)) == ["Answer", "Begin"]


def test_what_is_just_being_subscribed_to_is_left_as_soon_as_it_is_durable() -> None:
    script = Script()
    script.open()
    script.say("2", subscribe={"subscriptions": [{"subject": "/b"}]})
    assert codes(script.session.on_ended(["/b"])) == ["SUBJECT_FORBIDDEN"]
    script.watched("/b", 0)
    effects = script.session.on_recorded(2, 5)
    assert codes(effects) == ["Answer", "AppendPresence"]  # and nothing of it is ever sent
    assert unfollowed(effects[-1]) == ["/b"]


def test_a_subscribe_that_fails_meanwhile_leaves_the_subject_free_for_the_next() -> None:
    script = Script()
    script.open()
    script.say("2", subscribe={"subscriptions": [{"subject": "/b"}]})
    script.session.on_ended(["/b"])
    event = script.watched("/b", 0)[0].event
    assert codes(script.session.on_refused(2, refuse(Code.STORE_FULL, "No."), event)) == [
        "Leave",
        "STORE_FULL",
    ]
    script.held.clear()
    script.say("3", subscribe={"subscriptions": [{"subject": "/b"}]})
    script.watched("/b", 0)
    assert codes(script.session.on_recorded(3, 5)) == ["Answer", "Begin"]


def test_a_client_that_is_connecting_is_told_after_its_connect() -> None:
    script = Script()
    script.say("c", connect={"clientId": "c1"})
    script.session.on_gone([])
    script.session.on_client(["/a", "/b"])
    assert script.session.on_ended(["/a"]) == []
    script.watched("/a", 3)
    append = script.watched("/b", 3)[0]
    assert append.event.connected.restores and not append.event.connected.replaces_follows
    effects = script.session.on_recorded(1, 5)
    assert codes(effects) == ["Answer", "Begin", "SUBJECT_FORBIDDEN", "Halt", "AppendPresence"]
    assert effects[0].frame.HasField("connected") and effects[1].subject == "/b"
    assert unfollowed(effects[-1]) == ["/a"]


def test_a_connect_that_is_refused_forgets_what_was_ended_meanwhile() -> None:
    script = Script()
    script.say("c", connect={"clientId": "c1"})
    script.session.on_gone([])
    script.session.on_client(["/a"])
    script.session.on_ended([])
    event = script.watched("/a", 3)[0].event
    script.session.on_refused(1, refuse(Code.STORE_FULL, "No."), event)
    script.held.clear()
    script.say("d", connect={"clientId": "c1", "subscriptions": {"list": [{"subject": "/a"}]}})
    script.session.on_gone([])
    event = script.watched("/a", 3)[0].event
    assert not event.connected.restores
    assert codes(script.session.on_recorded(1, 5)) == ["Answer", "Begin"]


def test_an_end_that_cannot_be_recorded_closes_the_session() -> None:
    script = Script()
    script.open("/a")
    append = script.session.on_ended(["/a"])[-1]
    effects = script.session.on_refused(2, refuse(Code.STORE_FULL, "No."), append.event)
    assert codes(effects) == ["STORE_FULL", "4004"]


def test_a_client_that_is_logged_out_from_elsewhere_ends_as_if_it_had_asked() -> None:
    script = Script()
    script.open("/a")
    effects = script.session.on_logged_out()
    assert codes(effects) == ["Halt", "AppendPresence"]
    assert [one.subject for one in effects[1].event.logged_out.acked] == ["/a"]
    assert codes(script.session.on_logged_out()) == ["Halt"]
    assert codes(script.session.on_recorded(2, 5)) == ["Leave", "4503"]
    assert script.session.on_logged_out() == []


def test_a_logout_from_elsewhere_waits_for_the_connect_and_comes_before_all_else() -> None:
    script = Script()
    script.say("c", connect={"clientId": "c1", "subscriptions": {"list": []}})
    assert script.session.on_logged_out() == []
    script.session.on_gone([])
    assert codes(script.session.on_recorded(1, 5)) == ["Answer", "AppendPresence"]


def test_an_observer_is_told_and_leaves_at_once_and_its_logout_closes() -> None:
    script = Script()
    observing = {"subscriptions": {"list": [{"subject": "/a"}]}}
    script.say("c", connect={"clientId": "c1", "acknowledges": "NONE", **observing})
    script.watched("/a", 3)
    script.begun("/a")
    assert codes(script.session.on_ended(["/a"])) == ["SUBJECT_FORBIDDEN", "Halt", "Leave"]
    assert codes(script.session.on_logged_out()) == ["4503"]


def test_nobody_yet_and_nobody_any_more_is_told_nothing() -> None:
    script = Script()
    assert script.session.on_ended([]) == script.session.on_logged_out() == []
    script.open("/a")
    script.session.on_closed(True)
    assert script.session.on_ended([]) == script.session.on_logged_out() == []


def test_an_ending_reaches_the_sessions_of_its_user_alone(run: Run) -> None:
    async def main() -> None:
        async with rig(coordinator := FakeCoordinator()) as edge:
            ann, other = edge.client(), edge.client()
            await ann.connect("/a", "/b")
            await other.connect("/a", client_id="b1", token="bob")
            coordinator.tell(
                endings=[
                    pb.Ending(user="ann", session_id="another", subjects=["/b"]),
                    pb.Ending(user="ann", subjects=["/a"]),
                    pb.Ending(user="eve", logged_out=True),
                ]
            )
            error = (await ann.get("error"))["error"]
            assert (error["code"], error["subject"]) == ("SUBJECT_FORBIDDEN", "/a")
            await until(lambda: coordinator.log.events[-1].HasField("unfollowed"))
            coordinator.publish("/a", "secret")
            coordinator.publish("/b", "for her")
            assert (await ann.get("message"))["message"]["subject"] == "/b"
            assert (await other.get("message"))["message"]["subject"] == "/a"

    run(main())
