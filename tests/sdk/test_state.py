"""The core by list equality: what goes out, what is told, what is kept, in which order."""

from typing import Any

import pytest
from onward_sdk.effects import (
    Close,
    Effect,
    Emit,
    Fail,
    Keep,
    Reconnect,
    RenewToken,
    Send,
    Settle,
    Stop,
)
from onward_sdk.errors import Closed, OutcomeUnknown, QueueFull, Refused, Unreachable
from onward_sdk.events import (
    Connected,
    Disconnected,
    EndpointGone,
    Message,
    Resynced,
    Subscribed,
    Synced,
    TokenExpiring,
    Unsubscribed,
)
from onward_sdk.protocol import Subscription
from onward_sdk.state import Identity, Options, State

CONNECT = {"clientId": "c", "lastGeneration": "0", "logId": "", "acknowledges": "EXPLICIT"}


def frame_of(seq: int, kind: str = "LIVE") -> dict[str, Any]:
    return {"message": {"subject": "/a", "seq": str(seq), "kind": kind, "text": f"m{seq}"}}


def message(seq: int, kind: str = "LIVE") -> Message:
    return Message("/a", seq, 0, kind, "", text=f"m{seq}", log_id="L")


def connected(id: str = "1", seq: int | None = 5, **fields: Any) -> dict[str, Any]:
    states = [] if seq is None else [{"subject": "/a", "seq": str(seq), "recovered": True}]
    return {
        "id": id,
        "connected": {"generation": "1", "clientId": "c", "logId": "L", "subscriptions": states}
        | fields,
    }


def told(generation: int = 1, **fields: Any) -> Emit:
    return Emit(Connected("", generation, "c", "", "L", "", **fields))


def online(identity: Identity | None = None, options: Options | None = None) -> State:
    """A client online at /a, position 5."""
    state = State(identity or Identity("c", 0, "L", {"/a": 5}), options or Options())
    state.subscribe([Subscription("/a")], 0)
    state.opened("", 0)
    state.received(connected("2"), 0)
    return state


def test_connect_carries_the_identity_the_subscriptions_and_the_external_tokens() -> None:
    state = State(Identity("c", 4, "L", {"/a": 5}), Options(info={"app": "t/1"}))
    state.set_external_token("mailto:ann@example.org", "", 0)
    state.subscribe([Subscription("/a"), Subscription("/b", history=3)], 0)
    assert state.opened("jwt", 0) == [
        Send(
            {
                "id": "3",
                "connect": {
                    "clientId": "c",
                    "lastGeneration": "4",
                    "logId": "L",
                    "acknowledges": "EXPLICIT",
                    "token": "jwt",
                    "externalTokens": [{"uri": "mailto:ann@example.org"}],
                    "info": {"app": "t/1"},
                    "subscriptions": {
                        "list": [
                            {"subject": "/a", "afterSeq": "5"},
                            {"subject": "/b", "history": 3},
                        ]
                    },
                },
            }
        )
    ]


def test_the_generation_is_kept_before_the_application_hears_of_the_connection() -> None:
    state = State(Identity("c", 0, "L", {"/a": 5}), Options())
    state.subscribe([Subscription("/a")], 0)
    state.opened("", 0)
    assert state.received(connected("2"), 0) == [
        Keep(Identity("c", 1, "L", {"/a": 5})),
        told(),
        Emit(Subscribed("/a", 5, True)),
        Settle("1", {}),
    ]


def test_without_subscriptions_the_server_says_what_is_followed() -> None:
    state = State(Identity("c"), Options())
    assert state.opened("", 0) == [Send({"id": "1", "connect": CONNECT})]
    states = [{"subject": "/a", "seq": "7"}]
    state.received(connected("1", subscriptions=states), 0)
    assert state.received(frame_of(8), 0) == [Emit(message(8))]
    assert state.identity.positions == {"/a": 7}


def test_an_adopted_follow_with_a_known_position_is_recovered_at_its_first_message() -> None:
    state = State(Identity("c", 0, "L", {"/a": 5}), Options())
    state.opened("", 0)
    state.received(connected("1", subscriptions=[{"subject": "/a", "seq": "7"}]), 0)
    assert state.received(frame_of(8), 0) == [
        Send({"id": "2", "subscribe": {"subscriptions": [{"subject": "/a", "afterSeq": "5"}]}})
    ]


def test_a_duplicate_is_not_told() -> None:
    state = online()
    assert state.received(frame_of(6), 0) == [Emit(message(6))]
    assert state.received(frame_of(6, "RECOVERED"), 0) == []


def test_a_hole_is_asked_for_after_what_was_handled() -> None:
    state = online()
    state.received(frame_of(6), 0)
    assert state.received(frame_of(8), 0) == [
        Send({"id": "3", "subscribe": {"subscriptions": [{"subject": "/a", "afterSeq": "5"}]}})
    ]
    answer = {"subscriptions": [{"subject": "/a", "seq": "8", "recovered": True}]}
    state.received({"id": "3", "subscribed": answer}, 0)
    effects: list[Effect] = []
    for seq in (6, 7, 8):
        effects += state.received(frame_of(seq, "RECOVERED"), 0)
    effects += state.received({"synced": {"subject": "/a", "seq": "8"}}, 0)
    assert effects == [
        Emit(message(7, "RECOVERED")),
        Emit(message(8, "RECOVERED")),
        Emit(Synced("/a", 8, 2)),
    ]


def test_a_hole_that_could_not_be_filled_is_asked_for_again() -> None:
    state = online()
    state.received(frame_of(7), 0)
    assert state.received(frame_of(8), 0) == []
    refusal = {"code": "UNAVAILABLE", "message": "The log cannot be read now."}
    assert state.received({"id": "3", "error": refusal}, 0) == []
    assert state.received(frame_of(9), 0) == [
        Send({"id": "4", "subscribe": {"subscriptions": [{"subject": "/a", "afterSeq": "5"}]}})
    ]


def test_synced_above_what_came_is_a_hole_too() -> None:
    state = online()
    assert state.received({"synced": {"subject": "/a", "seq": "7"}}, 0) == [
        Send({"id": "3", "subscribe": {"subscriptions": [{"subject": "/a", "afterSeq": "5"}]}})
    ]


def test_a_gap_is_told_and_acknowledged_after_that() -> None:
    state = online(options=Options(ack_delay_s=0))
    gap = {"subject": "/a", "fromSeq": "6", "toSeq": "9", "reason": "TRIMMED"}
    resynced = Resynced("/a", 9, "TRIMMED", 6, 9, "L")
    assert state.received({"gap": gap}, 0) == [Emit(resynced)]
    assert state.received(frame_of(10), 0) == [Emit(message(10))]
    assert state.handled([resynced], 0) == [
        Keep(Identity("c", 1, "L", {"/a": 9})),
        Send({"ack": {"positions": [{"subject": "/a", "seq": "9"}]}}),
    ]


def test_a_replaced_log_is_told_and_old_messages_move_nothing() -> None:
    state = State(Identity("c", 3, "K", {"/a": 5, "/b": 9}), Options())
    state.subscribe([Subscription("/a")], 0)
    state.opened("", 0)
    states = [{"subject": "/a", "seq": "2", "recovered": False, "reason": "LOG_REPLACED"}]
    assert state.received(connected("2", subscriptions=states), 0)[:4] == [
        Keep(Identity("c", 1, "L", {"/a": 2})),
        told(log_replaced=True),
        Emit(Subscribed("/a", 2, False)),
        Emit(Resynced("/a", 2, "LOG_REPLACED", 0, 0, "L")),
    ]
    assert state.handled([Message("/a", 6, 0, "LIVE", "", log_id="K")], 0) == []


def test_an_ack_waits_for_the_handler_and_then_at_most_its_delay() -> None:
    state = online(options=Options(ack_delay_s=1.0))
    state.received(frame_of(6), 10)
    state.received(frame_of(7), 10)
    assert state.next_deadline() is None
    assert state.handled([message(6)], 10) == [Keep(Identity("c", 1, "L", {"/a": 6}))]
    assert state.handled([message(7)], 10.5) == [Keep(Identity("c", 1, "L", {"/a": 7}))]
    assert state.next_deadline() == 11
    assert state.tick(11) == [Send({"ack": {"positions": [{"subject": "/a", "seq": "7"}]}})]
    assert state.next_deadline() is None


def test_an_ack_rides_on_any_frame() -> None:
    state = online()
    state.received(frame_of(6), 0)
    state.handled([message(6)], 0)
    ack = {"positions": [{"subject": "/a", "seq": "6"}]}
    _, effects = state.request("publish", {"subject": "/a"}, 0)
    assert effects == [Send({"id": "3", "publish": {"subject": "/a"}, "ack": ack})]
    assert state.next_deadline() == 3_600


def test_disconnect_acknowledges_first() -> None:
    state = online()
    state.received(frame_of(6), 0)
    state.handled([message(6)], 0)
    assert state.disconnect() == [
        Send({"ack": {"positions": [{"subject": "/a", "seq": "6"}]}}),
        Close(1000, "goodbye"),
    ]
    assert state.closed(1000, "", 0, 0.5, "new") == [Stop(None)]
    with pytest.raises(Closed):
        state.request("publish", {}, 0)


def test_a_session_that_opens_after_the_end_does_not_bring_the_client_back() -> None:
    state = State(Identity("c"), Options())
    state.opened("", 0)
    assert state.disconnect() == [Close(1000, "goodbye")]
    assert state.received(connected("1", None), 0) == []
    assert state.closed(1000, "", 0, 0.5, "new") == [Stop(None)]


def test_what_is_handled_while_offline_is_kept_and_told_by_the_next_connect() -> None:
    state = online()
    state.received(frame_of(6), 0)
    state.closed(1006, "lost", 0, 0.5, "new")
    assert state.handled([message(6)], 0) == [Keep(Identity("c", 1, "L", {"/a": 6}))]
    assert state.next_deadline() is None
    (send,) = state.opened("", 0)
    assert isinstance(send, Send)
    assert send.frame["connect"]["subscriptions"] == {"list": [{"subject": "/a", "afterSeq": "6"}]}
    assert send.frame["connect"]["lastGeneration"] == "1"


def test_unanswered_publishes_go_out_again_in_order_before_newer_ones() -> None:
    state = online()
    state.request("publish", {"publicationId": "x"}, 0)
    state.request("publish", {"publicationId": "y"}, 0)
    state.closed(1006, "lost", 0, 0.5, "new")
    assert state.request("publish", {"publicationId": "z"}, 0) == ("5", [])
    state.opened("", 0)
    assert state.received(connected("6"), 0)[-3:] == [
        Send({"id": "3", "publish": {"publicationId": "x"}}),
        Send({"id": "4", "publish": {"publicationId": "y"}}),
        Send({"id": "5", "publish": {"publicationId": "z"}}),
    ]
    assert state.received({"id": "3", "published": {"seq": "6"}}, 0) == [Settle("3", {"seq": "6"})]
    assert state.received({"id": "3", "published": {"seq": "6"}}, 0) == []


def test_a_publish_older_than_the_servers_memory_is_unknown_not_sent_again() -> None:
    state = State(Identity("c"), Options())
    state.opened("", 0)
    state.received(connected("1", None, limits={"dedupeWindowMs": "5000"}), 0)
    state.request("publish", {"publicationId": "x"}, 0)
    state.closed(1006, "lost", 1, 0.5, "new")
    state.request("publish", {"publicationId": "y"}, 2)
    assert state.next_deadline() == 5
    state.opened("", 6)
    effects = state.received(connected("4", None), 6)
    assert [type(one) for one in effects] == [Keep, Emit, Fail, Send]
    assert isinstance(effects[2], Fail)
    assert (effects[2].request_id, type(effects[2].error)) == ("2", OutcomeUnknown)
    (unsent,) = state.tick(7)
    assert isinstance(unsent, Fail)
    assert isinstance(unsent.error, OutcomeUnknown)


def test_a_full_queue_takes_nothing_more() -> None:
    state = State(Identity("c"), Options(pending_max=1))
    state.request("publish", {}, 0)
    with pytest.raises(QueueFull):
        state.request("publish", {}, 0)


def test_unsubscribed_while_offline_is_said_by_the_next_connect() -> None:
    state = online()
    state.closed(1006, "lost", 0, 0.5, "new")
    state.unsubscribe(["/a"], 0)
    state.subscribe([Subscription("/b")], 0)
    (send,) = state.opened("", 0)
    assert isinstance(send, Send)
    assert send.frame["connect"]["subscriptions"] == {"list": [{"subject": "/b"}]}
    states = [{"subject": "/b", "seq": "0"}]
    effects = state.received(connected("5", subscriptions=states), 0)
    assert effects[-2:] == [Settle("3", {}), Settle("4", {})]


def test_a_refused_subscription_is_forgotten() -> None:
    state = online()
    request_id, _ = state.subscribe([Subscription("/b")], 0)
    refusal = {"code": "SUBJECT_FORBIDDEN", "message": "No."}
    assert state.received({"id": request_id, "error": refusal}, 0) == [
        Fail(request_id, Refused("SUBJECT_FORBIDDEN", "No."))
    ]
    state.closed(1006, "lost", 0, 0.5, "new")
    (send,) = state.opened("", 0)
    assert isinstance(send, Send)
    assert send.frame["connect"]["subscriptions"]["list"] == [{"subject": "/a", "afterSeq": "5"}]


def test_a_stale_session_tries_once_more_with_the_number_given() -> None:
    state = State(Identity("c", 3), Options())
    state.opened("", 0)
    stale = {"code": "STALE_SESSION", "message": "Stale.", "generation": "8"}
    assert state.received({"id": "1", "error": stale}, 0) == [
        Send({"id": "2", "connect": CONNECT | {"lastGeneration": "8"}})
    ]
    assert state.received({"id": "2", "error": stale | {"generation": "9"}}, 0) == [
        Close(1000, "connect was refused")
    ]
    assert state.closed(1000, "", 0, 0.5, "new")[1] == Reconnect(0.1, other_edge=False)
    assert state.opened("", 0) == [Send({"id": "3", "connect": CONNECT | {"lastGeneration": "9"}})]


def test_a_final_refusal_of_connect_ends_the_client() -> None:
    state = State(Identity("c"), Options())
    state.request("publish", {}, 0)
    state.opened("", 0)
    refused = Refused("TOKEN_INVALID", "No token.")
    error = {"code": "TOKEN_INVALID", "message": "No token."}
    assert state.received({"id": "2", "error": error}, 0) == [Close(1000, "connect was refused")]
    assert state.closed(1000, "", 0, 0.5, "new") == [
        Fail("1", refused),
        Emit(Disconnected("TOKEN_INVALID: No token.", False, 1000)),
        Stop(refused),
    ]


def test_an_overloaded_server_is_asked_again_not_before_it_said() -> None:
    state = State(Identity("c"), Options())
    state.opened("", 0)
    error = {"code": "OVERLOADED", "message": "Full.", "retryAfterMs": 700}
    state.received({"id": "1", "error": error}, 0)
    assert state.closed(1000, "", 0, 0.625, "new") == [
        Emit(Disconnected("OVERLOADED: Full.", True, 1000, 0.825)),
        Reconnect(0.825, other_edge=False),
    ]
    # So does an edge that turned the connection away before it was one.
    assert state.closed(0, "no room", 0, 0.5, "new", 2_000)[1] == Reconnect(2.2, other_edge=True)


def test_replaced_means_a_new_client_id_with_the_same_positions() -> None:
    state = online()
    state.received(frame_of(6), 0)
    state.handled([message(6)], 0)
    effects = state.closed(4502, "", 0, 0.5, "new")
    assert effects == [
        Emit(Disconnected("a newer session of this client took over", True, 4502, 0.1)),
        Reconnect(0.1, other_edge=False),
    ]
    assert state.identity == Identity("new", 0, "L", {"/a": 6})


@pytest.mark.parametrize("code", [4500, 4501, 4503, 4999])
def test_final_close_codes_end_the_client(code: int) -> None:
    effects = online().closed(code, "no", 0, 0.5, "new")
    assert isinstance(effects[-1], Stop)
    assert effects[-1].error is not None
    assert not any(isinstance(one, Reconnect) for one in effects)


def test_failures_back_off_and_a_session_starts_over() -> None:
    state = online()
    delays = [state.closed(0, "x", 0, 0.5, "new")[1] for _ in range(3)]
    assert delays == [Reconnect(delay, other_edge=True) for delay in (0.1, 0.2, 0.4)]
    state.opened("", 0)
    state.received(connected("3"), 0)
    assert state.closed(1006, "x", 0, 0.5, "new")[1] == Reconnect(0.1, other_edge=False)


def test_an_edge_going_away_is_left_when_it_says_and_another_asked_at_once_once() -> None:
    state = online()
    assert state.received({"goingAway": {"reconnectAfterMs": 1500}}, 10) == []
    assert state.next_deadline() == 11.5
    assert state.tick(11.5) == [Close(1000, "the edge is going away")]
    assert state.closed(1000, "", 11.6, 0.5, "new")[1] == Reconnect(0.0, other_edge=True)
    assert state.closed(0, "x", 12, 0.5, "new")[1] == Reconnect(0.2, other_edge=True)


def test_an_edge_that_closes_before_that_is_left_as_late() -> None:
    state = online()
    state.received({"goingAway": {"reconnectAfterMs": 1500}}, 10)
    assert state.closed(4000, "", 10.5, 0.5, "new")[1] == Reconnect(1.0, other_edge=True)


def test_a_gone_endpoint_is_told_and_not_registered_again() -> None:
    state = State(Identity("c"), Options())
    state.set_external_token("fcm:x", "", 0)
    state.opened("", 0)
    effects = state.received(connected("2", None, endpointsGone=["fcm:x"]), 0)
    assert Emit(EndpointGone("fcm:x")) in effects
    state.closed(1006, "x", 0, 0.5, "new")
    (send,) = state.opened("", 0)
    assert isinstance(send, Send)
    assert "externalTokens" not in send.frame["connect"]


def test_a_token_is_told_before_it_expires() -> None:
    state = State(Identity("c"), Options(token_notice_s=30))
    state.opened("jwt", 0, expires_at=100)
    state.received(connected("1", None), 0)
    assert state.next_deadline() == 70
    assert state.tick(70) == [Emit(TokenExpiring(30))]
    assert state.next_deadline() is None


def test_a_newer_token_is_asked_for_where_there_is_a_source() -> None:
    state = State(Identity("c"), Options(token_notice_s=30))
    state.opened("jwt", 0, expires_at=100, renews=True)
    state.received(connected("1", None), 0)
    assert state.tick(70) == [RenewToken(30)]
    assert state.refresh("newer", 71, expires_at=171) == (
        "2",
        [Send({"id": "2", "refresh": {"token": "newer"}})],
    )
    assert state.next_deadline() == 141
    assert state.received({"id": "2", "done": {}}, 72) == [Settle("2", {})]


def test_a_token_that_lives_shorter_than_the_notice_is_renewed_at_half_of_its_time() -> None:
    state = State(Identity("c"), Options(token_notice_s=30))
    state.opened("jwt", 0, expires_at=10, renews=True)
    state.received(connected("1", None), 0)
    assert state.next_deadline() == 5
    assert state.tick(5) == [RenewToken(5)]
    state.refresh("the same", 5, expires_at=5.5)
    assert state.next_deadline() == 6, "a source that gives old tokens is not asked in a loop"


def test_a_token_refreshed_offline_goes_with_the_next_connect() -> None:
    state = online()
    state.closed(1006, "lost", 0, 0.5, "new")
    assert state.refresh("newer", 0, expires_at=None) == ("3", [])
    (send,) = state.opened("newer", 0)
    assert isinstance(send, Send)
    assert send.frame["connect"]["token"] == "newer"
    assert state.received(connected("4"), 0)[-1] == Settle("3", {})


def forbidden(subject: str) -> dict[str, Any]:
    message = f"{subject} is no longer subscribed to."
    return {"code": "SUBJECT_FORBIDDEN", "message": message, "subject": subject}


def test_a_subscription_that_the_server_ends_is_told_and_not_asked_for_again() -> None:
    state = online()
    assert state.received({"error": forbidden("/a")}, 0) == [
        Keep(Identity("c", 1, "L", {})),
        Emit(Unsubscribed("/a", "/a is no longer subscribed to.")),
    ]
    assert state.received(frame_of(6), 0) == []
    state.closed(1006, "lost", 0, 0.5, "new")
    (send,) = state.opened("", 0)
    assert isinstance(send, Send)
    assert send.frame["connect"]["subscriptions"] == {"list": []}


def test_a_granted_subscription_that_a_later_connect_is_refused_for_is_left_out() -> None:
    state = online()
    state.subscribe([Subscription("/b")], 0)
    state.closed(1006, "lost", 0, 0.5, "new")
    state.opened("less", 0)
    keep, told, again = state.received({"id": "4", "error": forbidden("/a")}, 0)
    assert keep == Keep(Identity("c", 1, "L", {}))
    assert told == Emit(Unsubscribed("/a", "/a is no longer subscribed to."))
    assert isinstance(again, Send)
    assert again.frame["connect"]["subscriptions"] == {"list": [{"subject": "/b"}]}
    # What was never granted was asked for by mistake, and the application hears of it.
    assert state.received({"id": "5", "error": forbidden("/b")}, 0) == [
        Close(1000, "connect was refused")
    ]


def test_an_expired_token_ends_the_client_unless_there_is_a_source_of_newer_ones() -> None:
    for renews in (False, True):
        state = State(Identity("c"), Options())
        state.opened("old", 0, renews=renews)
        error = {"code": "TOKEN_EXPIRED", "message": "Old."}
        state.received({"id": "1", "error": error}, 0)
        end = state.closed(4500, "", 0, 0.5, "new")[-1]
        expected = Reconnect(0.1, other_edge=False)
        assert end == (expected if renews else Stop(Refused("TOKEN_EXPIRED", "Old.")))


@pytest.mark.parametrize("code", [4001, 4003])
def test_too_slow_or_expired_comes_back_at_once_once(code: int) -> None:
    state = online()
    assert state.closed(code, "", 0, 0.5, "new")[-1] == Reconnect(0.0, other_edge=False)
    assert state.closed(code, "", 0, 0.5, "new")[-1] == Reconnect(0.2, other_edge=False)
    (send,) = state.opened("", 0)
    assert isinstance(send, Send)
    assert send.frame["connect"]["subscriptions"]["list"] == [{"subject": "/a", "afterSeq": "5"}]


def test_activity_is_said_again_in_each_session_while_it_is_the_background() -> None:
    state = online()
    assert state.set_activity(False, 0)[1] == [Send({"id": "3", "setActivity": {"active": False}})]
    state.received({"id": "3", "done": {}}, 0)
    state.closed(1006, "lost", 0, 0.5, "new")
    state.opened("", 0)
    said = Send({"id": "5", "setActivity": {"active": False}})
    assert state.received(connected("4"), 0)[-1] == said
    state.set_activity(True, 0)
    state.closed(1006, "lost", 0, 0.5, "new")
    state.opened("", 0)
    assert state.received(connected("7"), 0)[-1] == Send(
        {"id": "6", "setActivity": {"active": True}}
    )


def test_a_transient_publish_neither_waits_for_a_connection_nor_outlives_one() -> None:
    state = online()
    body = {"subject": "/a", "text": "typing", "transient": True}
    assert state.request("publish", body, 0) == ("3", [Send({"id": "3", "publish": body})])
    lost = state.closed(1006, "lost", 0, 0.5, "new")[0]
    assert isinstance(lost, Fail)
    assert (lost.request_id, type(lost.error)) == ("3", OutcomeUnknown)
    (refused,) = state.request("publish", body, 0)[1]
    assert isinstance(refused, Fail)
    assert isinstance(refused.error, Unreachable)
    state.opened("", 0)
    assert not [e for e in state.received(connected("5"), 0) if isinstance(e, Send)]


def test_a_transient_message_is_told_and_never_acknowledged() -> None:
    state = online()
    frame = {"message": {"subject": "/a", "seq": "0", "kind": "TRANSIENT", "text": "typing"}}
    typing = Message("/a", 0, 0, "TRANSIENT", "", text="typing", log_id="L")
    assert [state.received(frame, 0) for _ in range(2)] == [[Emit(typing)]] * 2
    assert state.handled([typing, typing], 0) == []
    assert state.next_deadline() is None


def test_a_snapshot_is_told_though_it_is_not_above_the_position_and_moves_nothing() -> None:
    state = State(Identity("c", 0, "L"), Options())
    state.subscribe([Subscription("/a", snapshot=True)], 0)
    (send,) = state.opened("", 0)
    assert isinstance(send, Send)
    assert send.frame["connect"]["subscriptions"]["list"] == [{"subject": "/a", "snapshot": True}]
    state.received(connected("2", subscriptions=[{"subject": "/a", "seq": "5"}]), 0)
    assert state.received(frame_of(3, "SNAPSHOT"), 0) == [Emit(message(3, "SNAPSHOT"))]
    assert state.received(frame_of(6), 0) == [Emit(message(6))]
    assert state.handled([message(3, "SNAPSHOT")], 0) == []
    assert state.identity.positions == {"/a": 5}


def test_what_the_server_would_close_the_connection_for_is_refused_here() -> None:
    state = online()
    state.closed(1006, "lost", 0, 0.5, "new")
    state.request("publish", {"subject": "/a", "text": "é" * 60}, 0)
    state.request("publish", {"subject": "/a", "text": "x", "headers": {"h": "x" * 900}}, 0)
    state.opened("", 0)
    limits = {"contentBytesMax": 100, "frameBytesMax": 800}
    refused = state.received(connected("5", limits=limits), 0)[-2:]
    assert refused == [
        Fail("3", Refused("CONTENT_TOO_LARGE", "A message has at most 100 bytes of content.")),
        Fail("4", Refused("CONTENT_TOO_LARGE", "A frame has at most 800 bytes.")),
    ]
    assert state.limits.content_bytes_max == 100
    assert not [e for e in state.tick(1) if isinstance(e, Send)]


def test_an_ack_that_would_make_a_frame_too_large_goes_alone() -> None:
    state = online()
    state.closed(1006, "lost", 0, 0.5, "new")
    state.opened("", 0)
    state.received(connected("3", limits={"frameBytesMax": 200}), 0)
    state.received(frame_of(6), 0)
    state.handled([message(6)], 0)
    _, (sent,) = state.request("publish", {"subject": "/a", "text": "x" * 90}, 0)
    assert isinstance(sent, Send)
    assert "ack" not in sent.frame
    assert state.tick(1) == [Send({"ack": {"positions": [{"subject": "/a", "seq": "6"}]}})]
