"""A small asyncio client of etcd: keys, transactions, leases, and a watch that resumes.

Knows etcd's API (the messages and stubs of `aetcd.rpc`, nothing else of that package) and the
kernel's clock. Must not know which keys Onward keeps: that is `services.chassis.cluster`. Keys
and values are text.

Drive it: `etcd = Etcd("127.0.0.1:2379")`, await its calls, `await etcd.close()`. Every call has a
deadline and raises `Unavailable` when etcd does not answer in time or says no; a write whose call
raised may have happened. `follow(prefix)` never ends and never raises: it reconnects, resumes at
the revision after the last one seen, and lists again when that has been compacted, or when etcd
has gone back behind it, as after a restore.

    lease = await Lease.grant(etcd, ttl_s=5)
    task = asyncio.create_task(lease.keep())      # refreshes until lost or revoked
    … lease.valid() before anything that only the holder may do; lease.lost is an event
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from aetcd.rpc import rpc_pb2, rpc_pb2_grpc

from services.chassis import logs
from services.chassis.channel import open_channel
from services.chassis.errors import Unavailable

log = logs.get(__name__)

DEADLINE_S = 1.0
# A lease is not trusted for its last second: etcd's clock and ours may count it differently.
LEASE_MARGIN_S = 1.0
_RETRY_S = 0.2
_BACKOFF_MAX_S = 1.0


@dataclass(frozen=True, slots=True)
class KeyValue:
    """A key as etcd holds it."""

    key: str
    value: str
    create_revision: int
    mod_revision: int
    lease: int  # 0: none


@dataclass(frozen=True, slots=True)
class Compare:
    """A condition of a transaction: built by `absent`, `created_at`, `modified_at`, `holds`."""

    key: str
    create_revision: int | None = None
    mod_revision: int | None = None
    value: str | None = None


def absent(key: str) -> Compare:
    """The key does not exist."""
    return Compare(key, create_revision=0)


def created_at(key: str, revision: int) -> Compare:
    """The key exists since exactly that revision."""
    return Compare(key, create_revision=revision)


def modified_at(key: str, revision: int) -> Compare:
    """The key was last written at exactly that revision."""
    return Compare(key, mod_revision=revision)


def holds(key: str, value: str) -> Compare:
    """The key has exactly that value."""
    return Compare(key, value=value)


@dataclass(frozen=True, slots=True)
class Put:
    """Write a key."""

    key: str
    value: str
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a key; one that is not there is passed over."""

    key: str


@dataclass(frozen=True, slots=True)
class TxnOutcome:
    """What a transaction did. `revision` is that of its writes, if it wrote."""

    succeeded: bool
    revision: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All keys under a prefix at a revision. Replaces whatever was known before."""

    revision: int
    keys: Sequence[KeyValue]


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed since, in order: a key as written, or only the name of one removed."""

    revision: int
    events: Sequence[KeyValue | Delete]


class Etcd:
    """A client of the etcd at `endpoints`: `host:port`, or several parted by commas.

    Only the first endpoint is used as yet.
    """

    def __init__(self, endpoints: str, deadline_s: float = DEADLINE_S) -> None:
        self.address = endpoints.split(",")[0].strip()
        self.deadline_s = deadline_s
        self._channel = open_channel(self.address, secret=None)
        self._kv = rpc_pb2_grpc.KVStub(self._channel)
        self._lease = rpc_pb2_grpc.LeaseStub(self._channel)
        self._watch = rpc_pb2_grpc.WatchStub(self._channel)

    async def close(self) -> None:
        """End all calls under way."""
        await self._channel.close()

    async def get(self, key: str) -> KeyValue | None:
        """The key, or None if it does not exist."""
        response = await self._call(self._kv.Range, rpc_pb2.RangeRequest(key=key.encode()))
        return _key_value(response.kvs[0]) if response.kvs else None

    async def range(self, prefix: str) -> Snapshot:
        """All keys that start with `prefix`, in order of key."""
        request = rpc_pb2.RangeRequest(key=prefix.encode(), range_end=_range_end(prefix))
        response = await self._call(self._kv.Range, request)
        return Snapshot(response.header.revision, [_key_value(kv) for kv in response.kvs])

    async def put(self, key: str, value: str, lease: int = 0) -> int:
        """Write the key; returns the revision of the write."""
        request = rpc_pb2.PutRequest(key=key.encode(), value=value.encode(), lease=lease)
        response = await self._call(self._kv.Put, request)
        return int(response.header.revision)

    async def delete(self, key: str) -> None:
        """Remove the key, if it is there."""
        await self._call(self._kv.DeleteRange, rpc_pb2.DeleteRangeRequest(key=key.encode()))

    async def txn(
        self, when: Sequence[Compare], then: Sequence[Put | Delete], lease: int = 0
    ) -> TxnOutcome:
        """If all of `when` is so, do all of `then`; else nothing. At most 64 keys by our own rule.

        `lease` is for those puts that name none.
        """
        request = rpc_pb2.TxnRequest(
            compare=[_compare(one) for one in when],
            success=[_operation(one, lease) for one in then],
        )
        response = await self._call(self._kv.Txn, request)
        return TxnOutcome(response.succeeded, response.header.revision)

    async def lease_grant(self, ttl_s: int) -> int:
        """A new lease; returns its id, unique for ever and never 0."""
        response = await self._call(self._lease.LeaseGrant, rpc_pb2.LeaseGrantRequest(TTL=ttl_s))
        return int(response.ID)

    async def lease_revoke(self, lease: int) -> None:
        """End a lease: all its keys vanish together. One that is not there is passed over."""
        try:
            await self._call(self._lease.LeaseRevoke, rpc_pb2.LeaseRevokeRequest(ID=lease))
        except Unavailable as fault:
            if _status(fault) is not grpc.StatusCode.NOT_FOUND:
                raise

    async def lease_time_to_live(self, lease: int) -> int:
        """Seconds that a lease has left; -1 if it does not exist."""
        request = rpc_pb2.LeaseTimeToLiveRequest(ID=lease)
        response = await self._call(self._lease.LeaseTimeToLive, request)
        return int(response.TTL)

    async def lease_refresh(self, lease: int) -> bool:
        """Start a lease's time anew; False if it does not exist any more."""
        call = self._lease.LeaseKeepAlive(timeout=self.deadline_s)
        try:
            await call.write(rpc_pb2.LeaseKeepAliveRequest(ID=lease))
            response = await call.read()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            raise _unavailable(self.address, error) from error
        finally:
            call.cancel()
        if response is grpc.aio.EOF:
            raise Unavailable(f"etcd at {self.address} ended the call")
        return bool(response.TTL > 0)

    async def follow(self, prefix: str) -> AsyncGenerator[Snapshot | Changes, None]:
        """First a Snapshot of the prefix, then its Changes for ever; a Snapshot again if
        changes were missed for good. While etcd is away nothing comes."""
        revision: int | None = None
        backoff_s = 0.05
        while True:
            try:
                if revision is None:
                    snapshot = await self.range(prefix)
                    revision = snapshot.revision
                    yield snapshot
                async with aclosing(self._changes(prefix, revision + 1)) as stream:
                    async for changes in stream:
                        backoff_s = 0.05
                        revision = changes.revision
                        yield changes
            except _CompactedError:
                log.warning("etcd_watch_compacted", revision=revision)
                revision = None
            except _WentBackError:
                # A watch from a revision that is yet to come would wait for it in silence.
                log.error("etcd_went_back", revision=revision)
                revision = None
            except Unavailable:
                await asyncio.sleep(backoff_s)
                backoff_s = min(backoff_s * 2, _BACKOFF_MAX_S)

    async def _changes(self, prefix: str, revision: int) -> AsyncGenerator[Changes, None]:
        call = self._watch.Watch()
        create = rpc_pb2.WatchCreateRequest(
            key=prefix.encode(), range_end=_range_end(prefix), start_revision=revision
        )
        try:
            async with asyncio.timeout(self.deadline_s):
                await call.write(rpc_pb2.WatchRequest(create_request=create))
                response = await call.read()
            while response is not grpc.aio.EOF:
                if response.created and response.header.revision < revision - 1:
                    raise _WentBackError
                if response.compact_revision:
                    raise _CompactedError
                if response.canceled:
                    raise Unavailable(f"etcd at {self.address} cancelled a watch")
                if response.events:
                    # The header tells the store's revision, which may be ahead of the events.
                    seen = max(event.kv.mod_revision for event in response.events)
                    yield Changes(seen, [_event(event) for event in response.events])
                response = await call.read()
            raise Unavailable(f"etcd at {self.address} ended a watch")
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, TimeoutError) as error:
            raise _unavailable(self.address, error) from error
        finally:
            call.cancel()

    async def _call(self, method: Any, request: Any) -> Any:
        try:
            return await method(request, timeout=self.deadline_s)
        except grpc.aio.AioRpcError as error:
            raise _unavailable(self.address, error) from error


class Lease:
    """A lease that this process refreshes from its own event loop, so that a hung process loses
    what it holds.

    `valid_until` is on CLOCK_BOOTTIME, which goes on while the machine sleeps: the moment the last
    answered refresh was *sent*, plus the TTL, less a second. Nothing that only the holder may do
    happens later. `lost` is set when that moment passes or etcd says the lease is gone; a lost
    lease stays lost.
    """

    def __init__(self, etcd: Etcd, lease: int, ttl_s: int, sent_at: float) -> None:
        self.id = lease
        self.ttl_s = ttl_s
        self.lost = asyncio.Event()
        self.valid_until = sent_at + ttl_s - LEASE_MARGIN_S
        self._etcd = etcd

    @classmethod
    async def grant(cls, etcd: Etcd, ttl_s: int) -> "Lease":
        """A new lease of `ttl_s` seconds. Raises Unavailable."""
        sent_at = boottime()
        return cls(etcd, await etcd.lease_grant(ttl_s), ttl_s, sent_at)

    def valid(self) -> bool:
        """Whether this process may still act as the holder."""
        if boottime() < self.valid_until and not self.lost.is_set():
            return True
        self.lost.set()
        return False

    async def keep(self) -> None:
        """Refresh every third of the TTL; returns when the lease is lost."""
        pause_s = self.ttl_s / 3
        while self.valid():
            await self._pause(min(pause_s, self.valid_until - boottime()))
            if not self.valid():
                break
            sent_at = boottime()
            try:
                if not await self._etcd.lease_refresh(self.id):
                    break
                self.valid_until = sent_at + self.ttl_s - LEASE_MARGIN_S
                pause_s = self.ttl_s / 3
            except Unavailable:
                pause_s = _RETRY_S
        self.lost.set()

    async def revoke(self) -> None:
        """Give the lease back: all its keys vanish together. Raises Unavailable."""
        self.lost.set()
        await self._etcd.lease_revoke(self.id)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(max(seconds, 0)):
                await self.lost.wait()
        except TimeoutError:
            pass


def boottime() -> float:
    """Seconds of CLOCK_BOOTTIME: monotonic, and goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class _CompactedError(Exception):
    """The revision to resume at is no longer kept."""


class _WentBackError(Exception):
    """The store's revision is below one that it has told before: it is another, or restored."""


def _range_end(prefix: str) -> bytes:
    raw = prefix.encode()
    assert raw and raw[-1] < 0xFF, "a prefix ends in a byte that has a successor"
    return raw[:-1] + bytes([raw[-1] + 1])


def _key_value(kv: Any) -> KeyValue:
    return KeyValue(
        kv.key.decode(), kv.value.decode(), kv.create_revision, kv.mod_revision, kv.lease
    )


def _event(event: Any) -> KeyValue | Delete:
    if event.type == event.DELETE:
        return Delete(event.kv.key.decode())
    return _key_value(event.kv)


def _compare(one: Compare) -> Any:
    request = rpc_pb2.Compare(result=rpc_pb2.Compare.EQUAL, key=one.key.encode())
    if one.create_revision is not None:
        request.target = rpc_pb2.Compare.CREATE
        request.create_revision = one.create_revision
    elif one.mod_revision is not None:
        request.target = rpc_pb2.Compare.MOD
        request.mod_revision = one.mod_revision
    else:
        assert one.value is not None
        request.target = rpc_pb2.Compare.VALUE
        request.value = one.value.encode()
    return request


def _operation(one: Put | Delete, lease: int) -> Any:
    if isinstance(one, Delete):
        delete = rpc_pb2.DeleteRangeRequest(key=one.key.encode())
        return rpc_pb2.RequestOp(request_delete_range=delete)
    put = rpc_pb2.PutRequest(
        key=one.key.encode(), value=one.value.encode(), lease=one.lease or lease
    )
    return rpc_pb2.RequestOp(request_put=put)


def _unavailable(address: str, error: Exception) -> Unavailable:
    if isinstance(error, grpc.aio.AioRpcError):
        why = error.code().name
    else:
        why = type(error).__name__
    return Unavailable(f"etcd at {address} did not do as asked ({why})")


def _status(fault: Unavailable) -> grpc.StatusCode | None:
    cause = fault.__cause__
    return cause.code() if isinstance(cause, grpc.aio.AioRpcError) else None
