"""What backends, and users themselves, have done to users, by gRPC on a real store."""

import asyncio

import grpc
import grpc.aio
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from onward.extension.v1.extension_pb2 import UserPresence
from onward.presence.v1 import presence_pb2
from onward.presence.v1 import users_pb2 as pb

from services.presence import users
from services.presence.state import BACKEND
from tests.presence.stage import Client, FakePlugin, Stage, staged
from tests.waiting import until

MAIL = "mailto:ann@example.org"
FCM = "fcm:a-token"


async def follow(stage: Stage, *subjects: str, users=("ann",)) -> int:
    request = pb.AddFollowsRequest(users=users, subjects=subjects)
    return (await stage.users.AddFollows(request, timeout=20)).added


async def reported(stage: Stage, call):
    """What the call answers, while the log is reported as it grows."""
    answer = asyncio.ensure_future(call)
    while not (await asyncio.wait([answer], timeout=0.01))[0]:
        await stage.report()
    return await answer


async def unfollow(stage: Stage, *subjects: str, users=("ann",), everywhere=False) -> int:
    request = pb.RemoveFollowsRequest(users=users, subjects=subjects, everywhere=everywhere)
    return (await reported(stage, stage.users.RemoveFollows(request, timeout=20))).removed


async def add_endpoint(stage: Stage, uri: str = MAIL, user: str = "ann") -> None:
    await stage.users.AddEndpoint(pb.AddEndpointRequest(user=user, uri=uri), timeout=20)


async def follows(stage: Stage, user: str = "ann", **paging) -> list[tuple[str, str]]:
    request = pb.ListFollowsRequest(user=user, **paging)
    answer = await stage.users.ListFollows(request, timeout=20)
    return [(one.subject, one.client_id) for one in answer.follows]


async def endpoints(stage: Stage, user: str = "ann") -> list[tuple[str, list[str]]]:
    answer = await stage.users.ListEndpoints(pb.ListEndpointsRequest(user=user), timeout=20)
    return [(one.uri, list(one.client_ids)) for one in answer.endpoints]


async def no_handovers(stage: Stage) -> bool:
    return not await stage.store.read(lambda tx: tx.open_handovers(9))


async def status_of(call) -> tuple[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return refused.value.code().name, refused.value.details() or ""


# -- follows of users who never connected --------------------------------------------------------


def test_the_first_message_to_who_never_connected_is_notified(run, tmp_path, store_settings):
    async def claim():
        plugin = FakePlugin()
        async with staged(tmp_path, plugin, **store_settings) as stage:
            stage.log.publish("/a", "before")
            await stage.report()
            assert await follow(stage, "/a") == 1
            await add_endpoint(stage)
            assert await no_handovers(stage), "its head had not moved"
            stage.log.publish("/a", "hello")
            await stage.report()
            await until(lambda: plugin.calls)
            [delivery] = plugin.deliveries
            assert (delivery.user, delivery.endpoint, delivery.first_seq) == ("ann", MAIL, 2)
            await until(lambda: states(stage, ["NOT_FOLLOWED", "NOTIFIED"]))

    async def states(stage, wanted):
        return await stage.states("ann", "/a") == wanted

    run(claim())


def test_a_message_accepted_before_the_follow_was_committed_is_decided_by_its_handover(
    run, tmp_path
):
    async def claim():
        plugin = FakePlugin()
        async with staged(tmp_path, plugin) as stage:
            await add_endpoint(stage)
            stage.log.after_read = lambda: stage.log.publish("/a", "in between")
            assert await follow(stage, "/a") == 1
            await until(lambda: plugin.calls)
            assert [d.first_seq for d in plugin.deliveries] == [1]
            await until(lambda: no_handovers(stage))

    run(claim())


def test_a_follow_whose_head_cannot_be_read_again_is_settled_by_its_handover(run, tmp_path):
    async def claim():
        async with staged(tmp_path) as stage:
            stage.log.after_read = lambda: setattr(stage.log, "messages_down", True)
            assert await follow(stage, "/a") == 1
            assert not await no_handovers(stage)
            stage.log.messages_down = False
            await until(lambda: no_handovers(stage))

    run(claim())


def test_many_users_follow_many_subjects_and_a_repeat_adds_nothing(run, tmp_path, store_settings):
    async def claim():
        async with staged(tmp_path, **store_settings) as stage:
            users = [f"u{n}" for n in range(450)]
            subjects = [f"/s{n}" for n in range(7)]
            assert await follow(stage, *subjects, users=users) == 450 * 7
            assert await follow(stage, *subjects, "/s0", users=[*users, "u0"]) == 0
            assert await no_handovers(stage)
            assert await follows(stage, "u449") == [(subject, "") for subject in subjects]
            assert await unfollow(stage, *subjects, users=users[:90]) == 90 * 7
            await until(lambda: no_handovers(stage))
            assert await follows(stage, "u89") == []
            assert len(await follows(stage, "u90")) == 7

    run(claim())


def test_what_a_user_asks_to_follow_is_kept_apart_from_what_a_backend_adds(run, tmp_path):
    async def claim():
        async with staged(tmp_path) as stage:

            async def own(*users):
                asked = pb.AddFollowsRequest(users=users, subjects=["/a", "/b"], own=True)
                return (await stage.users.AddFollows(asked, timeout=20)).added

            code, _ = await status_of(own("ann", "bob"))
            assert code == "INVALID_ARGUMENT"
            assert await own("ann") == 2
            assert await own("ann") == 0
            assert await follow(stage, "/a") == 1
            assert await follows(stage) == [("/a", ""), ("/a", ""), ("/b", "")]
            assert await unfollow(stage, "/a", "/b") == 1, "a backend ends its own"
            assert await follows(stage) == [("/a", ""), ("/b", "")]
            assert await unfollow(stage, "/a", "/b", everywhere=True) == 2
            assert await follows(stage) == []

    run(claim())


def test_of_many_subjects_an_extension_is_told_once_for_each_user(run, tmp_path):
    async def claim():
        async with staged(tmp_path) as stage:
            await stage.store.write(lambda tx: tx.register_extension("x"))
            subjects = [f"/s{n:02}" for n in range(100)]

            async def told() -> list[tuple[str, int]]:
                pages = await stage.store.read(
                    lambda tx: tx.happenings_after("x", range(4), 1_000, 10_000_000)
                )
                rows = [UserPresence.FromString(row.payload) for page in pages for row in page.rows]
                return sorted((row.user, len(row.subjects)) for row in rows)

            await follow(stage, *subjects, users=["ann", "bob"])
            assert await told() == [("ann", 100), ("bob", 100)]
            await unfollow(stage, *subjects, users=["ann"])
            assert await told() == [("ann", 0), ("ann", 100), ("bob", 100)]

    run(claim())


def test_who_is_erased_is_not_told_of_any_more_but_that_nothing_is_left(run, tmp_path, monkeypatch):
    monkeypatch.setattr(users, "_HAPPENINGS_AT_ONCE", 2)

    async def claim():
        async with staged(tmp_path) as stage:
            await stage.store.write(lambda tx: tx.register_extension("x"))
            others = [f"u{n}" for n in range(40)]
            for user in ("ann", *others):
                await follow(stage, "/a", users=[user])
            await add_endpoint(stage)
            await follow(stage, "/b")
            for _ in range(2):
                await stage.users.EraseUser(pb.EraseUserRequest(user="ann"), timeout=20)
                pages = await stage.store.read(
                    lambda tx: tx.happenings_after("x", range(4), 1_000, 10_000_000)
                )
                rows = [row.payload for page in pages for row in page.rows]
                told = [UserPresence.FromString(payload) for payload in rows]
                assert MAIL.encode() not in b"".join(rows)
                [last] = [one for one in told if one.user == "ann"]
                assert not (last.subjects or last.external_tokens)
                assert {one.user for one in told} == {"ann", *others}

    run(claim())


def test_more_follows_than_a_backend_may_add_are_refused_by_the_name_of_the_bound(run, tmp_path):
    async def claim():
        async with staged(tmp_path, backend_follows_max=3) as stage:
            await follow(stage, "/a", "/b")
            code, words = await status_of(follow(stage, "/c", "/d"))
            assert (code, "at most 3 subjects" in words) == ("RESOURCE_EXHAUSTED", True)
            assert await follows(stage) == [("/a", ""), ("/b", "")], "a call's block is whole"
            assert await follow(stage, "/a", "/b", "/c") == 1
            await unfollow(stage, "/a")
            assert await follow(stage, "/d") == 1

    run(claim())


def test_what_is_no_user_or_subject_or_too_many_of_them_is_refused(run, tmp_path):
    async def claim():
        async with staged(tmp_path) as stage:
            for users, subjects in (
                ([], ["/a"]),
                (["ann"], []),
                (["ann"], ["a"]),
                ([""], ["/a"]),
                (["x" * 129], ["/a"]),
                (["ann"], [f"/{n}" for n in range(101)]),
                ([f"u{n}" for n in range(1_001)], ["/a"]),
            ):
                assert (await status_of(follow(stage, *subjects, users=users)))[0] == (
                    "INVALID_ARGUMENT"
                )
                assert (await status_of(unfollow(stage, *subjects, users=users)))[0] == (
                    "INVALID_ARGUMENT"
                )

    run(claim())


def test_without_a_coordinator_nobody_begins_to_follow(run, tmp_path):
    async def claim():
        async with staged(tmp_path) as stage:
            stage.log.messages_down = True
            assert (await status_of(follow(stage, "/a")))[0] == "UNAVAILABLE"
            assert await follows(stage) == []

    run(claim())


def test_a_replica_without_a_term_answers_that_another_is_to_be_asked(run, tmp_path):
    async def claim():
        async with staged(tmp_path) as stage:
            await stage.store.end()
            assert (await status_of(follow(stage, "/a")))[0] == "UNAVAILABLE"
            assert (await status_of(add_endpoint(stage)))[0] == "UNAVAILABLE"
            assert await follows(stage) == [], "reading needs no term"

    run(claim())


# -- beside clients --------------------------------------------------------------------------------


def test_what_a_backend_removes_stays_followed_by_clients_unless_it_is_everywhere(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        async with staged(tmp_path, plugin) as stage:
            ann = Client(stage.log, "ann")
            ann.connect("/a", "/b", endpoints=[MAIL])
            await stage.report()
            await follow(stage, "/a")
            assert await follows(stage) == [("/a", ""), ("/a", "ann-1"), ("/b", "ann-1")]
            assert await unfollow(stage, "/a") == 1
            assert await follows(stage) == [("/a", "ann-1"), ("/b", "ann-1")]
            await follow(stage, "/a")
            assert await unfollow(stage, "/a", everywhere=True) == 2
            assert await follows(stage) == [("/b", "ann-1")]
            ann.disconnect()
            await until(lambda: no_handovers(stage))
            stage.log.publish("/a", "x")
            await stage.report()
            assert await stage.states("ann", "/a") == ["NOT_FOLLOWED"]
            assert stage.log.follows("ann")["ann-1"] == {"/b"}, "and so it is where it is restored"
            assert await unfollow(stage, "/a", everywhere=True) == 0

    run(claim())


def test_follows_of_many_clients_of_many_users_end_and_each_user_is_one_entry(
    run, tmp_path, store_settings
):
    async def claim():
        async with staged(tmp_path, **store_settings) as stage:
            users = [f"u{n}" for n in range(60)]
            for user in users:
                for client in ("tab", "phone"):
                    Client(stage.log, user, f"{user}-{client}").connect("/a", "/b", "/c")
            await stage.report()
            before = sum(map(len, stage.log.entries.values()))
            ended = await unfollow(stage, "/a", "/b", "/z", users=users, everywhere=True)
            assert ended == 60 * 2 * 2
            assert sum(map(len, stage.log.entries.values())) == before + 60
            assert await follows(stage, "u7") == [("/c", "u7-phone"), ("/c", "u7-tab")]

    run(claim())


def test_what_a_client_began_before_the_call_is_ended_and_what_it_begins_later_is_not(
    run, tmp_path
):
    async def claim():
        async with staged(tmp_path) as stage:
            ann = Client(stage.log, "ann")
            ann.connect("/a")
            assert await unfollow(stage, "/a", everywhere=True) == 1, "presence had not seen it"
            ann.follow("/a")
            await stage.report()
            assert await follows(stage) == [("/a", "ann-1")]

    run(claim())


def test_an_end_that_the_owner_of_the_log_does_not_take_is_to_be_tried_again(
    run, tmp_path, monkeypatch
):
    async def claim():
        async with staged(tmp_path) as stage:
            Client(stage.log, "ann").connect("/a")
            await stage.report()
            stage.log.not_owner = True
            monkeypatch.setattr(stage.workers.user_servicer._users._log_owner, "_wait_s", 0.3)
            for call in (unfollow(stage, "/a", everywhere=True), revoke(stage), erase(stage)):
                assert (await status_of(call))[0] == "UNAVAILABLE"
            assert await follows(stage) == [("/a", "ann-1")]
            assert await unfollow(stage, "/a") == 0, "backends' own follows need no owner"
            stage.log.not_owner = False
            assert await unfollow(stage, "/a", everywhere=True) == 1

    run(claim())


def test_ownership_that_moves_meanwhile_is_waited_for(run, tmp_path):
    async def claim():
        async with staged(tmp_path) as stage:
            Client(stage.log, "ann").connect("/a")
            await stage.report()
            stage.log.not_owner = True
            ending = asyncio.create_task(unfollow(stage, "/a", everywhere=True))
            await until(lambda: len(stage.log.calls) > 1)
            stage.log.not_owner = False
            assert await ending == 1

    run(claim())


def test_follows_come_in_pages_of_whole_subjects(run, tmp_path):
    async def claim():
        async with staged(tmp_path) as stage:
            for name in ("c1", "c2", "c3"):
                Client(stage.log, "ann", name).connect("/b")
            await stage.report()
            await follow(stage, "/a", "/b", "/c")
            pages, after = [], ""
            while True:
                request = pb.ListFollowsRequest(user="ann", limit=2, after_subject=after)
                answer = await stage.users.ListFollows(request, timeout=20)
                pages.append([one.subject for one in answer.follows])
                after = answer.next_after_subject
                if not after:
                    break
            assert pages == [["/a"], ["/b"] * 4, ["/c"]]

    run(claim())


def test_a_page_behind_what_is_no_subject_is_refused(run, tmp_path, store_settings):
    """A text with a zero in it is none that PostgreSQL could be sent."""

    async def claim():
        async with staged(tmp_path, **store_settings) as stage:
            for after in ("\0", "a", "/a\0"):
                request = pb.ListFollowsRequest(user="ann", after_subject=after)
                code, _ = await status_of(stage.users.ListFollows(request, timeout=20))
                assert code == "INVALID_ARGUMENT"

    run(claim())


def test_a_mute_shows_with_the_follow(run, tmp_path):
    async def claim():
        async with staged(tmp_path) as stage:
            await follow(stage, "/a", "/b")
            mute = pb.SubjectMute(subject="/a", until=Timestamp(seconds=4_000_000_000))
            await stage.users.Mute(pb.MuteRequest(user="ann", mute=mute), timeout=20)
            listed = await stage.users.ListFollows(pb.ListFollowsRequest(user="ann"), timeout=20)
            assert listed.follows[0].muted_until == mute.until
            assert not listed.follows[1].HasField("muted_until")

    run(claim())


# -- endpoints -------------------------------------------------------------------------------------


def test_an_endpoint_is_added_listed_and_removed_whoever_registered_it(run, tmp_path):
    async def claim():
        async with staged(tmp_path) as stage:
            Client(stage.log, "ann").connect(endpoints=[MAIL])
            await stage.report()
            await add_endpoint(stage, "tel:+15551234567")
            assert await endpoints(stage) == [(MAIL, ["ann-1"]), ("tel:+15551234567", [])]
            for removed in (True, False):
                request = pb.RemoveEndpointRequest(user="ann", uri=MAIL)
                answer = await stage.users.RemoveEndpoint(request, timeout=20)
                assert answer.removed is removed
            assert await endpoints(stage) == [("tel:+15551234567", [])]

    run(claim())


def test_a_token_that_moves_leaves_its_former_user(run, tmp_path, store_settings):
    async def claim():
        async with staged(tmp_path, **store_settings) as stage:
            await add_endpoint(stage, FCM, "bob")
            await add_endpoint(stage, MAIL, "bob")
            await add_endpoint(stage, FCM)
            await add_endpoint(stage, MAIL)
            assert await endpoints(stage, "bob") == [(MAIL, [])]
            assert await endpoints(stage) == [(FCM, []), (MAIL, [])]

    run(claim())


def test_more_endpoints_than_allowed_are_refused_by_the_name_of_the_bound(run, tmp_path):
    async def claim():
        async with staged(tmp_path, external_tokens_max=2) as stage:
            Client(stage.log, "ann").connect(endpoints=[MAIL])
            await stage.report()
            await add_endpoint(stage, FCM)
            code, words = await status_of(add_endpoint(stage, "fcm:another"))
            assert (code, "at most 2 external tokens" in words) == ("RESOURCE_EXHAUSTED", True)
            await add_endpoint(stage, FCM)

    run(claim())


@pytest.mark.parametrize(
    "uri",
    ["", "mailto", "mailto:", ":x", "fcm:a b", "fcm:ä", "fcm:a\n", "1:x", "fcm:" + "x" * 4_093],
)
def test_what_is_no_uri_is_refused_without_being_quoted(run, tmp_path, uri):
    async def claim():
        async with staged(tmp_path) as stage:
            code, words = await status_of(add_endpoint(stage, uri))
            assert code == "INVALID_ARGUMENT"
            assert len(uri) < 3 or uri not in words

    run(claim())


# -- profiles --------------------------------------------------------------------------------------


def test_a_profile_is_changed_in_parts_and_told(run, tmp_path, store_settings):
    async def claim():
        async with staged(tmp_path, **store_settings) as stage:
            empty = await stage.users.GetProfile(pb.GetProfileRequest(user="ann"), timeout=20)
            assert empty == pb.GetProfileResponse(profile=pb.UserProfile())
            wanted = pb.UserProfile(locale="de", time_zone="Europe/Berlin")
            request = pb.UpdateProfileRequest(user="ann", profile=wanted, parts=["locale"])
            changed = await stage.users.UpdateProfile(request, timeout=20)
            assert changed.profile == pb.UserProfile(locale="de")
            bad = pb.UpdateProfileRequest(user="ann", profile=wanted, parts=["nothing"])
            code, _ = await status_of(stage.users.UpdateProfile(bad, timeout=20))
            assert code == "INVALID_ARGUMENT"
            mute = pb.MuteRequest(user="ann", mute=pb.SubjectMute(subject="/chat/*"))
            await stage.users.Mute(mute, timeout=20)
            for removed in (True, False):
                request = pb.UnmuteRequest(user="ann", subject="/chat/*")
                assert (await stage.users.Unmute(request, timeout=20)).removed is removed

    run(claim())


def test_a_change_that_changes_nothing_wakes_nobody(run, tmp_path, monkeypatch):
    async def claim():
        async with staged(tmp_path) as stage:
            request = pb.UpdateProfileRequest(
                user="ann", profile=pb.UserProfile(locale="de"), parts=["locale"]
            )
            woken = []
            dispatcher = stage.workers._dispatcher
            wake = dispatcher.wake
            monkeypatch.setattr(
                dispatcher, "wake", lambda *which: (woken.append(which), wake(*which))
            )
            for _ in range(3):
                await stage.users.UpdateProfile(request, timeout=20)
            assert len(woken) == 1

    run(claim())


def test_categories_of_the_routing_file_are_told_and_others_refused(run, tmp_path):
    async def claim():
        async with staged(tmp_path) as stage:
            stage.workers.user_servicer._categories = lambda: [("chat", "Chats", True)]
            told = await stage.users.GetProfile(pb.GetProfileRequest(user="ann"), timeout=20)
            assert list(told.categories) == [
                pb.CategoryChoice(name="chat", title="Chats", allowed=True)
            ]
            for category, code in (("chat", ""), ("news", "INVALID_ARGUMENT")):
                profile = pb.UserProfile(preferences=[pb.Preference(category=category)])
                call = stage.users.UpdateProfile(
                    pb.UpdateProfileRequest(user="ann", profile=profile, parts=["preferences"]),
                    timeout=20,
                )
                if code:
                    assert (await status_of(call))[0] == code
                else:
                    await call

    run(claim())


def test_too_many_mutes_are_refused_by_the_name_of_the_bound(run, tmp_path):
    async def claim():
        async with staged(tmp_path) as stage:
            mutes = [pb.SubjectMute(subject=f"/{n}") for n in range(500)]
            request = pb.UpdateProfileRequest(
                user="ann", profile=pb.UserProfile(mutes=mutes), parts=["mutes"]
            )
            await stage.users.UpdateProfile(request, timeout=20)
            one_more = pb.MuteRequest(user="ann", mute=pb.SubjectMute(subject="/x"))
            code, words = await status_of(stage.users.Mute(one_more, timeout=20))
            assert (code, "at most 500" in words) == ("RESOURCE_EXHAUSTED", True)

    run(claim())


# -- revocations and ends --------------------------------------------------------------------------


async def revoke(stage: Stage, subject: str = "") -> int:
    request = pb.RevokeRequest(user="ann", subject=subject)
    return (await reported(stage, stage.users.Revoke(request, timeout=20))).ended


def test_a_revocation_cancels_what_was_to_be_sent_of_the_subject(run, tmp_path, store_settings):
    async def claim():
        async with staged(tmp_path, **store_settings) as stage:
            await follow(stage, "/a", "/b")
            await add_endpoint(stage)
            stage.log.publish("/a", "x")
            stage.log.publish("/b", "y")
            await stage.report()
            assert await stage.states("ann", "/a") == ["PENDING"]
            assert await revoke(stage, "/a") == 1
            story = await stage.explain("ann", "/a")
            assert [(one.state, one.reason) for one in story.outcomes] == [
                (presence_pb2.Outcome.State.SUPPRESSED, "REVOKED")
            ]
            assert await stage.states("ann", "/b") == ["PENDING"]
            await until(lambda: no_handovers(stage))
            stage.log.publish("/a", "later")
            await stage.report()
            assert await stage.states("ann", "/a") == ["SUPPRESSED", "NOT_FOLLOWED"]

    run(claim())


def test_a_revocation_of_all_ends_what_clients_and_backends_follow(run, tmp_path):
    async def claim():
        async with staged(tmp_path) as stage:
            await add_endpoint(stage)
            Client(stage.log, "ann").connect("/a", "/z")
            await stage.report()
            for first in range(0, 250, 50):
                await follow(stage, *(f"/s{n}" for n in range(first, first + 50)))
            stage.log.publish("/s7", "x")
            await stage.report()
            assert await revoke(stage) == 252
            assert await follows(stage) == []
            assert await stage.states("ann", "/s7") == ["SUPPRESSED"]
            assert await revoke(stage) == 0

    run(claim())


async def erase(stage: Stage, user: str = "ann") -> None:
    await stage.users.EraseUser(pb.EraseUserRequest(user=user), timeout=20)


def test_an_erased_user_is_not_known_any_more_and_not_notified(run, tmp_path, store_settings):
    async def claim():
        plugin = FakePlugin()
        async with staged(tmp_path, plugin, **store_settings) as stage:
            ann = Client(stage.log, "ann")
            ann.connect("/a", endpoints=[MAIL])
            ann.disconnect()
            await stage.report()
            await until(lambda: waits(stage))
            await follow(stage, "/a", "/b")
            stage.log.publish("/a", "x")
            await stage.report()
            await until(lambda: plugin.calls)
            await erase(stage)
            stage.log.publish("/a", "y")
            await stage.report()
            story = await stage.explain("ann", "/a")
            assert {one.state for one in story.outcomes} == {
                presence_pb2.Outcome.State.NOT_FOLLOWED
            }
            assert not story.clients
            assert (await follows(stage), await endpoints(stage)) == ([], [])
            assert len(plugin.deliveries) == 1

    async def waits(stage):
        return await stage.store.read(lambda tx: tx.users_waiting("/a"))

    run(claim())


def test_an_end_waits_for_what_the_user_did_before(run, tmp_path):
    async def claim():
        async with staged(tmp_path) as stage:
            Client(stage.log, "ann").connect("/a", endpoints=[MAIL])
            erasing = asyncio.create_task(erase(stage))
            await asyncio.sleep(0.2)
            assert not erasing.done(), "the connect stands in the log, and has not taken effect"
            await stage.report()
            await erasing
            assert (await follows(stage), await endpoints(stage)) == ([], [])

    run(claim())


def test_an_end_that_presence_is_too_far_behind_for_is_to_be_tried_again(run, tmp_path):
    async def claim():
        async with staged(tmp_path) as stage:
            Client(stage.log, "ann").connect("/a")
            assert (await status_of(erase(stage)))[0] == "UNAVAILABLE"
            await stage.report()
            await erase(stage)

    run(claim())


def test_what_is_being_sent_may_arrive_and_its_record_goes_with_the_user(run, tmp_path):
    async def claim():
        plugin, answer = FakePlugin(), asyncio.Event()

        async def later(request, context):
            await answer.wait()
            return await FakePlugin().Notify(request, context)

        plugin.script.append(later)
        async with staged(tmp_path, plugin) as stage:
            await follow(stage, "/a")
            await add_endpoint(stage)
            stage.log.publish("/a", "x")
            await stage.report()
            await until(lambda: plugin.calls)
            erasing = asyncio.create_task(erase(stage))
            await until(lambda: gone(stage, "follows"))
            assert not erasing.done()
            answer.set()
            await erasing
            await until(lambda: gone(stage, "deliveries"))

    async def gone(stage, table):
        return not await stage.store.read(lambda tx: tx.db.rows(f"SELECT 1 FROM {table}"))

    run(claim())


def test_a_client_that_is_online_comes_back_with_its_next_event_alone(run, tmp_path):
    async def claim():
        async with staged(tmp_path) as stage:
            ann = Client(stage.log, "ann")
            ann.connect("/a")
            await stage.report()
            await erase(stage)
            ann.disconnect()
            await stage.report()
            state = await stage.store.read(lambda tx: tx.load_user("ann"))
            assert (list(state.registers), dict(state.follows)) == (["ann-1"], {})

    run(claim())


def test_the_pseudo_client_of_backends_is_nobody_in_the_lists(run, tmp_path):
    async def claim():
        async with staged(tmp_path) as stage:
            await follow(stage, "/a")
            await add_endpoint(stage)
            assert BACKEND not in str((await follows(stage), await endpoints(stage)))

    run(claim())
