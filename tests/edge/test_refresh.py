"""A newer token, given without reconnecting."""

from services.chassis.refusals import Code, refuse
from services.edge.effects import Halt, Leave
from tests.edge.fake_coordinator import FakeCoordinator
from tests.edge.making import NOW, Script, down
from tests.edge.test_exchange import Run, rig
from tests.edge.test_session import codes
from tests.waiting import until


def test_a_token_that_expires_closes_unless_it_is_renewed() -> None:
    for renewed in (False, True):
        script = Script()
        script.open(token="soon")
        assert script.session.on_sweep(NOW, 4999.0, 4, False) == []
        if renewed:
            assert script.say("2", refresh={"token": "new"}) == [down("2", done={})]
        effects = script.session.on_sweep(NOW + 2, 5000.0, 5, False)
        assert codes(effects) == ([] if renewed else ["4003"])


def test_a_refresh_that_grants_less_ends_subscriptions() -> None:
    script = Script()
    script.open("/a", "/b")
    effects = script.say("2", refresh={"token": "less"})
    assert codes(effects) == ["Answer", "SUBJECT_FORBIDDEN", "Halt", "AppendPresence"]
    (error,) = [one.frame.error for one in effects[:2] if one.frame.HasField("error")]
    assert error.subject == "/b"
    assert effects[2] == Halt(("/b",))  # nothing more of it is sent, also while its end is appended
    assert [one.subject for one in effects[-1].event.unfollowed.acked] == ["/b"]
    assert script.session.on_recorded(2, 5) == [Leave(("/b",))]


def test_a_refresh_that_grants_less_also_ends_what_is_just_being_subscribed_to() -> None:
    script = Script()
    script.open("/a")
    script.say("2", subscribe={"subscriptions": [{"subject": "/b"}]})
    assert codes(script.say("3", refresh={"token": "less"})) == ["Answer", "SUBJECT_FORBIDDEN"]
    script.watched("/b", 0)
    effects = script.session.on_recorded(2, 5)
    assert codes(effects) == ["Answer", "AppendPresence"]  # and nothing of it is ever sent
    assert [one.subject for one in effects[-1].event.unfollowed.acked] == ["/b"]


def test_a_refresh_waits_for_nothing_and_the_end_of_a_subscription_for_its_turn() -> None:
    script = Script()
    script.open("/a", "/b")
    script.say("2", setExternalToken={"uri": "fcm:1"})
    effects = script.say("3", refresh={"token": "less"})
    assert codes(effects) == ["Answer", "SUBJECT_FORBIDDEN", "Halt"]
    effects = script.session.on_recorded(2, 5)
    assert codes(effects) == ["Answer", "AppendPresence"]
    assert [one.subject for one in effects[-1].event.unfollowed.acked] == ["/b"]


def test_a_subscription_whose_end_cannot_be_recorded_is_not_gone_on_with() -> None:
    script = Script()
    script.open("/a", "/b")
    append = script.say("2", refresh={"token": "less"})[-1]
    refusal = refuse(Code.STORE_FULL, "No.")
    effects = script.session.on_refused(2, refusal, append.event)
    assert codes(effects) == ["STORE_FULL", "4004"]
    # The follow is ended when the client returns with its newer token.
    acked = script.session.on_closed(True)[0].event.disconnected.acked
    assert [one.subject for one in acked] == ["/a", "/b"]


def test_what_is_ended_already_is_not_ended_again_by_the_next_refresh() -> None:
    script = Script()
    script.open("/a", "/b")
    script.say("2", refresh={"token": "less"})
    for _ in range(3):
        assert codes(script.say("3", refresh={"token": "less"})) == ["Answer", "Halt"]
    assert script.session.on_recorded(2, 5) == [Leave(("/b",))]
    assert codes(script.say("4", refresh={"token": "less"})) == ["Answer"]


def test_what_its_client_ends_itself_does_not_come_until_then_if_it_is_not_granted() -> None:
    script = Script()
    script.open("/a", "/b")
    script.say("2", setExternalToken={"uri": "fcm:1"})
    script.say("3", unsubscribe={"subjects": ["/b"]})
    assert script.say("", refresh={"token": "less"}) == [Halt(("/b",))]
    assert codes(script.session.on_recorded(2, 5)) == ["Answer", "AppendPresence"]
    assert codes(script.session.on_recorded(3, 5)) == ["Leave", "Answer"]


def test_an_observer_that_is_granted_less_leaves_at_once() -> None:
    script = Script()
    observing = {"subscriptions": {"list": [{"subject": "/a"}, {"subject": "/b"}]}}
    script.say("c", connect={"clientId": "c1", "acknowledges": "NONE", **observing})
    for subject in ("/a", "/b"):
        script.watched(subject, 3)
        script.begun(subject)
    effects = script.say("2", refresh={"token": "less"})
    assert codes(effects) == ["Answer", "SUBJECT_FORBIDDEN", "Halt", "Leave"]
    assert effects[-1] == Leave(("/b",))


def test_a_newer_token_says_anew_what_may_be_published_and_subscribed_to() -> None:
    script = Script()
    script.open()
    wanted = {"subscriptions": [{"subject": "/b"}]}
    script.say("2", refresh={"token": "less"})
    assert codes(script.say("3", subscribe=wanted)) == ["SUBJECT_FORBIDDEN"]
    assert codes(script.say("4", publish={"subject": "/b"})) == ["SUBJECT_FORBIDDEN"]
    script.say("5", refresh={"token": "more"})
    assert codes(script.say("6", publish={"subject": "/b"})) == ["AppendPublish"]
    assert codes(script.say("7", subscribe=wanted)) == ["Watch"]


def test_a_newer_token_brings_its_own_expiry() -> None:
    script = Script()
    script.open()
    assert script.say("2", refresh={"token": "soon"}) == [down("2", done={})]
    assert codes(script.session.on_sweep(NOW + 2, 5000.0, 5, False)) == ["4003"]


def test_a_token_that_is_no_good_leaves_the_former_one_in_force() -> None:
    script = Script()
    script.open(token="soon")
    for token, expected in [("bad", "TOKEN_INVALID"), ("old", "TOKEN_EXPIRED")]:
        assert codes(script.say("2", refresh={"token": token})) == [expected]
    assert codes(script.say("3", refresh={"token": "bob"})) == ["TOKEN_INVALID"]
    assert codes(script.say("4", publish={"subject": "/a"})) == ["AppendPublish"]
    assert codes(script.session.on_sweep(NOW + 2, 5000.0, 5, False)) == ["4003"]


def test_what_is_no_longer_granted_does_not_come_any_more_even_before_its_end_is_durable(
    run: Run,
) -> None:
    async def main() -> None:
        async with rig(coordinator := FakeCoordinator()) as edge:
            ann = edge.client()
            await ann.connect("/a", "/b")
            coordinator.mute_events = True
            ann.say(id="2", refresh={"token": "less"})
            await ann.get("done")
            coordinator.publish("/b", "secret")
            coordinator.publish("/a", "for her")
            assert (await ann.get("message"))["message"]["subject"] == "/a"
            await until(lambda: coordinator.log.events[-1].HasField("unfollowed"))
            assert len([one for one in ann.told if "message" in one]) == 1

    run(main())
