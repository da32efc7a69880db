"""The extension over real gRPC, with a file for its memory and a sender that tests script."""

import asyncio
import time
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import pytest
from chat import AGE_MAX_S, ChatExtension, Outcome
from extension import RequireSecret, credentials
from fcm import verdict
from memory import Memory
from onward.extension.v1 import extension_pb2 as pb
from onward.extension.v1 import extension_pb2_grpc
from onward.types.v1 import entry_pb2

SECRET = "a secret of sixteen or more"


class FakeSender:
    """Answers `outcomes` in turn, then SENT."""

    def __init__(self, *outcomes: Outcome) -> None:
        self.outcomes = list(outcomes)
        self.sent: list[tuple[str, str]] = []
        self.tags: list[str] = []

    async def send(self, token, push):
        outcome = self.outcomes.pop(0) if self.outcomes else Outcome.SENT
        if outcome is Outcome.SENT:
            self.sent.append((token, push.body))
            self.tags.append(push.tag)
        return outcome


class World:
    """The extension, started again on the same file as often as a test likes."""

    def __init__(self, path, sender) -> None:
        self._path, self.sender = str(path / "state.sqlite"), sender
        self._numbers: dict[int, int] = {}

    async def start(self) -> None:
        self.memory = Memory(self._path)
        self._server = grpc.aio.server(interceptors=[RequireSecret(SECRET)])
        extension_pb2_grpc.add_PresenceExtensionServiceServicer_to_server(
            ChatExtension(self.memory, self.sender), self._server
        )
        port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        self.stub = extension_pb2_grpc.PresenceExtensionServiceStub(self.channel)
        self.shown = (("authorization", f"Bearer {SECRET}"),)

    async def stop(self) -> None:
        await self.channel.close()
        await self._server.stop(0)
        self.memory.close()

    def position(self, partition: int) -> pb.HappeningPosition:
        number = self._numbers[partition] = self._numbers.get(partition, 0) + 1
        return pb.HappeningPosition(partition=partition, number=number)

    def presence(self, user="ann", offline=True, generation=1, **changes) -> pb.UserPresence:
        fields = {
            "client_id": f"{user}-1",
            "external_tokens": [f"fcm:{user}"],
            "subjects": ["/chat/1"],
            "is_offline": offline,
            "client_offline": offline,
        } | changes
        return pb.UserPresence(
            position=self.position(1), user=user, generation=generation, **fields
        )

    def message(
        self, text="hello", publisher="bob", subject="/chat/1", age_s=0.0
    ) -> pb.ClusterMessage:
        position = self.position(2)
        message = entry_pb2.Message(
            subject=subject,
            seq=position.number,
            publisher=publisher,
            content=entry_pb2.Content(text=text),
        )
        message.accepted_at.FromNanoseconds(int((time.time() - age_s) * 1e9))
        return pb.ClusterMessage(position=position, message=message)

    async def users(self, *events) -> None:
        request = pb.OnUserPresenceRequest(events=events)
        await self.stub.OnUserPresence(request, metadata=self.shown, timeout=10)

    async def messages(self, *messages) -> None:
        request = pb.OnClusterMessageRequest(messages=messages)
        await self.stub.OnClusterMessage(request, metadata=self.shown, timeout=10)

    async def gap(self, partition: int, first: int, last: int) -> None:
        request = pb.OnGapRequest(partition=partition, from_number=first, to_number=last)
        await self.stub.OnGap(request, metadata=self.shown, timeout=10)


@asynccontextmanager
async def world(path, *outcomes: Outcome):
    found = World(path, FakeSender(*outcomes))
    await found.start()
    try:
        yield found
    finally:
        await found.stop()


def test_who_follows_and_is_offline_is_pushed_the_message(tmp_path):
    async def main():
        async with world(tmp_path) as found:
            await found.users(
                found.presence("ann"),
                found.presence("cid", offline=False),
                found.presence("dan", subjects=["/other"]),
                found.presence("eve", external_tokens=["mailto:eve@example.org"]),
                found.presence("bob"),
            )
            await found.messages(found.message("hello", publisher="bob"))
            assert found.sender.sent == [("ann", "hello")]

    asyncio.run(main())


def test_a_call_that_comes_again_pushes_nothing_again(tmp_path):
    async def main():
        async with world(tmp_path) as found:
            came, went = found.presence("ann", offline=False), found.presence("ann")
            for _ in range(2):
                await found.users(came, went)
            told = [found.message("one"), found.message("two")]
            for _ in range(3):
                await found.messages(*told)
            assert [body for _, body in found.sender.sent] == ["one", "two"]
            # Also by a process that was started since.
            await found.stop()
            await found.start()
            await found.users(came)
            await found.messages(*told)
            await found.messages(found.message("three"))
            assert [body for _, body in found.sender.sent] == ["one", "two", "three"]

    asyncio.run(main())


def test_what_must_wait_is_not_answered_and_is_pushed_once_when_it_comes_again(tmp_path):
    async def main():
        async with world(tmp_path, Outcome.SENT, Outcome.LATER) as found:
            await found.users(found.presence("ann"), found.presence("cid"))
            told = [found.message("one"), found.message("two")]
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await found.messages(*told)
            assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
            assert found.memory.position(2) == 0
            await found.messages(*told)
            assert sorted(found.sender.sent) == [
                ("ann", "one"),
                ("ann", "two"),
                ("cid", "one"),
                ("cid", "two"),
            ]
            assert len(set(found.sender.tags)) == 2, "one tag for each message"

    asyncio.run(main())


def test_a_token_that_is_gone_is_not_pushed_to_again(tmp_path):
    async def main():
        async with world(tmp_path, Outcome.GONE) as found:
            await found.users(found.presence("ann"))
            await found.messages(found.message("one"), found.message("two"))
            assert found.sender.sent == []
            await found.users(found.presence("ann", external_tokens=["fcm:new"]))
            await found.messages(found.message("three"))
            assert found.sender.sent == [("new", "three")]

    asyncio.run(main())


def test_a_push_that_can_never_be_taken_keeps_nobody_waiting(tmp_path):
    async def main():
        async with world(tmp_path, Outcome.DROPPED) as found:
            await found.users(found.presence("ann"))
            await found.messages(found.message("one"), found.message("two"))
            assert found.sender.sent == [("ann", "two")]

    asyncio.run(main())


def test_one_foreign_token_holds_up_neither_other_users_nor_later_messages(tmp_path):
    foreign = verdict(403, {"error": {"details": [{"errorCode": "SENDER_ID_MISMATCH"}]}})

    async def main():
        async with world(tmp_path, foreign) as found:
            await found.users(found.presence("ann"), found.presence("cid"))
            await found.messages(found.message("one"), found.message("two"))
            assert found.sender.sent == [("cid", "one"), ("ann", "two"), ("cid", "two")]
            assert found.memory.position(2) == 2

    asyncio.run(main())


def test_what_must_wait_is_waited_for_no_longer_than_it_is_worth_pushing(tmp_path):
    async def main():
        async with world(tmp_path, *[Outcome.LATER] * 3) as found:
            await found.users(found.presence("ann"))
            young, old = AGE_MAX_S - 60, AGE_MAX_S + 1
            await found.messages(found.message("old", age_s=old))
            assert found.memory.position(2) == 1, "it is passed over"
            with pytest.raises(grpc.aio.AioRpcError):
                await found.messages(found.message("young", age_s=young), found.message("new"))
            assert found.memory.position(2) == 1, "it is still waited for"
            found._numbers[2] = 1
            found.sender.outcomes.clear()
            await found.messages(found.message("young", age_s=old), found.message("new"))
            assert found.sender.sent == [("ann", "new")]

    asyncio.run(main())


def test_a_message_that_does_not_say_when_it_was_accepted_is_pushed(tmp_path):
    async def main():
        async with world(tmp_path) as found:
            await found.users(found.presence("ann"))
            timeless = found.message("timeless")
            timeless.message.ClearField("accepted_at")
            await found.messages(timeless)
            assert found.sender.sent == [("ann", "timeless")]

    asyncio.run(main())


def test_after_a_gap_nobody_is_pushed_to_on_the_strength_of_what_was_known(tmp_path):
    async def main():
        async with world(tmp_path) as found:
            await found.users(found.presence("ann"))
            await found.gap(1, 2, 9)
            await found.messages(found.message("one"))
            assert found.sender.sent == []
            found._numbers[1] = 9
            await found.users(found.presence("ann", generation=2))
            await found.messages(found.message("two"))
            assert found.sender.sent == [("ann", "two")]

    asyncio.run(main())


def test_a_long_text_is_cut(tmp_path):
    async def main():
        async with world(tmp_path) as found:
            await found.users(found.presence("ann"))
            await found.messages(found.message("x" * 100_000))
            [(_, body)] = found.sender.sent
            assert len(body) == 500 and body.endswith("…")

    asyncio.run(main())


def test_who_does_not_show_the_secret_is_refused(tmp_path):
    async def main():
        async with world(tmp_path) as found:
            found.shown = (("authorization", "Bearer something else"),)
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await found.messages(found.message())
            assert failed.value.code() is grpc.StatusCode.UNAUTHENTICATED

    asyncio.run(main())


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({}, "ONWARD_SECRET is not set"),
        ({"ONWARD_SECRET": "short"}, "shorter than 16"),
        ({"ONWARD_SECRET": SECRET, "EXTENSION_TLS_CA_FILE": "x"}, "EXTENSION_TLS_CERT_FILE"),
    ],
)
def test_without_credentials_it_does_not_start(environ, words):
    with pytest.raises(ValueError, match=words):
        credentials(environ)
