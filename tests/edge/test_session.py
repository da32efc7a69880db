from typing import Any

import pytest
from google.protobuf import json_format
from onward.client.v1 import client_pb2
from onward.types.v1 import entry_pb2

from services.chassis.refusals import Code, code_name, refuse
from services.edge.effects import (
    Answer,
    AppendPresence,
    AppendPublish,
    AskGone,
    Begin,
    Close,
    Finished,
    Leave,
    Ping,
    ReadClient,
    ReadHistory,
    Watch,
)
from services.edge.limits import Limits
from services.edge.recovery import Read
from tests.edge.making import EDGE, NOW, Script, down, entries

Kind = client_pb2.Message.Kind
LIST: dict[str, Any] = {"list": []}


def event(number: int, generation: int = 0, round_number: int = 0, **kind: Any) -> Any:
    """A presence event of the session, from JSON-like values."""
    value = {
        "user": "ann",
        "clientId": "c1",
        "sessionId": "s1",
        "number": number,
        "generation": generation,
        "edgeId": EDGE,
        "round": round_number,
        **kind,
    }
    return json_format.ParseDict(value, entry_pb2.PresenceEvent())


def connected(subjects: list[dict[str, Any]], **fields: Any) -> Answer:
    value: dict[str, Any] = {
        "sessionId": "s1",
        "generation": 5,
        "logId": "L",
        "edgeId": str(EDGE),
        "user": "ann",
        "clientId": "c1",
        "pingIntervalMs": 24000,
        "limits": {
            "contentBytesMax": 65536,
            "dedupeWindowMs": 3600000,
            "frameBytesMax": 524288,
            "headersBytesMax": 4096,
            "subscriptionsMax": 1000,
            "publishesPerS": 100,
        },
        "subscriptions": subjects,
    }
    return down("c", connected=value | fields)


def codes(effects: list[Any]) -> list[str]:
    """The codes of refusals among the effects, and of closes."""
    found = []
    for effect in effects:
        if isinstance(effect, Answer) and effect.frame.HasField("error"):
            found.append(code_name(effect.frame.error))
        elif isinstance(effect, Close):
            found.append(str(effect.code))
        else:
            found.append(type(effect).__name__)
    return found


# Connect


def test_connect_watches_reads_appends_and_only_then_answers() -> None:
    script = Script()
    session = script.session
    subscriptions = {"list": [{"subject": "/a", "afterSeq": "7"}, {"subject": "/b"}]}
    assert script.say(
        "c",
        connect={
            "clientId": "c1",
            "lastGeneration": "4",
            "logId": "L",
            "acknowledges": "EXPLICIT",
            "externalTokens": [{"uri": "mailto:ann@example.org"}],
            "info": {"app": "chat"},
            "subscriptions": subscriptions,
        },
    ) == [AskGone("ann", "c1"), Watch("/a"), Watch("/b")]
    assert session.on_gone(["fcm:old"]) == []
    assert script.watched("/a", 10) == [ReadHistory("/a", 7, 10)]
    assert script.watched("/b", 0) == []
    backlog = entries("/a", 8, 10)
    expected = event(
        1,
        round_number=3,
        connected={
            "lastGeneration": 4,
            "replacesFollows": True,
            "follows": [{"subject": "/a", "start": 7}, {"subject": "/b", "start": 0}],
            "endpoints": ["mailto:ann@example.org"],
            "acknowledges": True,
            "info": {"app": "chat"},
            "endpointsGoneTold": ["fcm:old"],
        },
    )
    assert session.on_history("/a", Read(backlog, 10, 0)) == [AppendPresence(expected)]
    assert script.held["/a"].acked == 7 and script.held["/a"].round == 3
    states = [
        {"subject": "/a", "seq": 10, "recovered": True},
        {"subject": "/b", "seq": 0},
    ]
    assert session.on_recorded(1, 5) == [
        connected(states, endpointsGone=["fcm:old"]),
        Begin("/a", 10, backlog, Kind.RECOVERED, synced=True),
        Begin("/b", 0, (), Kind.HISTORY, synced=False),
    ]


def test_connect_without_a_list_takes_all_follows_of_the_client() -> None:
    script = Script()
    assert script.say("c", connect={"clientId": "c1"}) == [
        AskGone("ann", "c1"),
        ReadClient("ann", "c1"),
    ]
    assert script.session.on_client(["/a", "/b"]) == [Watch("/a"), Watch("/b")]
    assert script.session.on_client(["/a"]) == []
    script.watched("/a", 3)
    script.watched("/b", 4)
    (append,) = script.session.on_gone([])
    assert not append.event.connected.replaces_follows
    assert [(f.subject, f.start) for f in append.event.connected.follows] == [("/a", 3), ("/b", 4)]


def test_a_follow_that_is_no_longer_granted_is_ended_by_the_return() -> None:
    script = Script()
    script.say("c", connect={"clientId": "c1", "token": "less"})
    assert script.session.on_client(["/a", "/b", "/secret/x"]) == [Watch("/a")]
    script.watched("/a", 3)
    (append,) = script.session.on_gone([])
    assert append.event.connected.replaces_follows


def test_a_client_without_an_id_is_given_one() -> None:
    script = Script()
    assert script.say("c", connect={"subscriptions": LIST}) == [AskGone("ann", "c-s1")]


def test_positions_of_another_log_are_not_recovered() -> None:
    script = Script()
    listed = {"list": [{"subject": "/a", "afterSeq": "7"}]}
    script.say("c", connect={"clientId": "c1", "logId": "M", "subscriptions": listed})
    script.session.on_gone([])
    (append,) = script.watched("/a", 10)
    assert append.event.connected.follows[0].start == 10
    state = {"subject": "/a", "seq": 10, "recovered": False, "reason": "LOG_REPLACED"}
    assert script.session.on_recorded(1, 5)[0] == connected([state])


@pytest.mark.parametrize(
    ("connect", "expected"),
    [
        ({"clientId": "x" * 129}, ["CLIENT_ID_INVALID"]),
        ({"clientId": "a\nb"}, ["CLIENT_ID_INVALID"]),
        ({"clientId": "@backend"}, ["CLIENT_ID_INVALID"]),
        ({"acknowledges": 9}, ["FRAME_MALFORMED"]),
        ({"token": "unnamed"}, ["CLIENT_ID_INVALID"]),
        ({"token": "bad"}, ["TOKEN_INVALID", "4500"]),
        ({"token": "old"}, ["TOKEN_EXPIRED", "4003"]),
        ({"info": {"a": "x" * 5000}}, ["ARGUMENT_INVALID"]),
        ({"externalTokens": [{"uri": "nowhere"}]}, ["EXTERNAL_TOKEN_INVALID"]),
        ({"externalTokens": [{"uri": "mailto:eve@example.org"}]}, ["EXTERNAL_TOKEN_FORBIDDEN"]),
        ({"externalTokens": [{"uri": f"fcm:{n}"} for n in range(17)]},
         ["TOO_MANY_EXTERNAL_TOKENS"]),
        ({"externalTokens": [{"uri": "fcm:1"}], "acknowledges": "NONE"}, ["UNSUPPORTED"]),
        ({"subscriptions": {"list": [{"subject": "a"}]}}, ["SUBJECT_INVALID"]),
        ({"subscriptions": {"list": [{"subject": "/secret/a"}]}}, ["SUBJECT_FORBIDDEN"]),
        ({"subscriptions": {"list": [{"subject": "/a"}] * 2}}, ["ARGUMENT_INVALID"]),
        ({"subscriptions": {"list": [{"subject": "/a", "history": 0}]}}, ["ARGUMENT_INVALID"]),
        ({"subscriptions": {"list": [{"subject": "/a", "history": 1001}]}}, ["ARGUMENT_INVALID"]),
        ({"subscriptions": {"list": [{"subject": f"/{n}"} for n in range(1001)]}},
         ["TOO_MANY_SUBSCRIPTIONS"]),
    ],
)  # fmt: skip
def test_a_connect_that_cannot_be_is_refused(connect: Any, expected: list[str]) -> None:
    script = Script()
    assert codes(script.say("c", connect=connect)) == expected
    if len(expected) == 1:  # the connection stays open for another try
        assert script.say("c", connect={"clientId": "c1"})[0] == AskGone("ann", "c1")
    else:
        assert script.say("c", connect={"clientId": "c1"}) == []


def test_a_stale_session_is_refused_and_may_try_again() -> None:
    script = Script()
    listed = {"list": [{"subject": "/a"}]}
    script.say("c", connect={"clientId": "c1", "subscriptions": listed})
    script.session.on_gone([])
    (append,) = script.watched("/a", 10)
    stale = refuse(Code.STALE_SESSION, "Newer.")
    stale.generation = 8
    assert script.session.on_refused(1, stale, append.event) == [
        Leave(("/a",)),
        Answer(client_pb2.ServerFrame(id="c", error=stale)),
    ]
    again = {"clientId": "c1", "lastGeneration": "8", "subscriptions": listed}
    assert script.say("c", connect=again) == [AskGone("ann", "c1"), Watch("/a")]
    script.held.clear()
    script.session.on_gone([])
    (append,) = script.watched("/a", 10)
    assert append.event.number == 1 and append.event.connected.last_generation == 8
    assert codes(script.session.on_recorded(1, 9)) == ["Answer", "Begin"]


def test_an_observer_has_no_events() -> None:
    script = Script()
    listed = {"list": [{"subject": "/a"}]}
    assert script.say("c", connect={"acknowledges": "NONE", "subscriptions": listed}) == [
        Watch("/a")
    ]
    assert codes(script.watched("/a", 10)) == ["Answer", "Begin"]
    script.begun("/a")
    script.channels["/a"].last = 12
    assert script.session.on_sweep(NOW + 99, 0, 4, False) == []
    assert codes(script.say("2", setExternalToken={"uri": "fcm:1"})) == ["UNSUPPORTED"]
    assert script.say("3", unsubscribe={"subjects": ["/a"]}) == [
        Leave(("/a",)),
        down("3", done={}),
    ]
    assert codes(script.say("4", logout={})) == ["Answer", "4503"]
    assert script.session.on_closed(False) == [Finished()]


@pytest.mark.parametrize(
    "kind",
    [
        {"subscribe": {}}, {"unsubscribe": {}}, {"publish": {}}, {"setExternalToken": {}},
        {"removeExternalToken": {}}, {"setActivity": {}}, {"refresh": {}}, {"logout": {}},
        {"ack": {}},
    ],
)  # fmt: skip
def test_frames_before_connect_are_refused(kind: Any) -> None:
    script = Script()
    assert codes(script.say("1", **kind)) == ["CONNECT_REQUIRED"]
    script.say("c", connect={"clientId": "c1"})
    assert codes(script.say("1", **kind)) == ["CONNECT_REQUIRED"]


def test_a_second_connect_is_refused() -> None:
    script = Script()
    script.say("c", connect={"clientId": "c1", "subscriptions": LIST})
    assert codes(script.say("d", connect={})) == ["ALREADY_CONNECTED"]
    script.session.on_gone([])
    script.session.on_recorded(1, 5)
    assert codes(script.say("e", connect={})) == ["ALREADY_CONNECTED"]


# Subscribe and unsubscribe


def test_subscribe_is_answered_after_its_event_is_durable() -> None:
    script = Script()
    script.open("/a")
    listed = {"subscriptions": [{"subject": "/b", "history": 2}]}
    assert script.say("2", subscribe=listed) == [Watch("/b")]
    assert script.watched("/b", 10) == [ReadHistory("/b", 8, 10)]
    backlog = entries("/b", 9, 10)
    followed = event(2, 5, round_number=3, followed={"follows": [{"subject": "/b", "start": 10}]})
    assert script.session.on_history("/b", Read(backlog, 10, 0)) == [AppendPresence(followed)]
    assert script.session.on_recorded(2, 5) == [
        down("2", subscribed={"subscriptions": [{"subject": "/b", "seq": 10}]}),
        Begin("/b", 10, backlog, Kind.HISTORY, synced=True),
    ]


def test_starting_anew_keeps_what_was_acknowledged() -> None:
    script = Script()
    script.open("/a", acknowledges="EXPLICIT")
    script.held["/a"].acked = 9
    script.say("2", subscribe={"subscriptions": [{"subject": "/a", "afterSeq": "4"}]})
    script.watched("/a", 10)
    script.session.on_history("/a", Read(entries("/a", 5, 10), 10, 0))
    script.session.on_recorded(2, 5)
    assert script.held["/a"].acked == 9


def test_a_subscription_refused_by_its_owner_leaves_the_others_alone() -> None:
    script = Script()
    script.open("/a")
    script.say("2", subscribe={"subscriptions": [{"subject": "/a"}, {"subject": "/b"}]})
    script.watched("/a", 10)
    (append,) = script.watched("/b", 3)
    refusal = refuse(Code.STORE_FULL, "Full.")
    effects = script.session.on_refused(2, refusal, append.event)
    assert effects[0] == Leave(("/b",)) and codes(effects[1:]) == ["STORE_FULL"]
    assert script.session.on_closed(False)[0].event.disconnected.acked == [
        entry_pb2.Position(subject="/a", seq=10)
    ]


def test_a_log_that_nobody_can_read_refuses_the_subscription() -> None:
    script = Script()
    script.open()
    script.say("2", subscribe={"subscriptions": [{"subject": "/b", "afterSeq": "1"}]})
    script.watched("/b", 3)
    assert codes(script.session.on_history("/b", None)) == ["Leave", "UNAVAILABLE"]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ({"subscribe": {}}, ["ARGUMENT_INVALID"]),
        ({"subscribe": {"subscriptions": [{"subject": "/secret"}]}}, ["SUBJECT_FORBIDDEN"]),
        ({"unsubscribe": {}}, ["ARGUMENT_INVALID"]),
        ({"setExternalToken": {"uri": "x"}}, ["EXTERNAL_TOKEN_INVALID"]),
        ({"setExternalToken": {"uri": "mailto:eve@example.org"}}, ["EXTERNAL_TOKEN_FORBIDDEN"]),
        ({"removeExternalToken": {"uri": ""}}, ["EXTERNAL_TOKEN_INVALID"]),
        ({"publish": {"subject": "x"}}, ["SUBJECT_INVALID"]),
        ({"publish": {"subject": "/read/x"}}, ["SUBJECT_FORBIDDEN"]),
        ({"publish": {"subject": "/a", "retain": True, "transient": True}}, ["ARGUMENT_INVALID"]),
        ({"publish": {"subject": "/a", "text": "x" * 65537}}, ["CONTENT_TOO_LARGE"]),
        ({"publish": {"subject": "/a", "text": "ä" * 32769}}, ["CONTENT_TOO_LARGE"]),
        ({"publish": {"subject": "/a", "headers": {"a": "x" * 4096}}}, ["HEADERS_TOO_LARGE"]),
        ({"publish": {"subject": "/a", "headers": {"": "x"}}}, ["HEADERS_TOO_LARGE"]),
        ({"publish": {"subject": "/a", "publicationId": "x" * 129}}, ["PUBLICATION_ID_INVALID"]),
        ({"publish": {"subject": "/a", "publicationId": "a\x00"}}, ["PUBLICATION_ID_INVALID"]),
        ({"refresh": {"token": "bad"}}, ["TOKEN_INVALID"]),
        ({"refresh": {"token": "old"}}, ["TOKEN_EXPIRED"]),
        ({"refresh": {"token": "bob"}}, ["TOKEN_INVALID"]),
    ],
)
def test_what_may_not_be_is_refused_and_the_session_goes_on(kind: Any, expected: list[str]) -> None:
    script = Script()
    script.open()
    assert codes(script.say("2", **kind)) == expected
    assert script.say("3", setActivity={"active": True}) == [down("3", done={})]


def test_unsubscribe_tells_what_was_acknowledged_and_goes_on_until_it_is_durable() -> None:
    script = Script()
    script.open("/a", "/b", acknowledges="EXPLICIT")
    subjects = {"subjects": ["/b", "/none", "/b"]}
    unfollowed = event(2, 5, unfollowed={"acked": [{"subject": "/b", "seq": 10}]})
    assert script.say("2", unsubscribe=subjects) == [AppendPresence(unfollowed, ending=True)]
    assert script.session.on_recorded(2, 5) == [Leave(("/b",)), down("2", done={})]
    assert script.say("3", unsubscribe={"subjects": ["/b"]}) == [down("3", done={})]


def test_what_must_be_durable_goes_one_at_a_time_in_order() -> None:
    script = Script(Limits(frames_waiting_max=2))
    script.open("/a")
    assert codes(script.say("2", setExternalToken={"uri": "fcm:1", "replaces": "fcm:0"})) == [
        "AppendPresence"
    ]
    assert script.say("3", subscribe={"subscriptions": [{"subject": "/b"}]}) == []
    assert script.say("4", unsubscribe={"subjects": ["/a"]}) == []
    assert codes(script.say("5", removeExternalToken={"uri": "fcm:1"})) == ["OVERLOADED"]
    assert codes(script.say("6", publish={"subject": "/a", "text": "x"})) == ["AppendPublish"]
    assert script.session.on_recorded(2, 5) == [down("2", done={}), Watch("/b")]
    assert codes(script.watched("/b", 1)) == ["AppendPresence"]
    assert codes(script.session.on_recorded(3, 5)) == ["Answer", "Begin", "AppendPresence"]
    assert script.session.on_recorded(4, 5) == [Leave(("/a",)), down("4", done={})]


def test_frames_that_wait_are_bounded_in_bytes_too() -> None:
    script = Script(Limits(frames_waiting_bytes_max=300))
    script.open()
    script.say("2", setExternalToken={"uri": "fcm:1"})
    assert script.say("3", unsubscribe={"subjects": ["/" + "x" * 200]}) == []
    assert codes(script.say("4", unsubscribe={"subjects": ["/" + "x" * 200]})) == ["OVERLOADED"]
    assert script.session.on_recorded(2, 5) == [down("2", done={}), down("3", done={})]


def test_an_edge_without_room_refuses_subscriptions_and_nothing_else() -> None:
    script = Script()
    script.place.full = True
    listed = {"list": [{"subject": "/a"}]}
    assert codes(script.say("c", connect={"clientId": "c1", "subscriptions": listed})) == [
        "OVERLOADED"
    ]
    script.open()
    subscribe = {"subscriptions": [{"subject": "/a"}]}
    assert codes(script.say("2", subscribe=subscribe)) == ["OVERLOADED"]
    assert codes(script.say("3", publish={"subject": "/a"})) == ["AppendPublish"]


def test_an_edge_without_room_refuses_a_return_to_all_follows() -> None:
    script = Script()
    script.say("c", connect={"clientId": "c1"})
    script.session.on_gone([])
    script.place.full = True
    assert codes(script.session.on_client(["/a"])) == ["OVERLOADED"]
    script.place.full = False
    assert script.say("d", connect={"clientId": "c1"})[0] == AskGone("ann", "c1")


def test_what_all_subscriptions_of_a_frame_recover_is_bounded() -> None:
    size = sum(len(one.before) + len(one.after) for one in entries("/a", 1, 5))
    script = Script(Limits(recoveries_bytes_max=round(1.5 * size)))
    listed = [{"subject": subject, "afterSeq": "0"} for subject in ("/a", "/b")]
    script.say("c", connect={"clientId": "c1", "subscriptions": {"list": listed}})
    script.session.on_gone([])
    for subject in ("/a", "/b"):
        script.watched(subject, 5)
    assert script.session.on_history("/a", Read(entries("/a", 1, 5), 5, 0)) == []
    script.session.on_history("/b", Read(entries("/b", 1, 5), 5, 0))
    answer = script.session.on_recorded(1, 5)[0]
    states = [(one.recovered, one.reason) for one in answer.frame.connected.subscriptions]
    assert states == [(True, 0), (False, client_pb2.SubscriptionState.TOO_MANY)]


def test_no_answer_is_sent_where_none_is_wanted_but_a_refusal_is() -> None:
    script = Script()
    script.open()
    assert codes(script.say(setExternalToken={"uri": "fcm:1"})) == ["AppendPresence"]
    assert script.session.on_recorded(2, 5) == []
    assert script.say(ack={}) == []
    assert codes(script.say(publish={"subject": "/read/x"})) == ["SUBJECT_FORBIDDEN"]


# Publish


def test_publish_is_appended_in_the_users_name_and_answered() -> None:
    script = Script()
    script.open()
    publish = {"subject": "/a", "text": "hi", "publicationId": "p", "headers": {"title": "Ann"}}
    parsed = json_format.ParseDict(publish, client_pb2.Publish())
    assert script.say("2", publish=publish) == [AppendPublish("2", "ann", parsed)]
    published = client_pb2.Published(seq=4, epoch=7, duplicate=True)
    assert script.session.on_published("2", published) == [
        down("2", published={"seq": 4, "epoch": 7, "duplicate": True})
    ]
    assert script.session.on_published("", published) == []
    refusal = refuse(Code.PUBLICATION_ID_REUSED, "No.")
    assert codes(script.session.on_published("", refusal)) == ["PUBLICATION_ID_REUSED"]


def test_a_session_that_publishes_too_fast_is_told_when_to_go_on() -> None:
    script = Script(Limits(publishes_per_s=10, publishes_burst=2))
    script.open()
    publish = {"subject": "/a", "text": "x"}
    for _ in range(2):
        assert codes(script.say("2", publish=publish)) == ["AppendPublish"]
    (answer,) = script.say("3", publish=publish)
    assert answer.frame.error.code == Code.RATE_LIMITED
    assert answer.frame.error.retry_after_ms == 100
    later = client_pb2.ClientFrame(publish=client_pb2.Publish(subject="/a"))
    assert codes(script.session.on_frame(later, NOW + 0.1)) == ["AppendPublish"]


# Acknowledgements and times


def test_an_ack_counts_alone_and_riding_and_is_answered_if_it_has_an_id() -> None:
    script = Script()
    script.open("/a", acknowledges="EXPLICIT")
    one = script.held["/a"]
    one.channel.last = one.sent = 20
    assert script.say("2", ack={"positions": [{"subject": "/a", "seq": "15"}]}) == [
        down("2", done={})
    ]
    assert one.acked == 15
    script.say("", publish={"subject": "/b"}, ack={"positions": [{"subject": "/a", "seq": "18"}]})
    assert one.acked == 18


def test_explicit_sessions_are_pinged_in_turn_only() -> None:
    script = Script()
    script.open("/a", acknowledges="EXPLICIT")
    script.held["/a"].channel.last = 12
    assert script.session.on_sweep(NOW + 2, 0, 4, False) == []
    assert script.session.on_sweep(NOW + 4, 0, 5, True) == [Ping(5)]
    script.session.on_pong(b"5")
    assert script.held["/a"].acked == 10


def test_pong_sessions_are_pinged_while_they_owe_and_their_pong_acknowledges() -> None:
    script = Script()
    script.open("/a", acknowledges="PONG")
    one = script.held["/a"]
    assert script.session.on_sweep(NOW + 2, 0, 4, False) == []
    one.channel.last = one.sent = 12
    one.channel.note(5, NOW + 4)
    assert script.session.on_sweep(NOW + 4, 0, 5, False) == [Ping(5)]
    one.channel.last = one.sent = 13
    script.session.on_pong(b"5")
    assert one.acked == 12


def test_a_session_that_lags_is_not_pinged_and_closed_in_the_end() -> None:
    script = Script()
    script.open("/a", acknowledges="PONG")
    one = script.held["/a"]
    one.channel.last = 12
    one.live = False
    assert script.session.on_sweep(NOW + 4, 0, 5, True) == []
    script.session.on_paused(NOW + 4)
    assert script.session.on_sweep(NOW + 34, 0, 6, True) == []
    assert codes(script.session.on_sweep(NOW + 35, 0, 7, True)) == ["4001"]


def test_a_missing_pong_closes() -> None:
    script = Script()
    script.open(acknowledges="EXPLICIT")
    script.session.on_sweep(NOW, 0, 4, True)
    assert script.session.on_sweep(NOW + 10, 0, 5, False) == []
    assert codes(script.session.on_sweep(NOW + 11, 0, 6, False)) == ["4002"]
    assert script.session.on_sweep(NOW + 12, 0, 7, True) == []


def test_a_pong_is_not_missing_while_its_ping_waits_in_a_full_socket() -> None:
    script = Script()
    script.open(acknowledges="EXPLICIT")
    assert script.session.on_sweep(NOW, 0, 4, True) == [Ping(4)]
    script.session.on_paused(NOW + 1)
    assert script.session.on_sweep(NOW + 20, 0, 5, False) == []
    script.session.on_resumed(NOW + 21)
    assert script.session.on_sweep(NOW + 31, 0, 6, False) == []
    assert codes(script.session.on_sweep(NOW + 32, 0, 7, False)) == ["4002"]


def test_messages_unacknowledged_for_too_long_close() -> None:
    script = Script()
    script.open("/a", acknowledges="EXPLICIT")
    one = script.held["/a"]
    one.channel.last = one.sent = 11
    one.channel.note(4, NOW + 1)
    assert script.session.on_sweep(NOW + 36, 0, 5, False) == []
    assert codes(script.session.on_sweep(NOW + 37, 0, 6, False)) == ["4002"]


def test_a_connection_that_says_nothing_is_closed() -> None:
    script = Script()
    assert script.session.on_sweep(NOW + 15, 0, 4, True) == []
    assert codes(script.session.on_sweep(NOW + 16, 0, 5, True)) == ["4501"]


def test_a_connect_that_nobody_records_is_closed() -> None:
    script = Script()
    script.say("c", connect={"clientId": "c1", "subscriptions": LIST})
    script.session.on_gone([])
    assert codes(script.session.on_sweep(NOW + 16, 0, 5, True)) == ["4004"]
    assert script.session.on_closed(False) == []
    (append,) = script.session.on_recorded(1, 5)
    assert append == AppendPresence(event(2, 5, disconnected={"clean": False}), ending=True)


# Ends


@pytest.mark.parametrize("clean", [True, False])
def test_a_closed_session_tells_what_it_has_acknowledged(clean: bool) -> None:
    script = Script()
    script.open("/a", "/b", acknowledges="EXPLICIT")
    script.held["/a"].channel.last = script.held["/a"].sent = 20
    script.say(ack={"positions": [{"subject": "/a", "seq": "14"}]})
    acked = [{"subject": "/a", "seq": 14}, {"subject": "/b", "seq": 10}]
    gone = event(2, 5, disconnected={"clean": clean, "acked": acked})
    assert script.session.on_closed(clean) == [
        AppendPresence(gone, ending=True),
        Leave(("/a", "/b")),
    ]
    assert script.session.on_recorded(2, 5) == [Finished()]


def test_a_socket_gone_before_connect_leaves_nothing_behind() -> None:
    script = Script()
    assert script.session.on_closed(True) == [Finished()]


def test_a_socket_gone_before_the_event_was_formed_leaves_nothing_behind() -> None:
    script = Script()
    listed = {"list": [{"subject": "/a"}, {"subject": "/b"}]}
    script.say("c", connect={"clientId": "c1", "subscriptions": listed})
    script.watched("/a", 10)
    assert script.session.on_closed(True) == [Leave(("/a",)), Finished()]
    assert script.watched("/b", 10) == [] and script.session.on_gone([]) == []
    assert script.session.on_history("/a", None) == [] and script.session.on_client([]) == []


def test_a_socket_gone_before_connected_was_durable_disconnects_after_it() -> None:
    script = Script()
    listed = {"list": [{"subject": "/a", "afterSeq": "7"}]}
    script.say("c", connect={"clientId": "c1", "subscriptions": listed})
    script.session.on_gone([])
    script.watched("/a", 10)
    script.session.on_history("/a", Read(entries("/a", 8, 10), 10, 0))
    assert script.session.on_closed(True) == []
    gone = event(2, 5, disconnected={"clean": True, "acked": [{"subject": "/a", "seq": 7}]})
    assert script.session.on_recorded(1, 5) == [
        AppendPresence(gone, ending=True),
        Leave(("/a",)),
    ]
    assert script.session.on_recorded(2, 5) == [Finished()]


def test_a_socket_gone_before_connected_was_refused_is_finished() -> None:
    script = Script()
    script.say("c", connect={"clientId": "c1", "subscriptions": {"list": [{"subject": "/a"}]}})
    script.session.on_gone([])
    (append,) = script.watched("/a", 10)
    script.session.on_closed(False)
    refusal = refuse(Code.STALE_SESSION, "Newer.")
    assert script.session.on_refused(1, refusal, append.event) == [Leave(("/a",)), Finished()]


def test_a_socket_gone_while_a_subscription_forms_disconnects_at_once() -> None:
    script = Script()
    script.open("/a")
    script.say("2", subscribe={"subscriptions": [{"subject": "/b"}]})
    script.watched("/b", 4)
    gone, leave = script.session.on_closed(False)
    assert gone.event.number == 3 and leave == Leave(("/a", "/b"))
    assert [one.subject for one in gone.event.disconnected.acked] == ["/a", "/b"]
    assert script.session.on_recorded(2, 5) == []
    assert script.session.on_recorded(3, 5) == [Finished()]


def test_an_end_that_the_store_cannot_take_is_tried_again() -> None:
    script = Script()
    script.open("/a")
    (append, _) = script.session.on_closed(False)
    full = refuse(Code.STORE_FULL, "Full.")
    assert script.session.on_refused(2, full, append.event) == [
        AppendPresence(append.event, ending=True, after_s=1.0)
    ]
    final = refuse(Code.ARGUMENT_INVALID, "No.")
    assert script.session.on_refused(2, final, append.event) == [Finished()]


def test_logout_is_durable_before_the_close() -> None:
    script = Script()
    script.open("/a")
    logged_out = event(2, 5, loggedOut={"acked": [{"subject": "/a", "seq": 10}]})
    assert script.say("2", logout={}) == [AppendPresence(logged_out, ending=True)]
    assert script.session.on_recorded(2, 5) == [
        Leave(("/a",)),
        down("2", done={}),
        Close(4503, "Logged out."),
    ]
    assert script.say("3", subscribe={}) == []
    assert script.session.on_closed(False) == [Finished()]


def test_logout_without_follows_is_an_event_too() -> None:
    script = Script()
    script.open()
    (append,) = script.say("2", logout={})
    assert append.event.HasField("logged_out")


@pytest.mark.parametrize("recorded", [True, False])
def test_a_socket_gone_while_logging_out_ends_one_way_or_the_other(recorded: bool) -> None:
    script = Script()
    script.open("/a")
    (append,) = script.say("2", logout={})
    assert script.session.on_closed(True) == []
    if recorded:
        assert script.session.on_recorded(2, 5) == [Leave(("/a",)), Finished()]
    else:
        refusal = refuse(Code.STORE_FULL, "Full.")
        effects = script.session.on_refused(2, refusal, append.event)
        assert effects[0].event.HasField("disconnected") and effects[0].event.number == 3


def test_a_replaced_session_is_closed_and_still_tells_its_end() -> None:
    script = Script()
    script.open("/a")
    assert script.session.close(4502, "Replaced.") == [Close(4502, "Replaced.")]
    assert script.session.close(4004, "x") == [] and script.say("2", logout={}) == []
    assert codes(script.session.on_closed(False)) == ["AppendPresence", "Leave"]


def test_a_session_of_a_former_log_tells_its_end_without_positions() -> None:
    script = Script()
    script.open("/a")
    script.place.log_id = "another"
    append, _ = script.session.on_closed(False)
    (position,) = append.event.disconnected.acked
    assert (position.subject, position.seq) == ("/a", 0)


def test_a_session_closed_while_connecting_still_tells_its_end() -> None:
    script = Script()
    script.say("c", connect={"clientId": "c1", "subscriptions": LIST})
    script.session.on_gone([])
    script.session.close(4000, "This edge is stopping.")
    assert script.session.on_recorded(1, 5) == []
    (append,) = script.session.on_closed(False)
    assert append.event.HasField("disconnected")


def test_draining_says_when_to_leave_and_serves_the_client_until_then() -> None:
    script = Script()
    script.open("/a")
    assert script.session.drain(1830) == [down(goingAway={"reconnectAfterMs": 1830})]
    assert script.session.drain(1830) == []
    assert codes(script.say("2", publish={"subject": "/a", "text": "x"})) == ["AppendPublish"]


@pytest.mark.parametrize("told", [False, True])
def test_who_leaves_because_the_edge_does_has_the_time_to_find_another(told: bool) -> None:
    """A clean end has the shorter grace, and so has only who meant to go."""
    script = Script()
    script.open("/a")
    if told:
        script.session.drain(10)
    append, _ = script.session.on_closed(True)
    assert append.event.disconnected.clean is not told
