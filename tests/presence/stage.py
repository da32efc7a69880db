"""A presence service on a stage: real store, real gRPC; a log and plugins that tests write.

`FakeLog` serves the coordinator's two reads and reports its entries to presence as a coordinator
does. `FakePlugin` is a notifier plugin that answers as scripted. `Client` forms the presence events
of one client's sessions. `Stage` puts a presence service between them, and can end it hard and
start it again on the same store. `StageClock` is the store's clock: a test that needs several steps
within one short time halts it meanwhile, so that a busy machine cannot come between them.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2_grpc
from onward.coordinator.v1 import coordinator_pb2, coordinator_pb2_grpc
from onward.notifier.v1 import notifier_pb2, notifier_pb2_grpc
from onward.presence.v1 import (
    deliveries_pb2_grpc,
    presence_pb2,
    presence_pb2_grpc,
    users_pb2_grpc,
)
from onward.types.v1 import entry_pb2

from services.chassis.channel import open_channel
from services.chassis.server import Server
from services.chassis.subjects import partition_of
from services.chassis.tls import Trust
from services.presence.postgres_store import PostgresStore
from services.presence.serial_store import SerialStore
from services.presence.settings import Settings
from services.presence.sqlite_store import SqliteStore
from services.presence.workers import Workers
from tests.presence.terms import begin, take

SECRET = "a secret of sixteen or more"
PARTITIONS = 4
Outcome = notifier_pb2.Result


class FakeLog(coordinator_pb2_grpc.CoordinatorServiceServicer):
    """A log in memory, with the reads of a coordinator and its reports."""

    def __init__(self, log_id: str = "log-1") -> None:
        self.log_id = log_id
        self.entries: dict[int, list[entry_pb2.Entry]] = defaultdict(list)
        self.subjects: dict[str, list[tuple[int, entry_pb2.Message]]] = defaultdict(list)
        self.cursors: dict[int, int] = defaultdict(int)
        self.floors: dict[str, int] = defaultdict(int)
        self.reads = 0
        self.messages_down = False
        self.calls: list[str] = []  # of EndFollows and ForgetUser, the user
        self.not_owner = False
        # Called once, when the next read of messages has been answered.
        self.after_read: Callable[[], None] | None = None
        self._server = Server("127.0.0.1:0", SECRET, ["onward.coordinator.v1.CoordinatorService"])
        coordinator_pb2_grpc.add_CoordinatorServiceServicer_to_server(self, self._server.grpc)

    async def start(self) -> str:
        await self._server.start()
        return f"127.0.0.1:{self._server.port}"

    async def stop(self) -> None:
        await self._server.drain(0)

    def append(self, key: str, **body) -> entry_pb2.Entry:
        partition = partition_of(key, PARTITIONS)
        log = self.entries[partition]
        entry = entry_pb2.Entry(partition=partition, pos=len(log) + 1, epoch=1, **body)
        log.append(entry)
        return entry

    def publish(
        self,
        subject: str,
        text: str,
        publisher: str = "bob",
        age_s: float | None = None,
        **headers: str,
    ) -> int:
        """Returns the seq. `age_s`: accepted so long ago; None: it does not say when."""
        seq = len(self.subjects[subject]) + 1
        message = entry_pb2.Message(
            subject=subject,
            seq=seq,
            epoch=1,
            publisher=publisher,
            content=entry_pb2.Content(text=text, headers=headers),
        )
        if age_s is not None:
            message.accepted_at.FromSeconds(int(time.time() - age_s))
        entry = self.append(subject, message=message)
        self.subjects[subject].append((entry.pos, message))
        return seq

    def write(self, event: entry_pb2.PresenceEvent) -> None:
        self.append(event.user, presence=event)

    def mark(self, subject: str, edge_id: int, round_: int) -> None:
        """The edge's clients have acknowledged all that the subject's partition has now."""
        pos = len(self.entries[partition_of(subject, PARTITIONS)])
        self.append(subject, mark=entry_pb2.Mark(edge_id=edge_id, round=round_, pos=pos))

    def request(self) -> presence_pb2.ReportRequest:
        """What a coordinator would report next."""
        request = presence_pb2.ReportRequest(log_id=self.log_id)
        for partition, log in self.entries.items():
            request.partitions.add(
                partition=partition, epoch=1, entries=log[self.cursors[partition] :]
            )
        return request

    async def ReadMessages(self, request, context):
        self.reads += 1
        if self.messages_down:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the log is down")
        log = self.subjects[request.subject]
        floor = self.floors[request.subject]
        after = max(request.after_seq, floor)
        response = coordinator_pb2.ReadMessagesResponse(
            messages=[
                coordinator_pb2.Delivery(pos=pos, message=message)
                for pos, message in log[after : after + request.limit]
            ],
            head=len(log),
            floor=floor,
            log_id=self.log_id,
        )
        if self.after_read is not None:
            then, self.after_read = self.after_read, None
            then()
        return response

    async def EndFollows(self, request, context):
        """As the owner of the user's partition, which knows what the events say."""
        await self._check_owner(request.user, context)
        ended = {
            client: [s for s in follows if s in request.subjects or not request.subjects]
            for client, follows in self.follows(request.user).items()
        }
        count = sum(map(len, ended.values()))
        if count:
            revoked = entry_pb2.PresenceEvent.Revoked(subjects=request.subjects)
            self.write(
                entry_pb2.PresenceEvent(
                    user=request.user, session_id=request.call_id, number=1, revoked=revoked
                )
            )
        partition = partition_of(request.user, PARTITIONS)
        pos = len(self.entries[partition])
        return coordinator_pb2.EndFollowsResponse(ended=count, partition=partition, pos=pos)

    async def ForgetUser(self, request, context):
        """Nothing is written: the sessions of a test's clients end as it says."""
        await self._check_owner(request.user, context)
        partition = partition_of(request.user, PARTITIONS)
        pos = len(self.entries[partition])
        return coordinator_pb2.ForgetUserResponse(partition=partition, pos=pos)

    async def _check_owner(self, user: str, context) -> None:
        self.calls.append(user)
        if self.not_owner:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not the owner")

    def follows(self, user: str) -> dict[str, set[str]]:
        """By client, what the log says that it follows."""
        follows: dict[str, set[str]] = defaultdict(set)
        for entry in self.entries[partition_of(user, PARTITIONS)]:
            event = entry.presence
            if event.user != user:
                continue
            mine = follows[event.client_id]
            match event.WhichOneof("event"):
                case "connected":
                    if event.connected.replaces_follows:
                        mine.clear()
                    mine.update(one.subject for one in event.connected.follows)
                case "followed":
                    mine.update(one.subject for one in event.followed.follows)
                case "unfollowed":
                    mine.difference_update(one.subject for one in event.unfollowed.acked)
                case "logged_out":
                    mine.clear()
                case "revoked":
                    for each in follows.values():
                        each.difference_update(event.revoked.subjects or set(each))
        return follows

    async def ReadTails(self, request, context):
        return coordinator_pb2.ReadTailsResponse(
            tails=[
                coordinator_pb2.Tail(partition=partition, pos=len(self.entries[partition]))
                for partition in request.partitions or range(PARTITIONS)
            ],
            log_id=self.log_id,
        )


class StageClock:
    """The time of day, that can be halted and goes on where it was halted."""

    def __init__(self) -> None:
        self._behind_s = 0.0
        self._halted_at: float | None = None

    def __call__(self) -> float:
        return time.time() - self._behind_s if self._halted_at is None else self._halted_at

    def halt(self) -> None:
        self._halted_at = self()

    def go_on(self) -> None:
        assert self._halted_at is not None
        self._behind_s = time.time() - self._halted_at
        self._halted_at = None


class Client:
    """One client of a user; every `connect` is a new session."""

    def __init__(self, log: FakeLog, user: str, client_id: str = "", edge_id: int = 7) -> None:
        self.log, self.user, self.client_id = log, user, client_id or f"{user}-1"
        self.edge_id = edge_id
        self.generation = 0
        self.number = 0

    def connect(self, *subjects: str, start: int = 0, endpoints=(), **fields) -> None:
        self.connect_at(dict.fromkeys(subjects, start), endpoints, **fields)

    def connect_at(self, starts: dict[str, int], endpoints=(), **fields) -> None:
        """As `connect`, with a start for each subject."""
        self.generation += 1
        self.number = 0
        follows = [entry_pb2.FollowStart(subject=s, start=start) for s, start in starts.items()]
        connected = entry_pb2.PresenceEvent.Connected(
            replaces_follows=bool(starts),
            follows=follows,
            endpoints=endpoints,
            acknowledges=True,
            **fields,
        )
        self._write(connected=connected, round=1)

    def disconnect(self, clean: bool = False, **acked: int) -> None:
        positions = [entry_pb2.Position(subject="/" + name, seq=seq) for name, seq in acked.items()]
        self._write(disconnected=entry_pb2.PresenceEvent.Disconnected(clean=clean, acked=positions))

    def follow(self, subject: str, start: int = 0) -> None:
        start_at = entry_pb2.FollowStart(subject=subject, start=start)
        self._write(followed=entry_pb2.PresenceEvent.Followed(follows=[start_at]), round=1)

    def unfollow(self, subject: str, acked: int) -> None:
        position = entry_pb2.Position(subject=subject, seq=acked)
        self._write(unfollowed=entry_pb2.PresenceEvent.Unfollowed(acked=[position]))

    def set_activity(self, active: bool) -> None:
        self._write(activity_changed=entry_pb2.PresenceEvent.ActivityChanged(active=active))

    def remove_endpoint(self, uri: str) -> None:
        self._write(endpoint_removed=entry_pb2.PresenceEvent.EndpointRemoved(uri=uri))

    def _write(self, **event) -> None:
        self.number += 1
        self.log.write(
            entry_pb2.PresenceEvent(
                user=self.user,
                client_id=self.client_id,
                session_id=f"{self.client_id}/{self.generation}",
                number=self.number,
                generation=self.generation,
                edge_id=self.edge_id,
                **event,
            )
        )


class FakePlugin(notifier_pb2_grpc.NotifierServiceServicer):
    """Answers `script` in order, one entry for each call, then ACCEPTED for ever.

    An entry is an outcome for every delivery of the call, or a function of the request that returns
    the response (or raises, or hangs).
    """

    def __init__(self, name: str = "fake", **channels: bool) -> None:
        self.name = name
        self.channels = channels or {"mailto": True}
        self.batch_max = 0
        # Answers health checks, in place of the server's own.
        self.health: health_pb2_grpc.HealthServicer | None = None
        # What it is asked for with callbacks, and answers; None: it takes none.
        self.on_callback: Callable | None = None
        self.callbacks: list[notifier_pb2.HandleCallbackRequest] = []
        self.described_to: list[str] = []
        self.script: list[int | Callable] = []
        self.calls: list[notifier_pb2.NotifyRequest] = []
        self.port = 0
        self._server: Server | None = None

    @property
    def deliveries(self) -> list[notifier_pb2.Delivery]:
        return [delivery for call in self.calls for delivery in call.deliveries]

    async def start(self) -> str:
        address = f"127.0.0.1:{self.port}"
        self._server = Server(address, SECRET, ["onward.notifier.v1.NotifierService"])
        notifier_pb2_grpc.add_NotifierServiceServicer_to_server(self, self._server.grpc)
        if self.health is not None:
            health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server.grpc)
        await self._server.start()
        await self.set_serving(True)
        self.port = self._server.port
        return f"127.0.0.1:{self.port}"

    async def set_serving(self, serving: bool) -> None:
        """What it says of its health."""
        assert self._server is not None
        await self._server.set_serving(serving)

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.drain(0)
            self._server = None

    async def HandleCallback(self, request, context):
        self.callbacks.append(request)
        assert self.on_callback is not None
        answer = self.on_callback(request, context)
        return await answer if asyncio.iscoroutine(answer) else answer

    async def Describe(self, request, context):
        self.described_to.append(request.report_to)
        return notifier_pb2.DescribeResponse(
            name=self.name,
            batch_max=self.batch_max,
            callbacks=self.on_callback is not None,
            channels=[
                notifier_pb2.Channel(scheme="*" if scheme == "any" else scheme, repeats_unknown=r)
                for scheme, r in self.channels.items()
            ],
        )

    async def Notify(self, request, context):
        self.calls.append(request)
        step = self.script.pop(0) if self.script else notifier_pb2.Result.ACCEPTED
        if callable(step):
            response = step(request, context)
            return await response if asyncio.iscoroutine(response) else response
        return notifier_pb2.NotifyResponse(
            results=[
                notifier_pb2.Result(delivery_id=delivery.delivery_id, outcome=step)
                for delivery in request.deliveries
            ]
        )


def quick(data_dir, plugins=(), **changes) -> Settings:
    """Settings with short times."""
    values = {
        "secret": SECRET,
        "data_dir": str(data_dir),
        "plugins": tuple(plugins),
        "grace_s": 0.05,
        "grace_clean_s": 0.05,
        "grace_dead_edge_s": 0.05,
        "hold_check_s": 0.02,
        "collapse_s": 30.0,
        "retry_first_s": 0.02,
        "retry_longest_s": 0.2,
        "dead_letter_after_s": 0.0,
        "breaker_first_s": 0.05,
        "breaker_longest_s": 0.1,
        "plugins_wait_s": 2.0,
        "sweep_every_s": 0.05,
        "drain_s": 0.2,
    }
    return Settings(**(values | changes))


class Stage:
    """A presence service with its gRPC server, on a log and plugins."""

    def __init__(self, settings: Settings, log: FakeLog, log_address: str) -> None:
        self.settings = settings
        self.log = log
        self.live_edges = {7}
        self.members: set[int] = set()  # terms of other presence services that are there
        self.extensions: dict[str, dict[str, object]] = {}  # as etcd has them
        self.clock = StageClock()
        self._log_address = log_address
        self.epoch = 0

    async def start(self, partitions: Collection[int] = range(PARTITIONS)) -> None:
        """Begin a term and claim these partitions."""
        self.store: SerialStore = (
            PostgresStore(self.settings.store, self.settings.store_answer_s, self.clock)
            if self.settings.store
            else SqliteStore(self.settings.data_dir, self.clock)
        )
        await self.store.open()
        self.workers = Workers(
            self.settings,
            Trust(SECRET),
            self.store,
            PARTITIONS,
            coordinators=lambda: [self._log_address],
            owner_of=lambda partition: self._log_address,
            live_edges=lambda: list(self.live_edges),
            edge_is_alive=self._is_alive,
            is_member=self._is_member,
            drain=lambda: 0.0,
            extensions=lambda: self.extensions,
        )
        self._server = Server("127.0.0.1:0", SECRET, [])
        presence_pb2_grpc.add_PresenceServiceServicer_to_server(
            self.workers.servicer, self._server.grpc
        )
        presence_pb2_grpc.add_PresenceQueryServiceServicer_to_server(
            self.workers.query_servicer, self._server.grpc
        )
        deliveries_pb2_grpc.add_DeliveryServiceServicer_to_server(
            self.workers.delivery_servicer, self._server.grpc
        )
        users_pb2_grpc.add_UserServiceServicer_to_server(
            self.workers.user_servicer, self._server.grpc
        )
        await self._server.start()
        self.address = f"127.0.0.1:{self._server.port}"
        self.workers.reached_at(self.address)
        self._channel = open_channel(self.address, SECRET)
        self.deliveries = deliveries_pb2_grpc.DeliveryServiceStub(self._channel)
        self.presence = presence_pb2_grpc.PresenceServiceStub(self._channel)
        self.query = presence_pb2_grpc.PresenceQueryServiceStub(self._channel)
        self.users = users_pb2_grpc.UserServiceStub(self._channel)
        await self._begin(partitions)
        self._running = asyncio.create_task(self.workers.run())

    async def stop(self) -> None:
        """End at once, wherever the workers are."""
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        await self._channel.close()
        await self._server.drain(0)
        await self.workers.close()
        await self.store.close()

    async def _begin(self, partitions: Collection[int]) -> None:
        await begin(self.store, PARTITIONS, self.settings.name)
        await self.take(partitions)

    async def take(self, partitions: Collection[int]) -> None:
        """Claim partitions, whoever has them."""
        await take(self.store, partitions)
        self.workers.taken()

    async def new_term(self, partitions: Collection[int] = range(PARTITIONS)) -> None:
        """Lose ownership, wherever the workers are, and gain it again in the same process."""
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        await self._begin(partitions)
        self._running = asyncio.create_task(self.workers.run())

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def report(self, request: presence_pb2.ReportRequest | None = None) -> None:
        """Hand over what presence does not have yet, as a coordinator does; or what it did not have
        when `request` was made."""
        response = await self.presence.Report(request or self.log.request(), timeout=20)
        for cursor in response.cursors:
            self.log.cursors[cursor.partition] = cursor.pos

    async def explain(self, user: str, subject: str, seq: int = 0):
        request = presence_pb2.ExplainRequest(user=user, subject=subject, seq=seq)
        return await self.query.Explain(request, timeout=20)

    async def states(self, user: str, subject: str) -> list[str]:
        """The state of each message, in words."""
        story = await self.explain(user, subject)
        return [presence_pb2.Outcome.State.Name(outcome.state) for outcome in story.outcomes]

    async def _is_member(self, name: str, term: int) -> bool:
        return term in self.members

    async def _is_alive(self, edge_id: int) -> bool:
        return edge_id in self.live_edges


@asynccontextmanager
async def staged(tmp_path, *plugins: FakePlugin, **settings) -> AsyncIterator[Stage]:
    """A running stage with these plugins."""
    log = FakeLog()
    log_address = await log.start()
    addresses = [await plugin.start() for plugin in plugins]
    stage = Stage(quick(tmp_path, addresses, **settings), log, log_address)
    await stage.start()
    try:
        yield stage
    finally:
        await stage.stop()
        for plugin in plugins:
            await plugin.stop()
        await log.stop()
